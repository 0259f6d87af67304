"""--sae: coders are found before any case runs; cases that need some, or need to be without, are not collected, and the report says why."""

import pytest
import torch

import trialplate.plugin.coders
from trialplate.models.pool import ModelPool  # noqa: F401  (the inner runs import it late)
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.formats import saelens

CASES = """
import pytest

@pytest.mark.requires_sae(1)
def test_given(record):
    record("loss", 1, n=1)

@pytest.mark.requires_sae(3)
def test_three(record):
    record("loss", 1, n=1)

@pytest.mark.requires_sae(0)
def test_own(record):
    record("loss", 1, n=1)
"""


def coder(**more):
    return initialise(Coder(CoderConfig("topk", 8, 16, k=2, **more)), torch.Generator().manual_seed(0))


@pytest.fixture
def folder(suite):
    suite.write("evals/test_coders.py", CASES)
    saelens.write(coder(), suite.path / "coder")
    return suite.path / "coder"


def left_out(suite):
    return {n.case.partition("::")[2]: n.reason for n in suite.report().not_collected}


def test_without_a_coder_only_cases_with_their_own_run(suite, folder):
    suite.run("evals").assert_outcomes(passed=1)
    wanted = {"test_given": "needs 1 of --sae, which names 0", "test_three": "needs 3 of --sae, which names 0"}
    assert left_out(suite) == wanted


def test_with_a_coder_only_that_one_is_judged(suite, folder):
    suite.run("evals", f"--trialplate-sae={folder}").assert_outcomes(passed=1)
    assert left_out(suite) == {
        "test_three": "needs 3 of --sae, which names 1",
        "test_own": "only the coders of --sae are judged in this run",
    }
    assert [c.id for c in suite.report().cases if c.outcome == "passed"] == ["test_coders.py::test_given"]


def test_a_place_without_a_coder_stops_the_run_before_any_case(suite, folder):
    result = suite.run("evals", "--trialplate-sae=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--sae *nowhere*"])


def test_a_coder_named_twice_is_a_usage_error(suite, folder):
    result = suite.run("evals", f"--trialplate-sae={folder}", f"--trialplate-sae={folder}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--sae *coder: named twice*"])


def test_a_coder_named_twice_in_two_ways_is_one_coder(suite, folder):
    (suite.path / "link").symlink_to(folder)
    result = suite.run("evals", f"--trialplate-sae={folder}", "--trialplate-sae=link")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--sae *link: named twice*"])


def test_two_coders_of_one_label_are_refused_before_any_case(suite):
    for release in ("first", "second"):
        saelens.write(coder(), suite.path / release / "width_16" / "coder")
    places = [f"--trialplate-sae={release}/width_16/coder" for release in ("first", "second")]
    result = suite.run("evals", *places)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*would both be called width_16/coder*"])


def test_files_of_one_name_in_different_folders_have_labels_of_their_own(tmp_path):
    places = [tmp_path / f"layer_{layer}" / "trainer_0" / "ae.pt" for layer in (3, 4)]
    for place in places:
        place.parent.mkdir(parents=True)
        place.touch()
    labels = [trialplate.plugin.coders.label(place) for place in places]
    assert labels == ["layer_3/trainer_0/ae.pt", "layer_4/trainer_0/ae.pt"]


def test_a_coder_of_a_model_that_the_run_does_not_have_stops_it_before_any_case(suite):
    saelens.write(coder(site_in="L0.resid_post", site_out="L0.resid_post", model="gpt2"), suite.path / "other")
    result = suite.run("evals", "--trialplate-sae=other", "--trialplate-model=embedded:neox-tiny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*other was made for the model gpt2, and this run has embedded:neox-tiny*"])


class Named:
    """A model, as far as a coder asks."""

    device = "cpu"

    def __init__(self, name):
        self.spec = type("Spec", (), {"name": name})


def test_a_coder_of_another_model_is_refused_with_its_model(tmp_path):
    saelens.write(coder(site_in="L0.resid_post", site_out="L0.resid_post", model="gpt2"), tmp_path / "coder")
    with pytest.raises(CoderError, match="made for the model gpt2, and this is embedded:neox-tiny; give --model gpt2"):
        trialplate.plugin.coders.load(tmp_path / "coder", Named("embedded:neox-tiny"))
    assert trialplate.plugin.coders.load(tmp_path / "coder", Named("openai-community/gpt2")).config.d_sae == 16
    saelens.write(
        coder(site_in="L0.resid_post", site_out="L0.resid_post", model="embedded:neox-tiny"), tmp_path / "own"
    )
    assert trialplate.plugin.coders.load(tmp_path / "own", Named("embedded:neox-tiny")).config.d_sae == 16
