"""Hooks of a suite of one's own: models, metrics, devices, and wherever a report should go too."""

import pytest

MODEL = """
def test_a(model, record):
    assert model.label == "mine@r1"
    assert model.spec.key == "mine@r1|cpu|float32"
    record("accuracy", 0.9, n=model.d_model)
"""
LOADER = """
from pathlib import Path

def trialplate_load_model(name, revision, device, dtype):
    Path("asked").open("a").write(f"{name} {revision} {device} {dtype}\\n")
    if name != "mine":
        return None
    from tokenizers import Tokenizer
    from transformers import GPTNeoXForCausalLM
    module = GPTNeoXForCausalLM.from_pretrained("tiny")
    return module, Tokenizer.from_file("tiny/tokenizer.json")
"""
FOR_ALL = "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\n"


@pytest.fixture
def own(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", MODEL)
    suite.write("policies/p.toml", FOR_ALL)
    suite.write("conftest.py", LOADER)
    (suite.path / "tiny").mkdir()
    tiny_model(suite.path / "tiny")
    return suite


def test_a_model_of_ones_own_is_loaded_once_and_described(own):
    own.write(
        "evals/test_more.py",
        "def test_m(model, scorer, control, control_scorer, record):\n    assert control.label != model.label\n    record('loss', 1, n=1)\n",
    )
    assert own.run("evals", "--trialplate-model=mine", "--trialplate-revision=r1", "--trialplate-device=cpu").ret == 0
    assert (own.path / "asked").read_text() == "mine r1 cpu float32\n"
    (subject,) = own.report().subjects
    assert (subject.key, subject.source, subject.architecture) == (
        "mine@r1|cpu|float32",
        "memory",
        "GPTNeoXForCausalLM",
    )
    assert len(subject.weights_digest) == len(subject.tokenizer_digest) == 64


def test_a_name_that_nobody_knows_is_an_error_of_its_cases(own):
    assert own.run("evals", "--trialplate-model=theirs", "--trialplate-device=cpu").ret == 1
    case = next(c for c in own.report().cases if not c.gate)
    assert case.outcome == "error"
    assert "no model 'theirs'" in case.reason


METRICS = """
def trialplate_metrics():
    return {"height": ("m", "higher", 0, 3, "how tall")}
"""


def test_metrics_of_ones_own_can_be_recorded_and_gated(suite):
    suite.standard().write("conftest.py", METRICS)
    suite.write("evals/test_probe.py", "def test_a(record):\n    record('height', 2, n=1)\n")
    suite.write("policies/p.toml", FOR_ALL.replace("accuracy", "height"))
    for n in (0, 1):
        assert suite.run("evals", "-n", n).ret == 0
        (m,) = suite.report().measurements
        assert (m.unit, m.direction, m.range) == ("m", "higher", (0.0, 3.0))
    suite.write("policies/p.toml", FOR_ALL.replace("accuracy", "height").replace("0.5", "4"))
    result = suite.run()
    assert result.ret == 4
    assert "min 4 can never be reached: height lies in [0, 3]" in result.stderr.str()


@pytest.mark.parametrize(
    ("conftest", "said"),
    [
        ("def trialplate_load_modle(name):\n    pass\n", "conftest.py: trialplate_load_modle is no hook of trialplate; did you mean trialplate_load_model?"),
        ("def trialplate_zzz():\n    pass\n", "trialplate_zzz is no hook of trialplate; hooks are trialplate_devices, trialplate_load_model, "),
        ("def trialplate_load_model(nme):\n    pass\n", "hook 'trialplate_load_model'"),
        ("def trialplate_metrics():\n    return {'x': ('m', 'up', 0, 1, '')}\n", "trialplate_metrics: 'x': wanted (unit, 'higher' | 'lower' | 'none', low, high, text)"),
    ],
    ids=["misspelt", "unknown", "argument", "direction"],
)  # fmt: skip
def test_a_hook_that_would_never_work_is_a_usage_error(suite, conftest, said):
    suite.standard().write("conftest.py", conftest)
    result = suite.run()
    assert result.ret == 4
    assert said in result.stderr.str()
    assert said in suite.report().errors[0]


def test_fixtures_and_plain_functions_of_any_name_are_nobody_s_hooks(suite):
    suite.standard().write(
        "conftest.py",
        "import pytest\n@pytest.fixture\ndef trialplate_own():\n    pass\ndef helper():\n    pass\ntrialplate_number = 3\n",
    )
    assert suite.run().ret == 0


def test_two_conftests_of_one_name_both_count(suite):
    suite.standard().write("evals/deep/conftest.py", METRICS)
    suite.write("evals/deep/test_d.py", "def test_d(record):\n    record('height', 2, n=1)\n")
    suite.write("evals/conftest.py", METRICS.replace("height", "width"))
    suite.write("evals/test_w.py", "def test_w(record):\n    record('width', 2, n=1)\n")
    assert suite.run().ret == 0
    assert {m.metric for m in suite.report().measurements} == {"accuracy", "loss", "height", "width"}


SINK = """
from pathlib import Path

def trialplate_write_report(report, folder):
    Path("sink").write_text(f"{report.pass_all} {(folder / 'report.json').is_file()} {report.run.exit_status}")
"""


def test_a_report_is_handed_on_once_it_is_on_the_disk(suite):
    suite.standard().write("conftest.py", SINK)
    assert suite.run().ret == 0
    assert (suite.path / "sink").read_text() == "True True 0"


def test_a_writer_of_ones_own_that_breaks_costs_no_report_and_is_loud(suite):
    suite.standard().write("conftest.py", SINK.replace('Path("sink")', "None"))
    result = suite.run_alone("evals", "--junitxml=junit.xml")
    assert result.ret == 1
    assert (
        "AttributeError: 'NoneType' object has no attribute 'write_text'" in result.stderr.str() + result.stdout.str()
    )
    assert suite.report().pass_all
    assert (suite.path / "junit.xml").is_file()
    result.stdout.fnmatch_lines(["pass_all: yes*"])
