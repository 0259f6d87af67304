"""Files of sparsify compute what its formulas say, whichever way its decoder lies."""

import pytest
import torch
from safetensors.torch import save_file
from tests.sae.coder_files import D, M, X, computes, largest, numbers, parts, pre, settings

from trialplate.sae.errors import FormatError
from trialplate.sae.formats import load_coder

K = 3


def saved(folder, p, W_dec=None, W_skip=None, **more):
    d, m = p["W_enc"].shape
    settings(
        folder / "cfg.json",
        **{"d_in": d, "k": K, "expansion_factor": 32, "num_latents": m, "activation": "topk", **more},
    )
    tensors = {"encoder.weight": p["W_enc"].T.contiguous(), "encoder.bias": p["b_enc"], "b_dec": p["b_dec"]}
    tensors["W_dec"] = p["W_dec"] if W_dec is None else W_dec.contiguous()
    if W_skip is not None:
        tensors["W_skip"] = W_skip
    save_file(tensors, folder / "sae.safetensors")
    return folder


def autoencoded(p, x=X):
    code = largest(pre(p, x).relu(), K)
    return code, code @ p["W_dec"] + p["b_dec"]


@pytest.mark.parametrize("m", [M, 4], ids=["wide", "narrow"])
def test_the_decoder_is_read_either_way_by_its_shape(tmp_path, m):
    p = parts(m=m)
    code, y = autoencoded(p)
    assert computes(load_coder(saved(tmp_path / "as_saved", p)), code, y)
    assert computes(load_coder(saved(tmp_path / "turned", p, W_dec=p["W_dec"].T)), code, y)


def test_decoder_orientation_is_not_guessed_from_rows_and_columns(tmp_path):
    """As many latents as channels: the shape says nothing, and the format's own layout, a row a latent, decides."""
    p = parts(m=D)
    assert computes(load_coder(saved(tmp_path, p)), *autoencoded(p))


def test_a_transcoder_does_not_centre(tmp_path):
    p, skip = parts(), numbers(D, D, seed=6)
    code = largest(pre(p, centred=False).relu(), K)
    y = code @ p["W_dec"] + p["b_dec"]
    coder = load_coder(saved(tmp_path / "layers.5.mlp", p, transcode=True, skip_connection=False))
    assert computes(coder, code, y)
    assert (coder.config.site_in, coder.config.site_out) == ("layers.5.mlp.input", "layers.5.mlp.output")
    skipping = load_coder(
        saved(tmp_path / "layers.5.mlp" / "seed0", p, W_skip=skip, transcode=True, skip_connection=True)
    )
    assert computes(skipping, code, y + X @ skip.T)
    assert skipping.config.site_in == "layers.5.mlp.input"


def test_the_folder_names_the_site_and_the_run_its_model(tmp_path):
    settings(tmp_path / "run" / "config.json", model="EleutherAI/pythia-70m")
    for name, site in (
        ("layers.5", "L5.resid_post"),
        ("h.3", "L3.resid_post"),
        ("h.3.attn", "h.3.attn.output"),
        ("best", ""),
    ):
        config = load_coder(saved(tmp_path / "run" / name, parts())).config
        assert (config.site_in, config.site_out, config.model) == (site, site, "EleutherAI/pythia-70m")


def test_an_early_file_says_less(tmp_path):
    p = parts(m=2 * D)
    folder = saved(tmp_path, p)
    settings(folder / "cfg.json", d_in=D, k=K, expansion_factor=2, normalize_decoder=True)
    assert computes(load_coder(folder), *autoencoded(p))


REFUSED = {
    "groupmax": ({"activation": "groupmax"}, "activation is 'groupmax'"),
    "signed": ({"signed": True}, "ranks by magnitude"),
    "another number of latents": ({"num_latents": 15}, "says 15 latents, and encoder.bias has 14"),
    "another expansion": ({"num_latents": 0, "expansion_factor": 4}, "says 24 latents, and encoder.bias has 14"),
    "another width": ({"d_in": 5}, "says d_in = 5, and its tensors say 6"),
    "a skip that is not there": ({"skip_connection": True}, "missing: W_skip"),
}


@pytest.mark.parametrize(("more", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, more, words):
    with pytest.raises(FormatError, match=words):
        load_coder(saved(tmp_path, parts(), **more))


def test_a_decoder_that_lies_neither_way_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"wanted W_dec \[14, 6\], got \[7, 12\]"):
        load_coder(saved(tmp_path, parts(), W_dec=torch.ones(7, 12)))
