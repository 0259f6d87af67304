"""The committed golden key lists are what the published configurations make, and accept the files that are known to be good."""

from pathlib import Path

import pytest

from trialplate.checkpoints.diff import compare_keys
from trialplate.checkpoints.golden import find_golden, read_golden
from trialplate.checkpoints.keys import TensorInfo
from trialplate.checkpoints.manifest import read_manifest
from trialplate.models.expected_keys import expected_keys
from trialplate.models.resolve import resolve
from trialplate.models.spec import ModelSpec

GOLDEN = Path(__file__).parents[2] / "golden" / "keys"


def pythia_70m():
    from transformers import GPTNeoXConfig

    sizes = {"vocab_size": 50304, "hidden_size": 512, "intermediate_size": 2048, "max_position_embeddings": 2048}
    return GPTNeoXConfig(**sizes, num_hidden_layers=6, num_attention_heads=8, tie_word_embeddings=False)


def gpt2():
    from transformers import GPT2Config

    return GPT2Config()


@pytest.mark.parametrize(
    ("model", "config", "dtype", "n_parameters"),
    [
        ("pythia-70m", pythia_70m, "F16", 70_426_624),
        ("pythia-70m-deduped", pythia_70m, "F16", 70_426_624),
        ("gpt2", gpt2, "F32", 124_439_808),
    ],
)
def test_golden_keys_are_those_of_the_published_configuration(model, config, dtype, n_parameters):
    golden = find_golden(GOLDEN, model)
    assert golden.keys == expected_keys(config(), dtype)
    assert sum(info.numel for info in golden.keys.values()) == n_parameters
    assert not golden.has_content


def test_files_of_the_hub_with_buffers_and_either_head_are_accepted():
    golden = find_golden(GOLDEN, "pythia-70m").keys
    buffers = {
        f"gpt_neox.layers.{n}.attention.{name}": TensorInfo("F16", ())
        for n in range(6)
        for name in ("bias", "masked_bias", "rotary_emb.inv_freq")
    }
    renamed = {name.replace("embed_out", "lm_head"): info for name, info in golden.items()}
    assert compare_keys(golden, {**golden, **buffers}).is_same
    assert compare_keys(golden, {**renamed, **buffers}).is_same
    prefixed = {f"transformer.{name}": info for name, info in find_golden(GOLDEN, "gpt2").keys.items()}
    assert compare_keys(find_golden(GOLDEN, "gpt2").keys, prefixed).is_same


def test_embedded_model_is_pinned_by_content():
    golden = find_golden(GOLDEN, "embedded:neox-tiny")
    assert golden.has_content
    diff = compare_keys(golden.keys, read_manifest(resolve(ModelSpec("embedded:neox-tiny")).path, content=True))
    assert diff.is_same, diff.render()
    assert diff.n_compared_content == len(golden.keys)


def test_every_golden_list_is_readable_and_for_other_models():
    lists = [read_golden(path) for path in sorted(GOLDEN.glob("*.json"))]
    names = [name for golden in lists for name in golden.models]
    assert len(names) == len(set(names)) >= 4


def test_expected_keys_of_each_family_are_those_it_saves(make_folder, build_config):
    for family in ("gpt_neox", "llama", "opt", "asm"):
        expected = expected_keys(build_config(family))
        assert compare_keys(expected, read_manifest(make_folder(family))).is_same, family
        assert expected.keys() == read_manifest(make_folder(family)).keys(), family
