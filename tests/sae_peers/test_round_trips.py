"""What we write, the project itself loads and computes the same; what it writes, we load and compute the same. float32, 1e-6 of the largest value."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.formats import load_coder
from trialplate.sae.formats.folding import with_unit_decoder
from trialplate.sae.formats.saelens import write

D, M, OUT, N = 16, 48, 10, 400
TOLERANCE = 1e-6

OURS = {
    "our_relu": CoderConfig("relu", D, M, site_in="L1.resid_post", site_out="L1.resid_post", model="gpt2"),
    "our_topk": CoderConfig("topk", D, M, k=5),
    "our_uncentred_topk": CoderConfig("topk", D, M, k=5, centre_input=False),
    "our_batchtopk": CoderConfig("batchtopk", D, M, k=5),
    "our_matryoshka": CoderConfig("batchtopk", D, M, k=5, prefixes=(12, 24)),
    "our_jumprelu": CoderConfig("jumprelu", D, M),
    "our_gated": CoderConfig("gated", D, M),
    "our_transcoder": CoderConfig("relu", D, M, d_out=OUT, centre_input=False),
    "our_skip_transcoder": CoderConfig("relu", D, M, d_out=OUT, centre_input=False, skip=True),
    "our_jumprelu_transcoder": CoderConfig("jumprelu", D, M, d_out=OUT, centre_input=False),
    "our_jumprelu_skip_transcoder": CoderConfig("jumprelu", D, M, d_out=OUT, centre_input=False, skip=True),
    "our_centring_transcoder": CoderConfig("relu", D, M, site_in="L1.resid_mid", site_out="L1.mlp_out"),
}
NOT_THEIRS = {
    "signed_topk": CoderConfig("topk", D, M, k=5, signed=True),
    "topk_transcoder": CoderConfig("topk", D, M, k=5, d_out=OUT, centre_input=False),
    "routed": CoderConfig("routed", D, M, k=5, n_experts=4),
}
SAELENS = [
    *("standard", "standard_uncentred", "topk", "topk_by_norm", "jumprelu", "gated"),
    *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
    *("trained_topk", "trained_topk_inference", "trained_batchtopk", "trained_batchtopk_inference"),
    *("scaled_topk", "scaled_topk_inference", "scaled_batchtopk", "scaled_batchtopk_inference"),
    *("trained_matryoshka", "trained_matryoshka_inference", "whitened", "flat", "flat_topk"),
    "ours_changed",
]
SPARSIFY = ["autoencoder", "narrow", "square", "transcoder", "skip_transcoder", "skip_autoencoder"]
DICTIONARY_LEARNING = [
    *("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder"),
    *("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"),
]


@torch.no_grad()
def random_coder(config, seed):
    generator = torch.Generator().manual_seed(seed)
    coder = initialise(Coder(config), generator)
    for name, tensor in coder.state_dict().items():
        if name == "threshold":
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        elif tensor.ndim == 1 or name == "W_skip":
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator))
    return coder.requires_grad_(False)


def rows():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def saelens(tmp_path_factory, drive):
    folder = tmp_path_factory.mktemp("saelens")
    save_file({"x": rows()}, folder / "x.safetensors")
    for seed, (name, config) in enumerate(OURS.items()):
        write(random_coder(config, seed), folder / "ours" / name)
    for name, config in NOT_THEIRS.items():
        write(random_coder(config, 0), folder / "not_theirs" / name)
    drive("saelens", folder)
    return folder


@pytest.fixture(scope="module")
def sparsify(tmp_path_factory, drive):
    folder = tmp_path_factory.mktemp("sparsify")
    save_file({"x": rows()}, folder / "x.safetensors")
    drive("sparsify", folder)
    return folder


@pytest.fixture(scope="module")
def dictionary_learning(tmp_path_factory, drive):
    folder = tmp_path_factory.mktemp("dictionary_learning")
    save_file({"x": rows()}, folder / "x.safetensors")
    drive("dictionary_learning", folder)
    return folder


def agree(coder, said, measured):
    """Compare codes and outputs: the largest difference, of the largest value."""
    theirs = load_file(said)
    latents = coder.encode(rows())
    for name, ours in (("code", latents.dense()), ("y", coder(rows()))):
        assert theirs[name].abs().max() > 0, "a coder that computes nothing shows nothing"
        off = float((ours - theirs[name]).abs().max() / theirs[name].abs().max())
        measured(name, off)
        assert off <= TOLERANCE, name
    assert torch.equal(latents.dense() != 0, theirs["code"] != 0), "other latents are active"


@pytest.mark.parametrize("name", OURS)
def test_saelens_computes_what_we_wrote(saelens, name, measured):
    seed = list(OURS).index(name)
    agree(random_coder(OURS[name], seed), saelens / "said" / f"{name}.safetensors", measured)


@pytest.mark.parametrize("name", SAELENS)
def test_we_compute_what_saelens_wrote(saelens, name, measured):
    agree(load_coder(saelens / "theirs" / name), saelens / "said" / f"{name}.safetensors", measured)


@pytest.mark.parametrize("name", SPARSIFY)
def test_we_compute_what_sparsify_wrote(sparsify, name, measured):
    coder = load_coder(sparsify / "theirs" / name / "layers.5.mlp")
    agree(coder, sparsify / "said" / f"{name}.safetensors", measured)


@pytest.mark.parametrize("name", DICTIONARY_LEARNING)
def test_we_compute_what_dictionary_learning_wrote(dictionary_learning, name, measured):
    coder = load_coder(dictionary_learning / "theirs" / name)
    if name == "AutoEncoder":
        coder = with_unit_decoder(coder)  # its class does that when it loads
    agree(coder, dictionary_learning / "said" / f"{name}.safetensors", measured)


def test_saelens_refuses_what_it_has_no_coder_for(saelens):
    refused = json.loads((saelens / "refused.json").read_text())
    assert sorted(refused) == sorted(NOT_THEIRS)
    for name, said in refused.items():
        assert f"trialplate_{name}" in said
        assert load_coder(saelens / "not_theirs" / name).config == NOT_THEIRS[name]


def test_thresholds_that_saelens_changed_are_kept(saelens):
    config = load_coder(saelens / "theirs" / "ours_changed").config
    assert (config.architecture, config.k, config.prefixes) == ("jumprelu", None, (12, 24))
