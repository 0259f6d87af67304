"""Bare state dicts: what they compute follows from their layout and from what is said beside them, never from a guess."""

import re

import pytest
import torch
from safetensors.torch import save_file
from tests.sae.coder_files import D, M, X, computes, jump, largest, numbers, parts, pre

from trialplate.sae.errors import CoderError, FormatError
from trialplate.sae.formats import describe, load_coder
from trialplate.sae.formats.state_dict import read

K = 3


def layout_a(p, bias=False):
    tensors = {"encoder.weight": p["W_enc"].T, "encoder.bias": p["b_enc"], "decoder.weight": p["W_dec"].T}
    return tensors | ({"decoder.bias": p["b_dec"]} if bias else {})


def layout_b(p, *names):
    return {name: p[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec", *names)}


def saved(path, content):
    torch.save(content, path)
    return path


def test_the_function_that_was_trained_is_the_function_that_is_evaluated(tmp_path):
    """A native topk coder keeps its k largest pre-activations as they are and takes nothing off its input; read as a relu coder that centres, it is another."""
    p = parts()
    z = X @ p["W_enc"] + p["b_enc"]
    code = largest(z, M - 2)
    assert (code < 0).any(), "negative latents must survive here"
    path = saved(tmp_path / "sae_final.pt", {"model_state_dict": layout_a(p), "architecture": "topk", "k": M - 2})
    coder = load_coder(path)
    assert coder.config.signed
    assert computes(coder, code, code @ p["W_dec"])


@pytest.mark.parametrize("m", [M, 4, D], ids=["wide", "narrow", "square"])
def test_decoder_orientation_is_not_guessed_from_rows_and_columns(tmp_path, m):
    p = parts(m=m)
    code = pre(p).relu()
    coder = read(saved(tmp_path / "b.pt", layout_b(p)), architecture="relu")
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])
    code = pre(p, centred=False).relu()
    coder = read(saved(tmp_path / "a.pt", layout_a(p, bias=True)), architecture="relu")
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])


@pytest.mark.parametrize("m", [M, 4], ids=["wide", "narrow"])
def test_matrices_that_lie_the_other_way_are_turned(tmp_path, m):
    p = parts(m=m)
    code = pre(p).relu()
    turned = layout_b(p) | {"W_enc": p["W_enc"].T, "W_dec": p["W_dec"].T}
    coder = read(saved(tmp_path / "b.pt", turned), architecture="relu")
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])


@pytest.mark.parametrize("container", ["model_state_dict", "sae_state_dict"])
@pytest.mark.parametrize("beside", ["top", "config", "metadata"])
def test_containers(tmp_path, container, beside):
    p = parts()
    said = {"architecture": "Top-K", "k": K, "d_model": D, "d_sae": M, "hook_name": "blocks.0.hook_resid_pre"}
    content = {container: layout_b(p), "optimizer_state_dict": {"lr": 0.1}} | (
        said if beside == "top" else {beside: said}
    )
    code = largest(pre(p).relu(), K)
    coder = load_coder(saved(tmp_path / "any.pt", content))
    assert computes(coder, code, code @ p["W_dec"] + p["b_dec"])
    assert coder.config.site_in == "blocks.0.hook_resid_pre"


def test_k_alone_is_topk_and_with_one_threshold_batchtopk(tmp_path):
    p = parts()
    k = {"k": torch.tensor(K)}
    code = largest(pre(p).relu(), K)
    assert computes(load_coder(saved(tmp_path / "a.pt", layout_b(p) | k)), code, code @ p["W_dec"] + p["b_dec"])
    code = jump(pre(p), 0.4)
    with_one = layout_b(p) | k | {"threshold": torch.tensor(0.4)}
    assert computes(load_coder(saved(tmp_path / "b.pt", with_one)), code, code @ p["W_dec"] + p["b_dec"])
    never = load_coder(saved(tmp_path / "c.pt", with_one | {"threshold": torch.tensor(-1.0)}))
    with pytest.raises(CoderError, match="no threshold yet"):
        never.encode(X)


