"""Ways to a green report that were tried by hand and must stay shut."""

import json

import pytest

POLICY = 'name = "p"\nmodels = ["*"]\n[[gate]]\nname = "a"\nmetric = "accuracy"\nmin = {bound}\n'
SUITE = "def test_x(record):\n    record('accuracy', 0.4, n=10)\n"


@pytest.fixture
def suite(pytester):
    pytester.makeini("[pytest]\ntrialplate_evals = ev\n")
    (pytester.path / "ev").mkdir()
    (pytester.path / "ev" / "test_a.py").write_text(SUITE)
    for name, bound in (("strict", 0.5), ("lax", 0.1)):
        (pytester.path / f"{name}.toml").write_text(POLICY.format(bound=bound))
    return pytester


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_from_the_root_says_that_nothing_was_judged(suite, workers):
    assert suite.runpytest_subprocess("--trialplate-policy=strict.toml", "ev").ret == 1
    done = suite.runpytest_subprocess("--trialplate-policy=strict.toml", ".", "-n", workers)
    done.stdout.fnmatch_lines(["*recorded, and neither reported nor judged; name the folder of evals*"])


def test_a_run_that_writes_goldens_cannot_pass(suite):
    done = suite.runpytest_inprocess("--trialplate-policy=lax.toml", "--trialplate-golden-update", "ev")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*golden values were written, not compared with*", "pass_all: no*"])


def test_a_run_is_not_resumed_under_another_policy(suite):
    assert suite.runpytest_inprocess("--trialplate-policy=strict.toml", "--trialplate-report=out", "ev").ret == 1
    before = (suite.path / "out" / "report.json").read_bytes()
    done = suite.runpytest_inprocess("--trialplate-policy=lax.toml", "--trialplate-resume=out", "ev")
    assert done.ret == 4
    done.stderr.fnmatch_lines(["*policy was*strict.toml*"])
    assert (suite.path / "out" / "report.json").read_bytes() == before


def test_a_refused_continuation_leaves_the_report_as_it_was(suite, monkeypatch):
    from trialplate.plugin import resume

    assert suite.runpytest_inprocess("--trialplate-policy=lax.toml", "--trialplate-report=out", "ev").ret == 0

    def other_weights(config, before):
        raise pytest.UsageError("m has other weights now")

    monkeypatch.setattr(resume, "done", other_weights)
    done = suite.runpytest_inprocess("--trialplate-policy=lax.toml", "--trialplate-resume=out", "ev")
    assert done.ret == 4
    assert json.loads((suite.path / "out" / "report.json").read_text())["pass_all"] is True
