"""Files of Gemma Scope, 1 and 2: jumprelu coders that read x as it is."""

import numpy as np
import pytest
from safetensors.torch import save_file
from tests.sae.coder_files import OUT, D, X, computes, jump, numbers, parts, pre, settings

from trialplate.sae.errors import FormatError
from trialplate.sae.formats import load_coder

IN, OUT_OF_MLP = "model.layers.7.pre_feedforward_layernorm.output", "model.layers.7.post_feedforward_layernorm.output"


def first(folder, p):
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in p.items()})
    return folder


def second(folder, p, W_skip=None, **more):
    settings(folder / "config.json", **{"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt", **more})
    tensors = {name.lower(): tensor for name, tensor in p.items()}
    if W_skip is not None:
        tensors["affine_skip_connection"] = W_skip.T.contiguous()
    save_file(tensors, folder / "params.safetensors")
    return folder


def jumped(p, x=X):
    code = jump(pre(p, x, centred=False), p["threshold"])
    return code, code @ p["W_dec"] + p["b_dec"]


@pytest.mark.parametrize(
    ("repository", "site_in", "site_out"),
    [
        ("gemma-scope-2b-pt-res", "L20.resid_post", "L20.resid_post"),
        ("gemma-scope-2b-pt-mlp", "L20.mlp_out", "L20.mlp_out"),
        ("gemma-scope-2b-pt-att", "blocks.20.attn.hook_z", "blocks.20.attn.hook_z"),
        ("models--google--gemma-scope-2b-pt-transcoders", "blocks.20.ln2.hook_normalized", "L20.mlp_out"),
    ],
)
def test_the_first_scope_is_described_by_its_folders(tmp_path, repository, site_in, site_out):
    p = parts()
    coder = load_coder(first(tmp_path / repository / "layer_20" / "width_16k" / "average_l0_71", p))
    assert computes(coder, *jumped(p))
    assert (coder.config.site_in, coder.config.site_out) == (site_in, site_out)
    assert coder.config.model == "google/gemma-2-2b"


def test_the_first_scope_without_its_folders(tmp_path):
    p = parts()
    coder = load_coder(first(tmp_path / "downloads", p) / "params.npz")
    assert computes(coder, *jumped(p))
    assert coder.config.site_in == ""
    assert coder.config.about["notes"] == ["the names of its folders do not say which site it reads"]


def test_a_coder_of_the_embedding_reads_it_as_the_first_layer_does(tmp_path):
    p = parts()
    code, y = jumped(p, X / D**0.5)
    coder = load_coder(first(tmp_path / "gemma-scope-9b-it-res" / "embedding" / "width_4k" / "average_l0_6", p))
    assert computes(coder, code, y * D**0.5)
    assert (coder.config.site_in, coder.config.model) == ("L0.resid_pre", "google/gemma-2-9b-it")


def test_the_second_scope(tmp_path):
    p = parts()
    coder = load_coder(second(tmp_path, p, hf_hook_point_in="model.layers.7.output"))
    assert computes(coder, *jumped(p))
    assert (coder.config.site_in, coder.config.site_out) == ("model.layers.7.output",) * 2


@pytest.mark.parametrize("out", [OUT, D], ids=["narrower", "square"])
def test_a_skip_transcoder_of_the_second_scope(tmp_path, out):
    p, W_skip = parts(out=out), numbers(out, D, seed=6)
    code, y = jumped(p)
    more = {"affine_connection": True, "hf_hook_point_in": IN, "hf_hook_point_out": OUT_OF_MLP}
    coder = load_coder(second(tmp_path, p, W_skip, **more))
    assert computes(coder, code, y + X @ W_skip.T)
    assert (coder.config.site_in, coder.config.site_out) == (IN, OUT_OF_MLP)


def test_refused(tmp_path):
    p = parts()
    with pytest.raises(FormatError, match="architecture is 'topk'; read is jump_relu"):
        load_coder(second(tmp_path / "a", p, architecture="topk"))
    with pytest.raises(FormatError, match="unknown: affine_skip_connection"):
        load_coder(second(tmp_path / "b", p, numbers(D, D)))
    with pytest.raises(FormatError, match="missing: threshold"):
        load_coder(first(tmp_path / "c", {name: p[name] for name in p if name != "threshold"}))
    with pytest.raises(FormatError, match=r"wanted w_dec \[14, 6\], got \[14, 2, 6\]"):
        load_coder(second(tmp_path / "d", p | {"W_dec": numbers(14, 2, 6)}))
    with pytest.raises(FormatError, match=r"wanted W_enc \[d_in, 14\], got \[2, 6, 14\]"):
        load_coder(first(tmp_path / "e", p | {"W_enc": numbers(2, 6, 14)}))


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "params.npz", W_enc=np.array([{"code": "runs"}], dtype=object))
    with pytest.raises(FormatError, match="is not an archive of plain arrays"):
        load_coder(tmp_path)
