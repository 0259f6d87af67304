"""`-m gpu` is a complete evaluation of a subject on its GPU, rehearsed where there is none by a device that another one plays."""

import pytest

CASES = """
import pytest

def test_keys(subject, record):
    record("missing_keys", 0, n=10)

def test_a(subject, record):
    record("accuracy", 0.9, n=100)

def test_without_model(record):
    record("loss", 1, n=1)
"""
POLICY = """
name = "p"
models = ["?*"]
[[gate]]
name = "keys"
metric = "missing_keys"
max = 0
[[gate]]
name = "acc"
metric = "accuracy"
min = 0.5
"""
PLAYED = """
def trialplate_devices():
    return {"cpu": "cpu", "cuda": "cpu"}

def trialplate_load_model(name, revision, device, dtype):
    return None
"""


@pytest.fixture
def rehearsal(suite):
    suite.standard().write("evals/test_probe.py", CASES)
    suite.write("policies/p.toml", POLICY)
    suite.write("conftest.py", PLAYED)
    return suite


def test_minus_m_gpu_measures_everything_of_the_subject_on_its_gpu(rehearsal):
    """The GPU is played by the CPU: the one reason why this does not pass."""
    assert rehearsal.run("evals", "-m", "gpu", "--trialplate-model=m").ret == 1
    report = rehearsal.report()
    assert report.reasons == ["error: device cuda is played by cpu"]
    assert report.run.subjects == ["m|cuda|float32"]
    assert [c.id for c in report.cases] == [
        "test_probe.py::test_a[m|cuda|float32]", "test_probe.py::test_keys[m|cuda|float32]",
        "test_gates.py::test_gate[m|cuda|float32-acc]", "test_gates.py::test_gate[m|cuda|float32-keys]",
    ]  # fmt: skip
    assert {(v.gate, v.subject): v.status for v in report.gates} == {
        ("acc", "m|cuda|float32"): "PASS", ("keys", "m|cuda|float32"): "PASS",
    }  # fmt: skip


def test_every_device_present_is_a_subject(rehearsal):
    rehearsal.run("evals", "--trialplate-model=m")
    assert rehearsal.report().run.subjects == ["m|cpu|float32", "m|cuda|float32"]


def test_a_device_that_plays_another_is_no_reason_where_it_takes_no_part(rehearsal):
    assert rehearsal.run("evals", "--trialplate-model=m", "--trialplate-device=cpu", "-k", "not without_model").ret == 0
    assert rehearsal.report().pass_all


def test_the_marks_come_with_the_device(rehearsal):
    result = rehearsal.run("evals", "-m", "not gpu", "--trialplate-model=m", "--collect-only", "-q")
    assert all("cuda" not in line for line in result.outlines)
    assert any("cpu" in line for line in result.outlines)


def test_one_process_a_gpu(rehearsal):
    result = rehearsal.run("evals", "-m", "gpu", "--trialplate-model=m", "-n", "2")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*-n 2 with a GPU: one process a GPU; leave -n out, or give --device cpu*"])


def test_a_device_that_is_absent_is_a_usage_error_that_names_those_present(rehearsal):
    result = rehearsal.run("evals", "--trialplate-model=m", "--trialplate-device=mps")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--device mps: not present; this machine has cpu, cuda*"])
