"""Names: what a spec is called, and what a short name means."""

import pytest

from trialplate.models.catalog import (
    CATALOG,
    EMBEDDED,
    PYTHIA_SIZES,
    PYTHIA_STEPS,
    canonical_name,
    catalog_entry,
    nearest_names,
    unknown_step,
)
from trialplate.models.spec import ModelSpec


def test_label_and_key():
    assert ModelSpec("pythia-70m").label == "pythia-70m"
    spec = ModelSpec("pythia-70m", "step1000", "/some/where/my-lora", "float16", "cuda:1")
    assert spec.label == "pythia-70m@step1000+my-lora"
    assert spec.key == "pythia-70m@step1000+my-lora|cuda:1|float16"
    assert spec.with_device("cpu").key.endswith("|cpu|float16")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": ""}, "the name of a model is empty"),
        ({"name": "m", "revision": " "}, "the revision"),
        ({"name": "m", "adapter": ""}, "the adapter"),
        ({"name": "m", "dtype": "float8"}, "wanted one of float32, float16, bfloat16"),
    ],
)
def test_empty_and_unknown_parts_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        ModelSpec(**arguments)


def test_a_short_name_is_exactly_the_model_it_names():
    for size in PYTHIA_SIZES:
        assert CATALOG[f"pythia-{size}"].hub_id == f"EleutherAI/pythia-{size}"
        assert CATALOG[f"pythia-{size}-deduped"].hub_id == f"EleutherAI/pythia-{size}-deduped"
    assert {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "opt-125m", "gpt-neo-125m"} <= CATALOG.keys()
    assert len({entry.hub_id for entry in CATALOG.values()}) == len(CATALOG)


def test_hub_id_and_short_name_are_one_model():
    assert canonical_name("EleutherAI/pythia-70m") == "pythia-70m"
    assert canonical_name("someone/else") == "someone/else"
    assert catalog_entry("EleutherAI/pythia-70m") is CATALOG["pythia-70m"]
    assert catalog_entry("someone/else") is None


def test_pythia_has_154_checkpoints():
    assert len(PYTHIA_STEPS) == 154
    assert (PYTHIA_STEPS[:3], PYTHIA_STEPS[10:13], PYTHIA_STEPS[-1]) == ((0, 1, 2), (512, 1000, 2000), 143_000)


@pytest.mark.parametrize("revision", ["step0", "step512", "step143000", "main", "a" * 40, "stepwise"])
def test_known_steps_and_other_revisions_pass(revision):
    assert unknown_step(CATALOG["pythia-70m"], revision) is None


def test_unknown_step_names_its_neighbours():
    assert "nearest are step1000 and step2000" in unknown_step(CATALOG["pythia-70m"], "step1500")
    assert unknown_step(CATALOG["gpt2"], "step1500") is None


def test_nearest_names():
    assert nearest_names("pythia-70")[0] == "pythia-70m"
    assert "gpt2" in nearest_names("GPT-2")
    assert "embedded:neox-tiny" in nearest_names("embedded:neox_tiny")
    assert EMBEDDED == ("embedded:neox-tiny", "embedded:asm-tiny", "embedded:neox-random", "embedded:asm-random")