def test_thresholds_alone_are_jumprelu(tmp_path):
    p = parts()
    code = jump(pre(p), p["threshold"])
    y = code @ p["W_dec"] + p["b_dec"]
    assert computes(load_coder(saved(tmp_path / "a.pt", layout_b(p, "threshold"))), code, y)
    logs = layout_b(p) | {"log_threshold": p["threshold"].log()}
    assert computes(load_coder(saved(tmp_path / "b.pt", logs)), code, y)
    with pytest.raises(FormatError, match="threshold or log_threshold of a jumprelu coder, one of them"):
        load_coder(saved(tmp_path / "c.pt", logs | {"threshold": p["threshold"]}))


def test_a_missing_b_dec_is_zero(tmp_path):
    p = parts() | {"b_dec": torch.zeros(D)}
    tensors = layout_b(p)
    del tensors["b_dec"]
    save_file(tensors, tmp_path / "weights.safetensors")
    code = pre(p).relu()
    assert computes(read(tmp_path / "weights.safetensors", architecture="standard"), code, code @ p["W_dec"])


def test_dead_rows_stay_dead_and_are_reported(tmp_path):
    """No repair: a row that is made one-hot, or normalised, is another function."""
    p = parts()
    p["W_dec"][[2, 5]] = 0
    code = pre(p).relu()
    path = saved(tmp_path / "a.pt", {"model_state_dict": layout_b(p), "architecture": "relu"})
    assert computes(load_coder(path), code, code @ p["W_dec"] + p["b_dec"])
    assert describe(path).zero_decoder == 2


def test_four_tensors_alone_are_not_guessed(tmp_path):
    with pytest.raises(FormatError, match="nothing says whether this is a relu or a topk coder"):
        load_coder(saved(tmp_path / "a.pt", layout_a(parts())))


REFUSED = {
    "routed": ({"architecture": "routed"}, "no coder of a bare state dict is 'routed'"),
    "no k": ({"architecture": "topk"}, "no 'k'"),
    "another width": ({"architecture": "relu", "d_sae": 15}, "says d_sae = 15, and its tensors say 14"),
    "another model": ({"architecture": "relu", "d_model": 7}, "says d_model = 7, and its tensors say 6"),
}


@pytest.mark.parametrize(("said", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, said, words):
    with pytest.raises(FormatError, match=words):
        load_coder(saved(tmp_path / "a.pt", {"model_state_dict": layout_b(parts()), **said}))


def test_refused_for_their_tensors(tmp_path):
    p = parts()
    with pytest.raises(FormatError, match=r"unknown: router\.weight"):
        read(saved(tmp_path / "a.pt", layout_a(p) | {"router.weight": numbers(2, D)}), architecture="topk", k=K)
    with pytest.raises(FormatError, match="jumprelu needs a threshold, and layout A has none"):
        read(saved(tmp_path / "b.pt", layout_a(p)), architecture="jump-relu")
    with pytest.raises(FormatError, match=r"wanted W_enc to have a side of 14, the number of latents, got \[6, 13\]"):
        read(saved(tmp_path / "c.pt", layout_b(p) | {"W_enc": numbers(6, 13)}), architecture="relu")
    with pytest.raises(FormatError, match="holds model_state_dict and sae_state_dict; which of them"):
        load_coder(saved(tmp_path / "d.pt", {"model_state_dict": {}, "sae_state_dict": {}}))
    with pytest.raises(FormatError, match=r"wanted b_enc in floating point, got torch\.int64"):
        read(saved(tmp_path / "e.pt", layout_b(p) | {"b_enc": torch.zeros(M, dtype=torch.long)}), architecture="relu")
    both = layout_b(p) | {"k": torch.tensor(4)}
    with pytest.raises(FormatError, match="says k = 3, and its tensors say 4"):
        load_coder(saved(tmp_path / "f.pt", {"model_state_dict": both, "architecture": "topk", "k": K}))


@pytest.mark.parametrize("content", [b"e", b"\x80\x02e.", b"no torch file"], ids=["a byte", "torn", "text"])
def test_damage_is_said_in_words_and_without_a_warning(content, tmp_path, recwarn):
    """The defect: "not a readable torch file: 101.", under a warning of torch about an option that is always set."""
    (tmp_path / "sae.pt").write_bytes(content)
    with pytest.raises(FormatError) as refusal:
        load_coder(tmp_path / "sae.pt")
    assert not recwarn.list
    assert not re.search(r": \d+\.", str(refusal.value))
