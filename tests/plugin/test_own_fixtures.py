"""A suite that has fixtures of our names has them for itself."""

import pytest

OWN = """
import pytest

@pytest.fixture
def model():
    return "own model"

@pytest.fixture
def record(request):
    return "own record"

@pytest.fixture(params=[1, 2])
def seed(request):
    return request.param

def test_model(model, seed):
    assert model == "own model"
    assert seed in (1, 2)

def test_record(record):
    assert record == "own record"
"""
PARAMETRIZED = """
import pytest

@pytest.mark.parametrize("model", ["a", "b"])
def test_by_mark(model):
    assert model in "ab"
"""
GENERATED = """
def pytest_generate_tests(metafunc):
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", ["x", "y"])
"""


@pytest.mark.parametrize("folder", ["tests", "evals"])
def test_a_model_and_a_record_of_ones_own_are_left_alone(suite, folder):
    suite.write(f"{folder}/test_own.py", OWN)
    result = suite.run(folder)
    result.assert_outcomes(passed=3)
    if folder == "evals":
        assert suite.report().reasons == ["nothing was measured"]


@pytest.mark.parametrize("conftest", ["", GENERATED], ids=["by mark", "by hook"])
def test_a_model_that_the_suite_parametrizes_is_left_alone(suite, conftest):
    suite.write("tests/conftest.py", conftest)
    suite.write(
        "tests/test_own.py", PARAMETRIZED if not conftest else "def test_by_hook(model):\n    assert model in 'xy'\n"
    )
    result = suite.run("tests", "-v")
    result.assert_outcomes(passed=2)
    names = [line.split()[0].partition("::")[2] for line in result.outlines if "PASSED" in line]
    assert names in (["test_by_mark[a]", "test_by_mark[b]"], ["test_by_hook[x]", "test_by_hook[y]"])


def test_our_record_with_a_model_of_ones_own_measures_without_a_subject(suite):
    suite.standard().write(
        "evals/test_probe.py",
        "import pytest\n@pytest.fixture\ndef model():\n    return 3\ndef test_m(model, record):\n    record('loss', model, n=1)\n",
    )
    suite.run()
    (measurement,) = suite.report().measurements
    assert (measurement.subject, measurement.value) == ("", 3.0)


def test_a_case_that_needs_our_model_and_has_none_says_how_to_give_one(suite):
    suite.standard().write("evals/test_probe.py", "def test_m(model, record):\n    pass\n")
    result = suite.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*test_m[[]no model[]]: this case needs a model: give --trialplate-model NAME, or set trialplate_models in*"]
    )
    result = suite.run(".")  # without a report
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*this case needs a model: give --trialplate-model NAME*"])
