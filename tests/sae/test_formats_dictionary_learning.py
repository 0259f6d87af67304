"""Files of dictionary_learning: every class computes what its own code does."""

import pytest
import torch
from tests.sae.coder_files import D, M, X, computes, jump, largest, numbers, parts, pre, settings

from trialplate.sae.errors import CoderError, FormatError
from trialplate.sae.formats import describe, load_coder

K, LEVEL = 3, 0.4


def saved(folder, dict_class, tensors, nested=False, **more):
    trainer = {
        "dict_class": dict_class,
        "activation_dim": D,
        "dict_size": M,
        "lm_name": "EleutherAI/pythia-70m",
        "layer": 3,
    }
    settings(
        folder / "config.json",
        trainer={**trainer, "submodule_name": "resid_post_layer_3", **more},
        buffer={"ctx_len": 128},
    )
    torch.save({"ae": tensors} if nested else tensors, folder / "ae.pt")
    return folder


def linear(p, bias="bias"):
    return {
        "encoder.weight": p["W_enc"].T,
        "encoder.bias": p["b_enc"],
        "decoder.weight": p["W_dec"].T,
        bias: p["b_dec"],
    }


def written(p, code):
    return code @ p["W_dec"] + p["b_dec"]


def top(p, k=K, threshold=LEVEL):
    return {**linear(p, "b_dec"), "k": torch.tensor(k, dtype=torch.int), "threshold": torch.tensor(threshold)}


@pytest.mark.parametrize("nested", [False, True])
def test_autoencoder(tmp_path, nested):
    p = parts()
    code = pre(p).relu()
    coder = load_coder(saved(tmp_path, "AutoEncoder", linear(p), nested))
    assert computes(coder, code, written(p, code))
    assert (coder.config.site_in, coder.config.model) == ("L3.resid_post", "EleutherAI/pythia-70m")


def test_autoencoder_new_does_not_centre(tmp_path):
    p = parts()
    code = pre(p, centred=False).relu()
    assert computes(load_coder(saved(tmp_path, "AutoEncoderNew", linear(p, "decoder.bias"))), code, written(p, code))


def test_gated(tmp_path):
    p = parts()
    gate, mag, r = (numbers(M, seed=seed) for seed in (6, 7, 8))
    z = (X - p["b_dec"]) @ p["W_enc"]
    code = (r.exp() * z + mag).relu() * (z + gate > 0)
    tensors = linear(p, "decoder_bias") | {"gate_bias": gate, "mag_bias": mag, "r_mag": r}
    del tensors["encoder.bias"]
    assert computes(load_coder(saved(tmp_path, "GatedAutoEncoder", tensors)), code, written(p, code))


def test_jumprelu_does_not_centre(tmp_path):
    p = parts()
    code = jump(pre(p, centred=False), p["threshold"])
    assert computes(load_coder(saved(tmp_path, "JumpReluAutoEncoder", p)), code, written(p, code))


@pytest.mark.parametrize("threshold", [-1.0, LEVEL])
def test_topk_takes_the_largest_whatever_its_threshold(tmp_path, threshold):
    p = parts()
    code = largest(pre(p).relu(), K)
    assert computes(
        load_coder(saved(tmp_path, "AutoEncoderTopK", top(p, threshold=threshold), k=K)), code, written(p, code)
    )


def test_batchtopk_uses_its_threshold(tmp_path):
    p = parts()
    code = jump(pre(p), LEVEL)
    coder = load_coder(saved(tmp_path, "BatchTopKSAE", top(p), k=K))
    assert computes(coder, code, written(p, code))
    assert coder.config.k == K


def test_matryoshka(tmp_path):
    p = parts()
    code = jump(pre(p), LEVEL)
    tensors = {n: p[n] for n in ("W_enc", "b_enc", "W_dec", "b_dec")} | {n: top(p)[n] for n in ("k", "threshold")}
    coder = load_coder(
        saved(tmp_path, "MatryoshkaBatchTopKSAE", tensors | {"group_sizes": torch.tensor([2, 4, 8])}, k=K)
    )
    assert computes(coder, code, written(p, code))
    assert coder.config.prefixes == (2, 6)
    with pytest.raises(FormatError, match="group_sizes end at 13, and there are 14 latents"):
        load_coder(
            saved(tmp_path / "short", "MatryoshkaBatchTopKSAE", tensors | {"group_sizes": torch.tensor([5, 8])}, k=K)
        )


def test_a_threshold_that_was_never_estimated_is_none(tmp_path):
    folder = saved(tmp_path, "BatchTopKSAE", top(parts(), threshold=-1.0), k=K)
    said = describe(folder)
    assert not said.has_threshold
    assert said.notes == ("its threshold was never estimated; fit one before use",)
    with pytest.raises(CoderError, match="no threshold yet"):
        load_coder(folder).encode(X)


def test_a_snapshot_below_its_run(tmp_path):
    p = parts()
    folder = saved(tmp_path, "AutoEncoder", linear(p))
    (folder / "checkpoints").mkdir()
    q = parts(seed=20)
    snapshot = folder / "checkpoints" / "ae_500.pt"
    torch.save(linear(q), snapshot)
    code = pre(q).relu()
    assert computes(load_coder(snapshot), code, written(q, code))
    assert describe(snapshot).format == "dictionary_learning"


def test_as_many_latents_as_channels(tmp_path):
    p = parts(m=D)
    code = pre(p).relu()
    coder = load_coder(saved(tmp_path, "AutoEncoder", linear(p), dict_size=D))
    assert computes(coder, code, written(p, code))


def test_refused(tmp_path):
    p = parts()
    with pytest.raises(FormatError, match="no coder here is a 'IdentityDict'"):
        load_coder(saved(tmp_path / "a", "IdentityDict", linear(p)))
    with pytest.raises(FormatError, match=r"missing: decoder\.bias; unknown: bias"):
        load_coder(saved(tmp_path / "b", "AutoEncoderNew", linear(p)))
    with pytest.raises(FormatError, match="says dict_size = 99"):
        load_coder(saved(tmp_path / "c", "AutoEncoder", linear(p), dict_size=99))
    with pytest.raises(FormatError, match="says k = 4, and its tensors say 3"):
        load_coder(saved(tmp_path / "d", "AutoEncoderTopK", top(p), k=4))
    with pytest.raises(FormatError, match="no 'dict_class'"):
        settings(tmp_path / "e" / "config.json", trainer={})
        torch.save(linear(p), tmp_path / "e" / "ae.pt")
        load_coder(tmp_path / "e")
