"""Two processes measure, one judges: `-n 2` gives what `-n 0` gives, and the gates are cases of the controller."""

import xml.etree.ElementTree as ET

import pytest

SEEDED = """
import random
import numpy as np
import pytest

@pytest.mark.parametrize("k", [1, 5])
def test_a(record, rng, seed, k):
    value = (rng.random() + random.random() + np.random.random() + seed % 7 / 7) / 4
    record("accuracy", np.float32(0.5 + value / 2), n=np.int64(100), k=np.int64(k), stderr=np.float64(value))
    record.uses("corpus", "00", 7, seed=k)

@pytest.mark.parametrize("k", range(5))
def test_b(record, k):
    record("loss", random.random(), n=10, k=k, samples=[{"item": i, "value": random.random()} for i in range(3)])

@pytest.mark.requires_data("nowhere.txt")
def test_c(record):
    record("perplexity", 1, n=1)
"""


def gate_cases(folder):
    cases = ET.parse(folder / "junit.xml").iter("testcase")
    return sorted((c.get("name"), [child.tag for child in c]) for c in cases if "gate" in c.get("name"))


@pytest.mark.parametrize("bound", [4, 0.001], ids=["green", "red"])
def test_two_workers_measure_and_judge_what_one_process_does(suite, results, bound):
    suite.standard().write("evals/test_probe.py", SEEDED)
    policy = suite.path / "policies/p.toml"
    policy.write_text(policy.read_text().replace("max = 4", f"max = {bound}"))
    seen = []
    for n in (0, 2):
        done = suite.run("evals", "-n", n, f"--junitxml={n}/junit.xml")
        lines = [line for line in done.outlines if line.startswith(("  - ", "pass_all", "PASS ", "FAIL "))]
        samples = (suite.latest / "samples.parquet").read_bytes()
        seen.append(
            (
                int(done.ret),
                lines,
                gate_cases(suite.path / str(n)),
                results(suite.report()),
                samples,
                done.parseoutcomes(),
            )
        )
    alone, together = seen
    assert alone[:5] == together[:5]
    assert alone[5]["passed"] == together[5]["passed"]
    assert alone[0] == int(bound != 4)
    assert len(alone[3][1]) == 7
    assert [name for name, _ in alone[2]] == ["test_gate[-acc]", "test_gate[-loss]"]
    assert suite.report().run.workers == 2


def test_nothing_measured_runs_no_gate_and_keeps_exit_5(suite):
    suite.standard()
    for n in (0, 1):
        assert suite.run("evals", "-n", n, "-k", "nothing").ret == 5
        report = suite.report()
        assert [c for c in report.cases if c.gate] == []
        assert report.gates == []
        assert not report.pass_all


def test_a_gate_of_a_subject_without_a_policy_is_a_case_of_the_controller(suite):
    suite.standard().write(
        "conftest.py", "def trialplate_load_model(name, revision, device, dtype):\n    return None\n"
    )
    suite.write("evals/test_probe.py", "def test_a(subject, record):\n    record('accuracy', 1, n=1)\n")
    suite.write(
        "policies/p.toml", "name = 'p'\nmodels = ['x']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\n"
    )
    done = suite.run("evals", "-n", 1, "--trialplate-model=y", "--trialplate-device=cpu")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["ERROR evals/test_gates.py::test_gate[[]y|cpu|float32-no policy[]] - no policy *"])
    gate = next(c for c in suite.report().cases if c.gate)
    assert gate.outcome == "error"
    assert (
        gate.reason
        == "no policy judges y|cpu|float32; add its name to `models` of a policy, give --policy FILE, or measure only with --no-judge"
    )


def test_a_worker_that_dies_loses_its_case_and_no_other(suite):
    suite.standard()
    suite.write(
        "evals/test_probe.py",
        SEEDED + "\ndef test_dies(record):\n    import os\n    record('loss', 1, n=1)\n    os._exit(3)\n",
    )
    assert suite.run("evals", "-n", 1).ret == 1
    report = suite.report()
    bad = [c for c in report.cases if c.outcome != "passed"]
    assert [(c.id, c.outcome) for c in bad] == [("test_probe.py::test_dies", "crashed")]
    assert "crashed while running" in bad[0].reason
    assert len(report.measurements) == 7
    assert {v.status for v in report.gates} == {"PASS"}
    assert [d.partition(" died")[0] for d in report.degraded] == ["worker gw0"]
    assert report.reasons == [f"case test_probe.py::test_dies: crashed: {bad[0].reason}"]


def test_all_workers_dead_is_red_and_keeps_what_was_measured(suite):
    suite.standard()
    dying = "\n@pytest.mark.parametrize('i', range(4))\ndef test_dies(i):\n    import os\n    os._exit(3)\n"
    suite.write("evals/test_probe.py", SEEDED + dying)
    assert suite.run("evals", "-n", 1, "--max-worker-restart=0").ret != 0
    report = suite.report()
    assert not report.pass_all
    assert {"crashed", "not run"} <= {c.outcome for c in report.cases}
    assert all(m.case.startswith("test_probe.py::test_") for m in report.measurements)


def test_workers_that_die_before_they_collect_are_red(suite):
    suite.standard().write("conftest.py", "import os\nif 'PYTEST_XDIST_WORKER' in os.environ:\n    os._exit(3)\n")
    assert suite.run("evals", "-n", 1, "--max-worker-restart=0").ret != 0
    assert "nothing was measured" in suite.report().reasons


def test_a_usage_error_in_a_worker_is_red_with_its_reason(suite):
    suite.standard().write(
        "evals/test_probe.py",
        "import pytest\n@pytest.mark.requires_tokens('no_such_thing')\ndef test_a(record):\n    pass\n",
    )
    for n in (0, 1):
        assert suite.run("evals", "-n", n).ret == 4
        (error,) = suite.report().errors
        assert error.startswith(
            "usage error: evals/test_probe.py::test_a: marked requires_tokens, and it uses no model"
        )


def test_exitfirst_stops_both_and_emits_no_gate(suite):
    suite.standard()
    suite.write(
        "evals/test_probe.py", SEEDED + "\n@pytest.mark.parametrize('i', range(20))\ndef test_f(i):\n    assert i < 0\n"
    )
    assert suite.run("evals", "-n", 2, "-x").ret == 2
    report = suite.report()
    assert report.run.state == "interrupted"
    assert [c for c in report.cases if c.gate] == []
    assert "error: interrupted: stopping after 1 failures" in report.reasons


def test_a_mark_alone_makes_no_gate(suite):
    """A case marked `gate` that does not ask for a verdict is a case like any other, and runs in a worker."""
    suite.standard().write(
        "evals/test_gates.py", "import pytest\n@pytest.mark.gate\ndef test_own(record):\n    record('loss', 1, n=1)\n"
    )
    suite.write("policies/p.toml", "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'loss'\nmetric = 'loss'\nmax = 4\n")
    seen = []
    for n in (0, 1):
        assert suite.run("evals", "-n", n).ret == 0
        seen.append([c.id for c in suite.report().cases])
    assert seen[0] == seen[1]
    assert "test_gates.py::test_own" in seen[0]
