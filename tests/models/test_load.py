"""Loading is strict: every weight, the dtype and the device asked for, nothing filled in, nothing executed."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from trialplate.checkpoints.errors import CheckpointError
from trialplate.models.causal_lm import CausalLM
from trialplate.models.errors import ModelLoadError, ModelNotFound, TokenizerError
from trialplate.models.load import load, require_dtype, require_on_device
from trialplate.models.spec import ModelSpec

TINY = ModelSpec("embedded:neox-tiny")


def change_weights(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def change_config(folder, **fields):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_floating_tensor_has_the_dtype(dtype):
    model = load(ModelSpec("embedded:neox-tiny", dtype=dtype))
    assert {t.dtype for t in model.module.state_dict().values() if t.is_floating_point()} == {getattr(torch, dtype)}
    assert model.dtype == getattr(torch, dtype)


def test_loading_leaves_the_global_generator_alone(make_folder):
    before = torch.random.get_rng_state()
    load(ModelSpec(str(make_folder("gpt2"))))
    load(ModelSpec("embedded:neox-random"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_torch_file_and_shards_load_like_safetensors(copy_folder, make_folder):
    wanted = load(ModelSpec(str(make_folder("gpt_neox"))))
    folder = copy_folder("gpt_neox")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    from_torch = load(ModelSpec(str(folder)))
    ids = torch.arange(1, 9).unsqueeze(0)
    assert torch.equal(from_torch.logits(ids), wanted.logits(ids))
    assert from_torch.weights_digest == wanted.weights_digest
    (folder / "pytorch_model.bin").unlink()
    keys = sorted(tensors)
    shards = {"model-1.safetensors": keys[::2], "model-2.safetensors": keys[1::2]}
    for name, part in shards.items():
        save_file({key: tensors[key] for key in part}, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {k: n for n, part in shards.items() for k in part}})
    )
    sharded = load(ModelSpec(str(folder)))
    assert torch.equal(sharded.logits(ids), wanted.logits(ids))
    assert sharded.weights_digest == wanted.weights_digest


def test_old_and_new_name_of_the_head_both_load(copy_folder, make_folder):
    folder = copy_folder("gpt_neox")
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors.pop("embed_out.weight")}))
    ids = torch.arange(1, 9).unsqueeze(0)
    assert torch.equal(
        load(ModelSpec(str(folder))).logits(ids), load(ModelSpec(str(make_folder("gpt_neox")))).logits(ids)
    )


def test_old_buffers_in_the_file_are_no_error(copy_folder):
    folder = copy_folder("gpt_neox")
    buffers = {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(4),
    }
    change_weights(folder, lambda tensors: tensors.update(buffers))
    assert not set(buffers) & set(load(ModelSpec(str(folder))).module.state_dict())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda t: t.pop("gpt_neox.layers.1.mlp.dense_4h_to_h.bias"),
            "1 keys that the model wants and the file lacks, first 'gpt_neox.layers.1.mlp.dense_4h_to_h.bias'",
        ),
        (lambda t: t.pop("embed_out.weight"), "the model wants and the file lacks, first 'lm_head.weight'"),
        (
            lambda t: t.update(extra=torch.ones(2)),
            "1 keys that the file has and the model does not know, first 'extra'",
        ),
        (
            lambda t: t.update({"gpt_neox.final_layer_norm.weigth": t.pop("gpt_neox.final_layer_norm.weight")}),
            "the model wants and the file lacks",
        ),
        (
            lambda t: t.update({"gpt_neox.final_layer_norm.weight": torch.ones(33)}),
            "do not make a causal language model|another shape",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(copy_folder, change, says):
    folder = copy_folder("gpt_neox")
    change_weights(folder, change)
    with pytest.raises(ModelLoadError, match=says):
        load(ModelSpec(str(folder)))


def test_a_dropped_layer_in_the_configuration_is_refused(copy_folder):
    folder = copy_folder("gpt_neox")
    change_config(folder, num_hidden_layers=1)
    with pytest.raises(
        ModelLoadError, match=r"12 keys that the file has and the model does not know, first 'gpt_neox\.layers\.1"
    ):
        load(ModelSpec(str(folder)))


def test_damaged_and_unsafe_files_are_refused_before_loading(copy_folder):
    folder = copy_folder("gpt2")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="it is truncated"):
        load(ModelSpec(str(folder)))
    file.unlink()
    torch.save({"a": os.system}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="needs code to load"):
        load(ModelSpec(str(folder)))


def test_remote_code_is_never_run(copy_folder, tmp_path):
    folder = copy_folder("gpt2")
    marker = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: pass\nclass OwnConfig: pass\n")
    change_config(
        folder,
        model_type="own",
        auto_map={"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.Own"},
    )
    with pytest.raises(ModelLoadError, match="needs code from the repository, which is never run"):
        load(ModelSpec(str(folder)))
    assert not marker.exists()


def test_files_of_no_language_model_are_refused(copy_folder):
    folder = copy_folder("gpt2")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelLoadError, match="do not make a causal language model"):
        load(ModelSpec(str(folder)))


def test_missing_tokenizer_is_an_error(copy_folder):
    folder = copy_folder("gpt2")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match="no tokenizer in"):
        load(ModelSpec(str(folder)))


def test_tied_head_is_one_tensor(make_folder):
    model = load(ModelSpec(str(make_folder("gpt2"))))
    assert model.module.lm_head.weight.data_ptr() == model.module.transformer.wte.weight.data_ptr()
    assert model.n_parameters == load(ModelSpec(str(make_folder("gpt2")))).random_twin(0).n_parameters


def test_stored_head_that_differs_from_a_tied_embedding_is_refused(copy_folder):
    folder = copy_folder("gpt2")
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"] + 1}))
    with pytest.raises(ModelLoadError, match="with different content: one of them would be dropped"):
        load(ModelSpec(str(folder)))
    change_weights(
        folder, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"].clone()})
    )
    load(ModelSpec(str(folder)))


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda", "wanted device cuda, found 0 cuda"),
        ("cuda:3", "found 0"),
        ("meta", "unsupported device 'meta'"),
        ("tpu?", "unknown device"),
    ],
)
def test_absent_and_unknown_devices_are_refused(device, says, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelLoadError, match=says):
        load(ModelSpec("embedded:neox-tiny", device=device))


def test_a_stand_in_device_keeps_the_name_of_the_spec():
    model = load(ModelSpec("embedded:neox-tiny", device="cuda"), torch_device=torch.device("cpu"))
    assert (model.spec.device, model.device.type, model.identity()["device"]) == ("cuda", "cpu", "cuda")
    assert model.random_twin(0).device.type == "cpu"


def test_dtype_and_device_are_verified_on_the_tensors(make_folder):
    model = load(ModelSpec(str(make_folder("gpt2"))))
    with pytest.raises(
        ModelLoadError,
        match=r"wanted torch.float16 throughout, got torch.float32 for \d+ tensors, first 'lm_head.weight'",
    ):
        require_dtype(model.module, torch.float16, model.spec)
    with pytest.raises(ModelLoadError, match="tensors are not on meta"):
        require_on_device(model.module, torch.device("meta"), model.spec)


def test_a_dtype_that_does_not_run_is_said_at_load(monkeypatch):
    def broken(module, ids):
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr("trialplate.models.causal_lm.head_can_be_split", broken)
    with pytest.raises(
        ModelLoadError, match=r"does not run on cpu in float16: not implemented for 'Half'. Choose another --dtype"
    ):
        load(ModelSpec("embedded:neox-tiny", dtype="float16"))


class TestFactory:
    def test_is_asked_first_and_may_decline(self, make_folder):
        asked = []

        def factory(name, revision, device, dtype):
            asked.append((name, revision, device, dtype))

        assert load(TINY, factory=factory).source.kind == "embedded"
        assert asked == [("embedded:neox-tiny", None, "cpu", "float32")]

    def test_pair_of_module_and_tokenizer(self):
        base = load(TINY)
        spec = ModelSpec("mine", "r1")
        model = load(spec, factory=lambda *_: (base.module, base.tokenizer.backend))
        assert (model.label, model.source, model.has_files) == ("mine@r1", None, False)
        assert model.identity()["source"] == "memory"
        assert len(model.weights_digest) == 64

    def test_changed_weights_have_another_digest(self):
        def sabotaged(*_):
            model = load(TINY)
            assert model.weights_digest  # remembered before the change
            model.module.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.data.mul_(2)
            return model

        damaged, whole = load(TINY, factory=sabotaged), load(TINY, factory=lambda *_: load(TINY))
        assert damaged.weights_digest != whole.weights_digest
        assert damaged.source is None

    def test_subclass_is_kept(self):
        class Own(CausalLM):
            pass

        def factory(*_):
            base = load(TINY)
            own = Own(base.spec, base.module, base.tokenizer, source=base.source)
            assert own.weights_digest == base.weights_digest
            return own

        model = load(ModelSpec("own"), factory=factory)
        assert type(model) is Own
        assert (model.label, model.source) == ("own", None)
        assert model.weights_digest != load(TINY).weights_digest or not model.has_files

    def test_wrong_dtype_is_caught(self):
        half = load(ModelSpec("embedded:neox-tiny", dtype="float16"))
        with pytest.raises(ModelLoadError, match=r"wanted torch.float32 throughout, got torch.float16"):
            load(TINY, factory=lambda *_: (half.module, half.tokenizer))

    def test_anything_else_is_refused(self):
        with pytest.raises(ModelLoadError, match="hook returned a str: wanted a CausalLM, a pair"):
            load(TINY, factory=lambda *_: "model")
        with pytest.raises(ModelLoadError, match="--adapter cannot be combined"):
            load(ModelSpec("m", adapter="a"), factory=lambda *_: "model")


def test_not_found_stays_not_found():
    with pytest.raises(ModelNotFound):
        load(ModelSpec("no-such-model"))


def test_light_modules_import_no_torch():
    light = ["", ".errors", ".spec", ".catalog", ".hub", ".resolve", ".tokenizers"]
    code = "import sys\n" + "\n".join(f"import trialplate.models{name}" for name in light)
    code += "\nfrom trialplate.models.spec import ModelSpec\nfrom trialplate.models.tokenizers import peek_encode"
    code += "\nassert peek_encode(ModelSpec('embedded:neox-tiny'))('a')"
    check = "\nassert not {'torch', 'transformers', 'numpy', 'safetensors', 'huggingface_hub'} & sys.modules.keys(), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], check=True, timeout=60)
    with pytest.raises(subprocess.CalledProcessError):  # the check can fail
        subprocess.run(
            [sys.executable, "-c", "import huggingface_hub\n" + code + check],
            check=True,
            timeout=60,
            capture_output=True,
        )
