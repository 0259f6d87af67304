"""Which reader a path is for; descriptions and digests; and that nothing in a file is ever run."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.sae.coder_files import D, M, numbers, parts, settings

from trialplate.activations import sites as activation_sites
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError, FormatError
from trialplate.sae.formats import coder_digest, describe, describe_coder, format_of, load_coder
from trialplate.sae.formats.assembly import assemble
from trialplate.sae.formats.saelens import write
from trialplate.sae.formats.sites import hook_of, is_centred, site_of
from trialplate.sae.formats.tensors import Tensors


def coder_of(architecture="topk", **more):
    config = CoderConfig(architecture, D, M, **({"k": 3} if architecture in ("topk", "batchtopk") else {}), **more)
    return initialise(Coder(config), torch.Generator().manual_seed(0)).requires_grad_(False)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


# --- which reader -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("cfg.json", "sae_weights.safetensors"), "saelens"),
        (("cfg.json", "sae_weights.safetensors", "config.json"), "saelens"),
        (("cfg.json", "sae_weights.safetensors", "sparsity.safetensors", "activation_scaler.json"), "saelens"),
        (("cfg.json", "sae.safetensors"), "sparsify"),
        (("config.json", "ae.pt"), "dictionary_learning"),
        (("params.npz",), "gemma_scope_1"),
        (("config.json", "params.safetensors"), "gemma_scope_2"),
        (("config.json", "sae_weights.safetensors"), "llamascopium"),
        (("config.json", "sae_weights.pt"), "llamascopium"),
        (("sae_final.pt", "training_metrics.json"), "state_dict"),
    ],
)
def test_the_files_that_are_there_choose_the_reader(tmp_path, files, name):
    folder = touch(tmp_path / "coder", *files)
    assert format_of(folder)[0] == name
    weights = next(file for file in files if file.endswith((".safetensors", ".pt", ".npz")))
    assert format_of(folder / weights)[0] == name


def test_a_folder_of_two_formats_is_not_guessed(tmp_path):
    folder = touch(tmp_path / "coder", "cfg.json", "sae_weights.safetensors", "sae.safetensors")
    with pytest.raises(FormatError, match=r"a folder of saelens \(cfg.json, sae_weights.safetensors\) and sparsify"):
        format_of(folder)
    assert format_of(folder / "sae.safetensors")[0] == "sparsify"


def test_nothing_to_read(tmp_path):
    with pytest.raises(FormatError, match="there is no such file or folder"):
        load_coder(tmp_path / "absent")
    with pytest.raises(FormatError, match=r"no coder in .*wanted saelens: cfg.json and .*; there is nothing"):
        load_coder(touch(tmp_path / "empty"))
    with pytest.raises(FormatError, match=r"there is a.pt, b.pt"):
        load_coder(touch(tmp_path / "two", "a.pt", "b.pt"))
    with pytest.raises(FormatError, match="is no file of weights"):
        load_coder(touch(tmp_path, "notes.txt") / "notes.txt")


def test_a_coder_comes_in_float32_without_gradients(tmp_path):
    write(coder_of(), tmp_path / "coder")
    path = tmp_path / "coder" / "sae_weights.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    coder = load_coder(tmp_path / "coder", device="cpu")
    assert {p.dtype for p in coder.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in coder.parameters())
    assert not coder.training


# --- nothing in a file is run --------------------------------------------------------------------------------------------


class Runs:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("name", ["ae.pt", "sae_weights.pt", "sae_final.pt"])
def test_code_in_a_torch_file_is_refused_and_not_run(tmp_path, name):
    folder, trace = tmp_path / "coder", tmp_path / "ran"
    settings(folder / "config.json", trainer={"dict_class": "AutoEncoder"}, sae_type="sae", act_fn="relu")
    torch.save({"model_state_dict": Runs(trace)}, folder / name)
    with pytest.raises(FormatError, match="a pickle that needs code to load; such files are refused"):
        load_coder(folder / name)
    assert not trace.exists()


def test_damaged_files(tmp_path):
    write(coder_of(), tmp_path / "coder")
    weights, config = tmp_path / "coder" / "sae_weights.safetensors", tmp_path / "coder" / "cfg.json"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FormatError, match="truncated"):
        load_coder(tmp_path / "coder")
    config.write_text("[1, 2]")
    with pytest.raises(FormatError, match="wanted a JSON object, got list"):
        load_coder(tmp_path / "coder")
    config.write_text("{")
    with pytest.raises(FormatError, match="cannot be read as JSON"):
        load_coder(tmp_path / "coder")
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(FormatError, match=r"torn\.pt"):
        load_coder(tmp_path / "torn.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(FormatError, match="holds a list"):
        load_coder(tmp_path / "list.pt")
    torch.save({"W_enc": 3}, tmp_path / "number.pt")
    with pytest.raises(FormatError, match="holds 'W_enc', a int"):
        load_coder(tmp_path / "number.pt")


# --- shapes --------------------------------------------------------------------------------------------------------------


def test_decoder_orientation_is_decided_by_shape_then_by_layout_and_else_not_at_all():
    wide, square = Tensors({"W": numbers(3, 7)}, "file"), Tensors({"W": numbers(4, 4)}, "file")
    assert torch.equal(wide.latents_first("W", 3, 7, stored=None), numbers(3, 7))
    assert torch.equal(wide.latents_first("W", 7, 3, stored=None), numbers(3, 7).T)
    assert torch.equal(square.latents_first("W", 4, 4, stored="latents first"), numbers(4, 4))
    assert torch.equal(square.latents_first("W", 4, 4, stored="channels first"), numbers(4, 4).T)
    with pytest.raises(FormatError, match=r"W is square.*nothing says whether its rows are latents"):
        square.latents_first("W", 4, 4, stored=None)


def test_a_coder_takes_exactly_its_own_tensors():
    p = parts()
    good = {"encoder": p["W_enc"].T, "b_enc": p["b_enc"], "W_dec": p["W_dec"], "b_dec": p["b_dec"]}
    config = CoderConfig("relu", D, M)
    assert torch.equal(assemble(config, good).W_enc, p["W_enc"])
    for wrong in ({**good, "threshold": p["threshold"]}, {"encoder": good["encoder"]}, {**good, "b_enc": p["b_dec"]}):
        with pytest.raises(CoderError, match="these do not fit"):
            assemble(config, wrong)


# --- digests and descriptions --------------------------------------------------------------------------------------------


def test_the_digest_is_the_function_and_not_where_it_came_from():
    coder = coder_of()
    named = coder_of(site_in="L1.mlp_act", site_out="L1.mlp_act", model="gpt2", prefixes=(4,), about={"a": 1})
    assert coder_digest(coder) == coder_digest(named)
    others = [coder_of(signed=True), coder_of(centre_input=False), coder_of("relu"), coder_of().double()]
    other = coder_of()
    other.b_dec[0] = 1e-30
    assert len({coder_digest(c) for c in [coder, *others, other]}) == 6


def test_a_description_counts_what_is_dead(tmp_path):
    coder = coder_of()
    coder.W_dec[3] = 0
    coder.W_dec[4] *= 2
    coder.encoder[[5, 6]] = 0
    said = describe_coder(coder)
    assert (said.zero_decoder, said.zero_encoder, said.format) == (1, 2, "")
    assert said.decoder_norm == pytest.approx((1.0, 2.0), abs=1e-6)
    write(coder, tmp_path / "coder")
    read = describe(tmp_path / "coder")
    assert read.digest == said.digest
    assert (read.format, read.as_dict()["k"]) == ("saelens", 3)
    coder.W_dec.zero_()
    assert describe_coder(coder).decoder_norm == (0.0, 0.0)


# --- names of sites ------------------------------------------------------------------------------------------------------


def test_hooks_are_those_that_the_map_of_sites_knows():
    for hook, site in activation_sites._HOOKS.items():
        assert site_of(f"blocks.3.{hook}") == f"L3.{site}"
        assert hook_of(f"L3.{site}") == f"blocks.3.{hook}"
    for other in ("blocks.3.attn.hook_z", "hook_embed", "model.layers.3.mlp.output", ""):
        assert site_of(other) == hook_of(other) == other


def test_centred_weights_change_the_stream_and_what_is_added_to_it():
    changed = ("blocks.0.hook_resid_pre", "blocks.11.hook_resid_post", "blocks.2.hook_attn_out", "hook_embed")
    same = ("blocks.2.mlp.hook_post", "blocks.2.attn.hook_z", "blocks.2.ln1.hook_normalized", "")
    assert all(map(is_centred, changed))
    assert not any(map(is_centred, same))


def test_no_module_of_formats_imports_what_it_does_not_need():
    import subprocess
    import sys

    heavy = "{'transformers', 'pandas', 'matplotlib', 'pytest'}"
    code = f"import sys, trialplate.sae.formats; sys.exit(', '.join({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "", done.stderr
