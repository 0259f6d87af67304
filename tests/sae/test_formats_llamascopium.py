"""Files of Llamascopium, with the names of both generations."""

import math

import pytest
import torch
from safetensors.torch import save_file
from tests.sae.coder_files import D, M, X, computes, jump, largest, parts, pre, settings

from trialplate.sae.errors import CoderError, FormatError
from trialplate.sae.formats import load_coder

IN, OUT = "blocks.5.hook_resid_pre", "blocks.5.hook_mlp_out"
NORM_IN, NORM_OUT = 4.0, 9.0
SAID = {
    "sae_type": "sae",
    "hook_point_in": IN,
    "hook_point_out": OUT,
    "d_model": D,
    "expansion_factor": M / D,
    "use_decoder_bias": True,
    "act_fn": "jumprelu",
    "norm_activation": "inference",
    "sparsity_include_decoder_norm": True,
    "top_k": 3,
    "use_glu_encoder": False,
}


def new(p, threshold=True):
    tensors = {"W_E": p["W_enc"], "b_E": p["b_enc"], "W_D": p["W_dec"], "b_D": p["b_dec"]}
    return tensors | ({"activation_function.log_jumprelu_threshold": p["threshold"].log()} if threshold else {})


def older(p):
    return {
        "encoder.weight": p["W_enc"].T.contiguous(),
        "encoder.bias": p["b_enc"],
        "decoder.weight": p["W_dec"].T.contiguous(),
        "decoder.bias": p["b_dec"],
        "log_jumprelu_threshold": p["threshold"].log(),
    }


def saved(folder, tensors, **more):
    settings(folder / "config.json", **{**SAID, **more})
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def encoded(p, by_norm, x=X):
    """What the project's code does: scale by the norm, let through, scale back."""
    norm = p["W_dec"].norm(dim=1) if by_norm else torch.ones(M)
    return jump(pre(p, x, centred=False) * norm, p["threshold"]) / norm


@pytest.mark.parametrize("layout", [new, older])
@pytest.mark.parametrize("by_norm", [True, False])
def test_jumprelu(tmp_path, layout, by_norm):
    p = parts()
    code = encoded(p, by_norm)
    coder = load_coder(saved(tmp_path, layout(p), sparsity_include_decoder_norm=by_norm))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])
    assert (coder.config.site_in, coder.config.site_out) == ("L5.resid_pre", "L5.mlp_out")


@pytest.mark.parametrize("where", ["tensors", "config"])
def test_the_scale_of_the_data_is_folded(tmp_path, where):
    p = parts()
    s, r = math.sqrt(D) / NORM_IN, math.sqrt(D) / NORM_OUT
    norms = {IN: torch.tensor(NORM_IN), OUT: torch.tensor(NORM_OUT)} if where == "tensors" else {}
    tensors = new(p) | {f"dataset_average_activation_norm.{hook}": norm for hook, norm in norms.items()}
    more = {"dataset_average_activation_norm": {"in": NORM_IN, "out": NORM_OUT}} if where == "config" else {}
    code = encoded(p, True, s * X)
    coder = load_coder(saved(tmp_path, tensors, norm_activation="dataset-wise", **more))
    assert computes(coder, code, (code @ p["W_dec"] + p["b_dec"]) / r)


def test_topk_is_counted_in_units_of_its_rows(tmp_path):
    p = parts()
    norm = p["W_dec"].norm(dim=1)
    code = largest((pre(p, centred=False) * norm).relu(), 3)
    coder = load_coder(saved(tmp_path, new(p, threshold=False), act_fn="topk"))
    assert computes(coder, code, (code / norm) @ p["W_dec"] + p["b_dec"])
    assert "units of their decoder row" in coder.config.about["notes"][0]
    plain = load_coder(
        saved(tmp_path / "plain", new(p, threshold=False), act_fn="topk", sparsity_include_decoder_norm=False)
    )
    code = largest(pre(p, centred=False).relu(), 3)
    assert computes(plain, code, code @ p["W_dec"] + p["b_dec"])


def test_relu_without_a_bias_in_a_torch_file(tmp_path):
    p = parts() | {"b_dec": torch.zeros(D)}
    tensors = new(p, threshold=False)
    del tensors["b_D"]
    settings(tmp_path / "config.json", **{**SAID, "act_fn": "relu", "use_decoder_bias": False})
    torch.save({"sae": tensors, "version": "2.1"}, tmp_path / "sae_weights.pt")
    code = pre(p, centred=False).relu()
    assert computes(load_coder(tmp_path), code, code @ p["W_dec"])


def test_batchtopk_has_no_threshold_in_these_files(tmp_path):
    p = parts()
    coder = load_coder(saved(tmp_path, new(p, threshold=False), act_fn="batchtopk"))
    with pytest.raises(CoderError, match="no threshold yet"):
        coder.encode(X)
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(M))


REFUSED = {
    "another dictionary": ({"sae_type": "crosscoder"}, "sae_type is 'crosscoder'"),
    "gated linear units": ({"use_glu_encoder": True}, "pre-activations times a sigmoid"),
    "another activation": ({"act_fn": "layertopk"}, "act_fn is 'layertopk'"),
    "token-wise": ({"norm_activation": "token-wise"}, "norm_activation is 'token-wise', a function of the token"),
    "no norm": ({"norm_activation": "dataset-wise"}, "the mean norm at 'blocks.5.hook_resid_pre' is None"),
    "another width": ({"expansion_factor": 4}, "says 4 times 6 latents, and b_E has 14"),
    "no activation": ({"act_fn": "relu"}, "unknown: activation_function.log_jumprelu_threshold"),
}


@pytest.mark.parametrize(("more", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, more, words):
    with pytest.raises(FormatError, match=words):
        load_coder(saved(tmp_path, new(parts()), **more))
