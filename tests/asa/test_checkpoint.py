"""Checkpoints: either naming, any wrapper, either file format; strict, safe, and what was done is said."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.asa.golden_cases import of_kind, part, tensors
from tests.asa.tiny_models import SIZES, ids, tiny

from asa.checkpoint import CheckpointError, detect_naming, load_checkpoint, save_checkpoint, to_naming
from asa.checkpoint_keys import canonical
from asa.config import ASMTrainConfig

BUFFERS = {
    "blocks.0.asa._alibi_slopes": torch.ones(4),
    "blocks.0.asa.rope.inv_freq": torch.ones(4),
    "blocks.1.asa.rope_slotspace.inv_freq": torch.ones(8),
}


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "asm.pt"


def container(source, **changes):
    return {"cfg": source.cfg.to_dict(), "model": source.state_dict(), "step": 75, **changes}


def same_logits(a, b):
    x = ids(2, 21)
    with torch.no_grad():
        return torch.equal(a(x), b(x))


@pytest.mark.parametrize("case", of_kind("lm"), ids=lambda case: case["name"])
def test_public_checkpoints_give_the_public_logits(case, file):
    found = tensors(case)
    torch.save({"cfg": case["cfg"], "model": part(found, "state."), "opt": {}, "step": 3, "best_val": 1.5}, file)
    loaded = load_checkpoint(file)
    with torch.no_grad():
        logits = loaded.model(found["in.input_ids"], found.get("in.attention_mask"))
    torch.testing.assert_close(logits, found["out.logits"], **case["tolerance"])
    assert (loaded.report.naming, loaded.report.step) == (case["naming"], 3)
    assert loaded.cfg.mlp_bias == (case["naming"] == "alt")
    assert not loaded.model.training


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("naming", ["asm", "alt"])
@pytest.mark.parametrize(
    "changes", [{}, {"mlp_bias": True}, {"tie_weights": False, "use_abs_pos": True}], ids=["plain", "biases", "untied"]
)
def test_saved_in_either_naming_and_format_it_loads_with_equal_logits(changes, naming, suffix, tmp_path):
    model = tiny(**changes)
    path = save_checkpoint(tmp_path / f"asm{suffix}", model, naming=naming, step=7)
    loaded = load_checkpoint(path)
    assert same_logits(loaded.model, model)
    assert (loaded.report.naming, loaded.report.step) == (naming, 7)
    assert (loaded.model.lm_head.weight is loaded.model.tok.weight) == model.tie_weights
    expected = model.cfg.mlp_bias or naming == "alt"
    assert loaded.cfg == ASMTrainConfig.from_dict({**model.cfg.to_dict(), "mlp_bias": expected})


def test_alt_and_asm_names_are_each_others_inverse(model):
    state = model.state_dict()
    alt = to_naming(state, "alt")
    assert {
        "token_emb.weight",
        "ln_f.bias",
        "blocks.1.attn.slot_keys",
        "blocks.0.ln_2.weight",
        "lm_head.weight",
    } <= alt.keys()
    assert all(not alt[f"blocks.{n}.mlp.{k}.bias"].any() for n in (0, 1) for k in (0, 3))
    assert len(alt) == len(state) + 4
    assert (detect_naming(state), detect_naming(alt)) == ("asm", "alt")
    back = to_naming(alt, "asm")
    assert list(back) == list(state)  # zero biases say nothing and go
    assert all(torch.equal(back[name], state[name]) for name in state)
    positions = to_naming({"tok.weight": torch.ones(1), "pos.weight": torch.ones(2)}, "alt")
    assert list(positions) == ["token_emb.weight", "pos_emb.weight"]
    kept = {"token_emb.weight": torch.ones(1), "blocks.0.mlp.0.bias": torch.ones(1)}
    assert list(to_naming(kept, "asm")) == ["tok.weight", "blocks.0.mlp.0.bias"]
    with pytest.raises(ValueError, match="naming: wanted one of asm, alt, got 'other'"):
        to_naming(state, "other")


@pytest.mark.parametrize(
    "wrap", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "model.{}", "module.model.{}"]
)
def test_prefixes_of_wrappers_are_stripped_and_named(wrap, model, file):
    torch.save(container(model, model={wrap.format(name): tensor for name, tensor in model.state_dict().items()}), file)
    loaded = load_checkpoint(file)
    assert same_logits(loaded.model, model)
    assert set(loaded.report.stripped) == {f"{part}." for part in wrap.split(".")[:-1]}


def test_a_prefix_inside_is_stripped_too(model, file):
    inside = {name.replace("blocks.1.", "blocks.1._orig_mod."): tensor for name, tensor in model.state_dict().items()}
    torch.save(container(model, model=inside), file)
    assert same_logits(load_checkpoint(file).model, model)
    compiled = torch.nn.Module()
    compiled._orig_mod = tiny()  # the form that torch.compile gives a module
    save_checkpoint(file, compiled, model.cfg)
    assert "tok.weight" in torch.load(file, weights_only=True)["model"]
    assert same_logits(load_checkpoint(file).model, model)


def test_two_keys_of_one_name_and_two_namings_are_refused(model):
    state = model.state_dict()
    with pytest.raises(CheckpointError, match=r"'norm.weight' and 'module.norm.weight' are both 'norm.weight'"):
        canonical({**state, "module.norm.weight": state["norm.weight"]})
    with pytest.raises(CheckpointError, match=r"two namings in one state dict: 'tok\.weight' and 'ln_f\.weight'"):
        detect_naming([*state, "ln_f.weight"])
    with pytest.raises(CheckpointError, match="no key of an ASM among the tensors"):
        detect_naming(["wte.weight", "h.0.attn.c_attn.weight"])


@pytest.mark.parametrize("holder", ["model_state_dict", "state_dict", "model", "model_state", None])
def test_every_container_is_read(holder, model, file):
    state = model.state_dict()
    torch.save({holder: state, "cfg": model.cfg.to_dict()} if holder else state, file)
    if holder is None:
        file.with_name("config.json").write_text(json.dumps(model.cfg.to_dict()))
    loaded = load_checkpoint(file)
    assert same_logits(loaded.model, model)
    assert loaded.report.holder == (holder or "")
    assert loaded.report.cfg_from == ("'cfg' of asm.pt" if holder else "config.json")


def test_json_beside_the_file_with_aliases(model, file):
    torch.save(model.state_dict(), file)
    aliases = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_ctx": 64, "n_slots": 8, "slotspace_size": 16}
    rest = {"vocab_size": 61, "write_chunk_size": 8, "slotspace_chunk_size": 8}
    beside = file.with_suffix(".json")
    beside.write_text(json.dumps({"cfg": {**aliases, **rest}}))
    loaded = load_checkpoint(file)
    assert same_logits(loaded.model, model)
    assert "n_embd -> embed_dim" in loaded.report.aliases
    beside.write_text(json.dumps({**aliases, **rest, "embed_dim": 48}))
    with pytest.raises(CheckpointError, match="contradicts itself: embed_dim is 48 and n_embd is 32"):
        load_checkpoint(file)
    beside.write_text("{")
    with pytest.raises(CheckpointError, match=r"configuration in .*asm\.json is not JSON"):
        load_checkpoint(file)
    beside.write_text('{"model_type": "gpt2"}')
    with pytest.raises(CheckpointError, match="is of a 'gpt2' model: wanted model_type 'asm'"):
        load_checkpoint(file)
    beside.unlink()
    with pytest.raises(
        CheckpointError,
        match=r"asm\.pt: no configuration: wanted the entry 'cfg' in the checkpoint, or asm\.json or config\.json",
    ):
        load_checkpoint(file)
    assert same_logits(load_checkpoint(file, cfg={**aliases, **rest}).model, model)


def test_unknown_fields_are_kept_and_absent_ones_named(model, file):
    cfg = {**SIZES, "flux": 3, "norm_eps": 1e-5}
    torch.save(container(model, cfg=cfg), file)
    loaded = load_checkpoint(file)
    assert loaded.cfg.unknown == {"flux": 3, "norm_eps": 1e-5}
    assert loaded.report.unknown_fields == ("flux", "norm_eps")
    assert "learning_rate" in loaded.report.defaulted_fields
    assert "embed_dim" not in loaded.report.defaulted_fields
    again = load_checkpoint(save_checkpoint(file, loaded.model))
    assert again.cfg.unknown == loaded.cfg.unknown
    text = again.report.render()
    assert "unknown configuration fields, kept in cfg.unknown (2): flux, norm_eps" in text


def test_biases_that_the_model_wants_are_zero_filled_and_said(model, file):
    torch.save(container(model, cfg={**SIZES, "mlp_bias": True}), file)
    loaded = load_checkpoint(file)
    assert loaded.report.zero_filled == tuple(f"blocks.{n}.mlp.{k}.bias" for n in (0, 1) for k in (0, 3))
    assert same_logits(loaded.model, model)
    assert "feed-forward biases absent in the checkpoint, filled with zeros (4)" in loaded.report.render()
    torch.save(container(model, cfg={**SIZES, "mlp_bias": False}, model=to_naming(model.state_dict(), "alt")), file)
    loaded = load_checkpoint(file)
    assert len(loaded.report.dropped) == 4
    assert same_logits(loaded.model, model)
    biased = tiny(mlp_bias=True)
    torch.save(container(biased, cfg={**SIZES, "mlp_bias": False}), file)
    with pytest.raises(CheckpointError, match="mlp_bias: the configuration says False, the weights say True"):
        load_checkpoint(file)
    half = {name: tensor for name, tensor in biased.state_dict().items() if name != "blocks.1.mlp.0.bias"}
    torch.save(container(biased, model=half), file)
    with pytest.raises(CheckpointError, match=r"missing .*\n  blocks\.1\.mlp\.0\.bias \[128\]"):
        load_checkpoint(file)


def test_buffers_of_old_checkpoints_are_ignored_and_named(model, file):
    torch.save(container(model, model={**model.state_dict(), **BUFFERS}), file)
    loaded = load_checkpoint(file)
    assert loaded.report.ignored == tuple(BUFFERS)
    assert same_logits(loaded.model, model)


def test_a_tied_head(model, file):
    state = model.state_dict()
    for absent in ("lm_head.weight", "tok.weight"):
        torch.save(container(model, model={name: tensor for name, tensor in state.items() if name != absent}), file)
        loaded = load_checkpoint(file)
        assert loaded.report.tied == (absent,)
        assert same_logits(loaded.model, model)
    torch.save(container(model, model={**state, "lm_head.weight": state["tok.weight"] + 1}), file)
    with pytest.raises(
        CheckpointError, match="tie_weights: the configuration ties head and embedding, but the checkpoint stores"
    ):
        load_checkpoint(file)
    untied = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    torch.save(container(model, cfg={**SIZES, "tie_weights": False}, model=untied), file)
    with pytest.raises(CheckpointError, match=r"missing .*\n  lm_head\.weight \[61, 32\]"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("field", "value", "weights"),
    [
        ("num_layers", 3, 2), ("vocab_size", 62, 61), ("embed_dim", 36, 32), ("num_heads", 2, 4), ("num_slots", 6, 8), ("slotspace_dim", 8, 16),
        ("mlp_ratio", 2.0, 4.0), ("use_abs_pos", True, False), ("use_content_read", False, True), ("use_slotspace_refine", False, True),
        ("use_alibi_write", False, True), ("learn_alibi_strength", False, True),
    ],
)  # fmt: skip
def test_a_configuration_that_disagrees_names_the_field(field, value, weights, model, file):
    torch.save(container(model, cfg={**SIZES, field: value}), file)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file)
    assert f"  {field}: the configuration says {value!r}, the weights say {weights!r}\n" in str(caught.value)
    assert str(caught.value).startswith(f"{file}: configuration and weights disagree in ")


def test_a_field_that_is_not_named_is_said_to_be_a_default(model, file):
    torch.save(container(model, cfg={name: value for name, value in SIZES.items() if name != "num_slots"}), file)
    with pytest.raises(
        CheckpointError,
        match=r"num_slots: the configuration says 32 \(the default; the configuration does not name it\), the weights say 8",
    ):
        load_checkpoint(file)
    positions = tiny(use_abs_pos=True)
    torch.save(container(positions, cfg={**SIZES, "use_abs_pos": True, "max_seq_len": 32}), file)
    with pytest.raises(CheckpointError, match="max_seq_len: the configuration says 32, the weights say 64"):
        load_checkpoint(file)


def test_keys_that_do_not_fit_are_listed_by_block_with_the_nearest_name(model, file):
    state = dict(model.state_dict())
    state["blocks.0.asa.Wk_wrote.weight"] = state.pop("blocks.0.asa.Wk_write.weight")
    for n in (0, 1):
        del state[f"blocks.{n}.norm1.bias"]
    state["blocks.1.asa.slot_in.weight"] = state["blocks.1.asa.slot_in.weight"].T
    torch.save(container(model, model=state), file)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file)
    assert str(caught.value) == (
        f"{file}: the asm checkpoint does not fit the model of its configuration\n"
        "missing (the model wants them, the checkpoint has not), 2 lines:\n"
        "  blocks.0-1.norm1.bias [32]\n"
        "  blocks.0.asa.Wk_write.weight [32, 32]\n"
        "unexpected (the checkpoint has them, the model does not know them), 1 line:\n"
        "  blocks.0.asa.Wk_wrote.weight [32, 32]  (nearest that is missing: blocks.0.asa.Wk_write.weight)\n"
        "of another shape, 1 line:\n"
        "  blocks.1.asa.slot_in.weight: wanted [16, 8], got [8, 16] (transposed)"
    )


@pytest.mark.parametrize("value", ["8", True, 8.5, None])
def test_a_field_of_another_type_is_refused(value, model, file):
    torch.save(container(model, cfg={**SIZES, "num_slots": value}), file)
    with pytest.raises(CheckpointError, match=r"asm\.pt: configuration field num_slots: wanted int, got"):
        load_checkpoint(file)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_pickles_with_code_are_refused_and_not_run(model, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(container(model, cfg=Evil()), file)
    with pytest.raises(
        CheckpointError, match=r"no torch file that can be read without running code \((posix|nt)\.mkdir\)"
    ):
        load_checkpoint(file)
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="no torch file that can be read without running code"):
        load_checkpoint(file)
    torch.save(container(model, cfg=model.cfg), file)  # a dataclass instead of a dict
    with pytest.raises(CheckpointError, match=r"asa\.config\.ASMTrainConfig"):
        load_checkpoint(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_and_foreign_files(suffix, model, tmp_path):
    path = tmp_path / f"asm{suffix}"
    whole = save_checkpoint(path, model).read_bytes()
    for cut in (len(whole) - 100, len(whole) // 2, 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"truncated|without running code"):
            load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is empty \(0 bytes\)"):
        load_checkpoint(path)
    path.write_bytes(b"not a checkpoint at all, but long enough to look like one" * 10)
    with pytest.raises(CheckpointError, match=r"no checkpoint|without running code"):
        load_checkpoint(path)


def test_things_that_are_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone\.pt: wanted a \.pt or \.safetensors file"):
        load_checkpoint(tmp_path / "gone.pt")
    with pytest.raises(CheckpointError, match=r"is a folder without model\.safetensors \(it is empty\)"):
        load_checkpoint(tmp_path)
    file = tmp_path / "x.pt"
    for content, says in (
        ([1, 2], "holds a list"),
        ({"cfg": {}, "step": 3}, "holds no state dict: wanted tensors under model_state_dict"),
        ({"model": {"wte.weight": torch.ones(2)}, "cfg": {}}, "no key of an ASM"),
    ):
        torch.save(content, file)
        with pytest.raises(CheckpointError, match=says):
            load_checkpoint(file)
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_checkpoint(tmp_path / "empty.safetensors")


def test_dtypes(tmp_path, model):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
        path = save_checkpoint(tmp_path / "asm.safetensors", state, model.cfg)
        kept, cast = load_checkpoint(path), load_checkpoint(path, dtype=torch.float32)
        assert {t.dtype for t in kept.model.state_dict().values()} == {dtype} == {kept.report.dtype}
        assert {t.dtype for t in cast.model.state_dict().values()} == {torch.float32}
        assert kept.model.blocks[0].asa.rope.inv_freq.dtype == torch.float32
        torch.testing.assert_close(kept.model(ids(1, 9)).float(), model(ids(1, 9)), rtol=0.2, atol=0.2)
    mixed = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in model.state_dict().items()}
    assert load_checkpoint(save_checkpoint(tmp_path / "m.pt", mixed, model.cfg)).report.dtype == torch.float32


def test_variants_and_the_global_generator(model, file):
    save_checkpoint(file, model)
    before = torch.random.get_rng_state()
    for variant in ("baseline", "online", "intervene"):
        assert (
            type(load_checkpoint(file, variant=variant).model.blocks[0].asa)
            .__name__.lower()
            .endswith(variant.replace("baseline", "attention"))
        )
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match="variant: wanted one of baseline, online, intervene, got 'fast'"):
        load_checkpoint(file, variant="fast")


def test_what_is_saved_is_what_public_code_reads(model, file):
    save_checkpoint(file, model, step=5, opt={"state": {}}, best_val=3.0, extra={"note": "x"})
    stored = torch.load(file, weights_only=True)
    assert stored.keys() == {"cfg", "model", "opt", "step", "best_val", "note"}
    assert list(stored["model"]) == list(model.state_dict())
    assert not {"mlp_bias", "write_mode"} & stored["cfg"].keys()  # at their defaults, unknown to published code
    exact = tiny(write_mode="exact")
    assert torch.load(save_checkpoint(file, exact), weights_only=True)["cfg"]["write_mode"] == "exact"
    tied = load_file(save_checkpoint(file.with_suffix(".safetensors"), model))
    assert "lm_head.weight" not in tied
    report = load_checkpoint(save_checkpoint(file, model, opt={"state": {}}, best_val=3.0)).report
    assert report.other_entries == ("opt", "best_val")


def test_saving_is_whole_or_not_at_all(model, file, monkeypatch):
    save_checkpoint(file, model)
    before = file.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"was not written: configuration and weights disagree in 1 field\n  num_slots"
    ):
        save_checkpoint(file, model, ASMTrainConfig.from_dict({**SIZES, "num_slots": 5}))
    with pytest.raises(CheckpointError, match="extra has the entry 'model'"):
        save_checkpoint(file, model, extra={"model": 1})
    with pytest.raises(CheckpointError, match="without a configuration"):
        save_checkpoint(file, model.state_dict())
    with pytest.raises(CheckpointError, match="there is no folder"):
        save_checkpoint(file.parent / "none" / "a.pt", model)
    with pytest.raises(CheckpointError, match=r"Leave optimizer states out, or name a \.pt file"):
        save_checkpoint(file.with_suffix(".safetensors"), model, opt={"x": torch.ones(1)})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(file, tiny(seed=1))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
