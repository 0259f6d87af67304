"""What an eval asks for, with a real model of one layer; everything works without a report too."""

import pytest

CASES = """
import numpy as np
import pytest

def test_all(model, scorer, tokenizer, source, subject, control, control_scorer, record, rng, seed, limit, data_dir, golden_dir, golden_file,
             golden_update, progress):
    assert model.label == subject.label == f"./{source.path}"
    assert tokenizer.digest == model.tokenizer.digest
    assert control.weights_digest != model.weights_digest
    assert control.module.config.hidden_size == model.module.config.hidden_size
    (score,) = scorer.loglikelihood([("a", " b")])
    assert score.logprob < 0
    assert control_scorer.loglikelihood([("a", " b")])[0].logprob != score.logprob
    assert limit(100) == 100
    assert (data_dir.name, golden_dir.name, golden_update) == ("data", "golden", False)
    assert golden_file("keys").parent.name == "keys"
    record("loss", -score.logprob, n=1)

def test_again(model, record):
    record("accuracy", 1, n=1)
"""


@pytest.fixture
def tiny(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", CASES)
    suite.write(
        "policies/p.toml", "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\n"
    )
    (suite.path / "tiny").mkdir()
    tiny_model(suite.path / "tiny")
    return suite, ("--trialplate-model=./tiny", "--trialplate-device=cpu")


def test_everything_an_eval_asks_for(tiny):
    suite, args = tiny
    result = suite.run("evals", *args)
    assert result.ret == 0, result.stdout.str()
    (subject,) = suite.report().subjects
    assert (subject.key, subject.source, subject.n_parameters > 0) == ("./tiny|cpu|float32", "folder", True)
    assert len(subject.weights_digest) == 64


def test_without_a_report_everything_works_too(tiny):
    suite, args = tiny
    suite.run(".", *args).assert_outcomes(passed=2, errors=1)


def test_a_resumed_run_refuses_other_weights(tiny, tiny_model):
    suite, args = tiny
    suite.write("evals/test_more.py", "import os\ndef test_m(model, record):\n    assert os.path.exists('mended')\n")
    assert suite.run("evals", *args).ret == 1
    before = suite.report()
    tiny_model(suite.path / "tiny", seed=1)
    result = suite.run("evals", *args, "--trialplate-resume=reports/latest")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--resume: ./tiny has other weights now (*) than when it was measured (*); start a new run*"]
    )
    assert suite.report().measurements == before.measurements
    tiny_model(suite.path / "tiny")
    suite.write("mended", "")
    assert suite.run("evals", *args, "--trialplate-resume=reports/latest").ret == 0


def test_two_dtypes_are_two_subjects(tiny):
    suite, args = tiny
    suite.write("evals/test_probe.py", "def test_a(model, record):\n    record('accuracy', 1, n=1)\n")
    assert suite.run("evals", *args, "--trialplate-dtype=float32", "--trialplate-dtype=bfloat16").ret == 0
    report = suite.report()
    assert [s.dtype for s in report.subjects] == ["bfloat16", "float32"]
    assert len({s.weights_digest for s in report.subjects}) == 1


def test_cases_are_grouped_by_model_and_each_is_loaded_once(tiny, tiny_model):
    suite, args = tiny
    (suite.path / "other").mkdir()
    tiny_model(suite.path / "other", seed=1)
    suite.write(
        "evals/test_probe.py",
        "import pytest\n@pytest.mark.parametrize('k', range(3))\ndef test_a(model, record, k):\n    record('accuracy', 1, n=1, k=k)\n",
    )
    suite.write("evals/test_more.py", "def test_m(model, record):\n    pass\n")
    suite.write(
        "conftest.py",
        "import trialplate.models.load as loading\nfrom pathlib import Path\nreal = loading.load\n"
        "def load(spec, **more):\n    Path('loads').open('a').write(spec.label + '\\n')\n    return real(spec, **more)\n"
        "def pytest_configure():\n    loading.load = load\ndef pytest_unconfigure():\n    loading.load = real\n",
    )
    result = suite.run("evals", *args, "--trialplate-model=./other", "-v", "-k", "test_a or test_m")
    order = [line.partition("|")[0].rpartition("/")[2] for line in result.outlines if "PASSED" in line]
    assert order == ["tiny"] * 4 + ["other"] * 4
    assert (suite.path / "loads").read_text() == "./tiny\n./other\n"


def test_a_response_cache_is_kept_between_runs(tiny):
    suite, args = tiny
    for _ in range(2):
        assert suite.run("evals", *args, "--trialplate-cache=answers.sqlite").ret == 0
    assert (suite.path / "answers.sqlite").is_file()
