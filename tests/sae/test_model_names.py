"""Names of one model in the files of coders."""

import pytest

from trialplate.sae.model_names import same_model


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt2-small", "gpt2"),
        ("gpt2-small", "openai-community/gpt2"),
        ("mistral-7b", "mistralai/Mistral-7B-v0.1"),
        ("pythia-70m", "EleutherAI/pythia-70m"),
        ("neox-tiny", "embedded:neox-tiny"),
        ("pythia-70m", "/models/pythia-70m"),
    ],
)
def test_one_model_has_several_names(one, other):
    assert same_model(one, other)
    assert same_model(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("gpt2-small", "gpt2-medium"), ("pythia-70m", "pythia-70m-deduped"), ("embedded:neox-tiny", "embedded:asm-tiny")],
)
def test_different_models_stay_apart(one, other):
    assert not same_model(one, other)
