"""PEFT adapters: exact arithmetic where they fit, an error wherever the base model would run under their name."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from trialplate.models.adapters import adapter_digest, base_state, without_adapter
from trialplate.models.errors import AdapterError
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def lora(tmp_path_factory, make_folder):
    """A LoRA adapter with random weights for the tiny GPT-NeoX."""
    from peft import LoraConfig, get_peft_model

    model = load(ModelSpec(str(make_folder("gpt_neox"))))
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["query_key_value", "dense_h_to_4h"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        peft_model = get_peft_model(model.module, config)
    folder = tmp_path_factory.mktemp("adapters") / "my-lora"
    peft_model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def damaged(lora, tmp_path):
    return shutil.copytree(lora, tmp_path / "damaged")


def with_adapter(folder, adapter, **fields):
    return load(ModelSpec(str(folder), adapter=str(adapter), **fields))


def change_settings(folder, **fields):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def change_tensors(folder, change):
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


IDS = torch.arange(1, 12).unsqueeze(0)


def test_adapter_changes_logits_as_its_matrices_say(make_folder, lora):
    folder = make_folder("gpt_neox")
    base, adapted = load(ModelSpec(str(folder))), with_adapter(folder, lora)
    tensors = load_file(lora / "adapter_model.safetensors")
    state = base.module.state_dict()
    for name in [name for name in tensors if ".lora_A." in name]:
        place = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        state[f"{place}.weight"].add_(
            8 / 4 * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
        )  # W + alpha/r B A
    torch.testing.assert_close(adapted.logits(IDS), base.logits(IDS), rtol=0, atol=1e-5)
    assert (adapted.adapter.kind, adapted.adapter.n_modules) == ("LORA", 4)
    # sum of r (d_in + d_out) over two layers of (32 -> 96) and (32 -> 64)
    assert adapted.adapter.n_parameters == 2 * (4 * (32 + 96) + 4 * (32 + 64))


def test_layers_that_a_model_passes_by_are_noticed(make_folder, lora, monkeypatch):
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP

    def by_weight(self, x):
        wide = torch.nn.functional.linear(x, self.dense_h_to_4h.weight, self.dense_h_to_4h.bias)
        return self.dense_4h_to_h(self.act(wide))

    monkeypatch.setattr(GPTNeoXMLP, "forward", by_weight)
    with pytest.raises(
        AdapterError,
        match=r"2 of 4 layers .* are passed by in a forward pass, first 'gpt_neox\.layers\.0\.mlp\.dense_h_to_4h'",
    ):
        with_adapter(make_folder("gpt_neox"), lora)


def test_disabled_adapter_is_exactly_the_base(make_folder, lora):
    folder = make_folder("gpt_neox")
    base, adapted = load(ModelSpec(str(folder))), with_adapter(folder, lora)
    assert not torch.equal(adapted.logits(IDS), base.logits(IDS))
    with without_adapter(adapted.module):
        assert torch.equal(adapted.logits(IDS), base.logits(IDS))
    assert not torch.equal(adapted.logits(IDS), base.logits(IDS))
    assert not any(p.requires_grad for p in adapted.module.parameters())
    with pytest.raises(AdapterError, match="no adapter to disable"), without_adapter(base.module):
        pass


def test_identity_includes_the_adapter(make_folder, lora, damaged):
    folder = make_folder("gpt_neox")
    base, adapted = load(ModelSpec(str(folder))), with_adapter(folder, lora)
    assert adapted.label.endswith("+my-lora")
    assert adapted.identity()["adapter_digest"] == adapter_digest(lora)
    assert base.identity()["adapter_digest"] is None
    assert adapted.weights_digest != base.weights_digest
    change_settings(damaged, lora_alpha=16)
    assert with_adapter(folder, damaged).weights_digest != adapted.weights_digest
    assert base_state(adapted.module).keys() == base.module.state_dict().keys()


def test_adapter_digest_ignores_where_it_came_from(lora, damaged):
    targets = json.loads((lora / "adapter_config.json").read_text())["target_modules"]
    change_settings(damaged, base_model_name_or_path="/elsewhere", target_modules=targets[::-1])
    assert adapter_digest(damaged) == adapter_digest(lora)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_adapter_takes_the_dtype_of_the_model(make_folder, lora, dtype):
    assert with_adapter(make_folder("gpt_neox"), lora, dtype=dtype).logits(IDS).dtype == getattr(torch, dtype)


def test_twin_of_an_adapted_model_has_no_adapter(make_folder, lora):
    folder = make_folder("gpt_neox")
    twin = with_adapter(folder, lora).random_twin(1)
    assert twin.adapter is None
    assert twin.weights_digest == load(ModelSpec(str(folder))).random_twin(1).weights_digest


def test_loading_an_adapter_leaves_the_global_generator_alone(make_folder, lora):
    before = torch.random.get_rng_state()
    with_adapter(make_folder("gpt_neox"), lora)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_missing_adapter_is_an_error_and_not_the_base(make_folder, tmp_path):
    with pytest.raises(AdapterError, match="no adapter at"):
        with_adapter(make_folder("gpt_neox"), tmp_path / "gone")


def zero_b(tensors):
    for name in tensors:
        if "lora_B" in name:
            tensors[name] = torch.zeros_like(tensors[name])


def rename(tensors):
    name = next(iter(tensors))
    tensors[name.replace("layers.0", "layers.7").replace("layers.1", "layers.7")] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (zero_b, "changes no logit"),
        (lambda t: t.pop(next(iter(t))), "lacks 1 tensors"),
        (lambda t: t.update({"base_model.model.extra.lora_A.weight": torch.ones(2, 2)}), "has 1 that find no place"),
        (rename, "lacks 1 tensors, first .* and has 1 that find no place"),
        (lambda t: t.update({next(iter(t)): torch.ones(4, 7)}), "does not fit this base"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(make_folder, damaged, change, says):
    change_tensors(damaged, change)
    with pytest.raises(AdapterError, match=says):
        with_adapter(make_folder("gpt_neox"), damaged)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"target_modules": ["q_proj"]}, "does not fit this base"),
        ({"target_modules": ["query_key_value", "dense_h_to_4h", "q_proj"]}, r"this model lacks \['q_proj'\]"),
        ({"peft_type": "PROMPT_TUNING"}, "prompts change the input"),
        ({"peft_type": None}, "names no peft_type"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make_folder, damaged, fields, says):
    change_settings(damaged, **fields)
    with pytest.raises(AdapterError, match=says):
        with_adapter(make_folder("gpt_neox"), damaged)


def test_base_of_another_size_or_architecture_is_refused(make_folder, lora):
    with pytest.raises(AdapterError, match="does not fit this base"):
        with_adapter(make_folder("gpt_neox", hidden_size=48), lora)
    with pytest.raises(AdapterError, match="does not fit this base"):
        with_adapter(make_folder("gpt2"), lora)


def test_adapter_of_another_hub_model_is_refused_even_where_shapes_agree(make_folder, hub_cache, damaged):
    hub_cache("EleutherAI/pythia-70m", make_folder("gpt_neox"))
    change_settings(damaged, base_model_name_or_path="EleutherAI/pythia-70m-deduped")
    with pytest.raises(
        AdapterError, match="was trained for EleutherAI/pythia-70m-deduped, the base model is EleutherAI/pythia-70m"
    ):
        with_adapter("pythia-70m", damaged)
    change_settings(damaged, base_model_name_or_path="EleutherAI/pythia-70m")
    assert with_adapter("pythia-70m", damaged).adapter is not None


def test_incomplete_and_damaged_folders_are_refused(make_folder, damaged):
    folder = make_folder("gpt_neox")
    tensors = damaged / "adapter_model.safetensors"
    (damaged / "adapter_model.bin").write_bytes(tensors.read_bytes())
    tensors.unlink()
    with pytest.raises(AdapterError, match=r"stores its adapter as adapter_model.bin"):
        with_adapter(folder, damaged)
    (damaged / "adapter_model.bin").unlink()
    with pytest.raises(AdapterError, match="the adapter is incomplete"):
        with_adapter(folder, damaged)
    (damaged / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match="is not JSON"):
        with_adapter(folder, damaged)


def test_without_peft_the_extra_is_named(make_folder, lora, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AdapterError, match=r"pip install 'trialplate\[peft\]'"):
        with_adapter(make_folder("gpt_neox"), lora)
