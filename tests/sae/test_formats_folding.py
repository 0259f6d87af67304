"""Folding changes parameters and not the function; where it would, it is refused."""

import math

import pytest
import torch
from tests.sae.coder_files import OUT, D, M, X, numbers

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.formats import coder_digest, folding

KINDS = {
    "relu": CoderConfig("relu", D, M),
    "uncentred": CoderConfig("relu", D, M, centre_input=False),
    "topk": CoderConfig("topk", D, M, k=3),
    "signed": CoderConfig("topk", D, M, k=M - 2, signed=True),
    "batchtopk": CoderConfig("batchtopk", D, M, k=3),
    "jumprelu": CoderConfig("jumprelu", D, M),
    "gated": CoderConfig("gated", D, M),
    "routed": CoderConfig("routed", D, M, k=2, n_experts=3),
    "skip": CoderConfig("jumprelu", D, M, skip=True),
    "transcoder": CoderConfig("relu", D, M, d_out=OUT, centre_input=False, skip=True),
}
FREE = [name for name in KINDS if name not in ("topk", "signed", "routed")]


def coder_of(name, *, unit=False):
    coder = Coder(KINDS[name]).requires_grad_(False)
    for seed, (key, tensor) in enumerate(coder.state_dict().items()):
        tensor.copy_(numbers(*tensor.shape, seed=seed) if key != "threshold" else 0.1 + numbers(*tensor.shape).abs())
    if unit:
        coder.W_dec.div_(coder.W_dec.norm(dim=1, keepdim=True))
    return coder


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", FREE)
def test_normalising_the_decoder_does_not_change_the_function(name):
    coder = coder_of(name)
    coder.W_dec[2] = 0
    before, norms = coder_digest(coder), coder.W_dec.norm(dim=1)
    unit = folding.with_unit_decoder(coder)
    same(unit.W_dec.norm(dim=1), (norms > 0).float())
    same(unit(X), coder(X))
    factor = torch.where(norms > 0, norms, 1.0)
    same(unit.encode(X).dense(), coder.encode(X).dense() * factor)
    assert coder_digest(coder) == before, "the coder that is given stays as it is"
    assert unit.config.architecture == ("jumprelu" if name == "batchtopk" else KINDS[name].architecture)


@pytest.mark.parametrize("name", ["topk", "signed", "routed"])
def test_normalising_is_refused_where_it_would_choose_other_latents(name):
    with pytest.raises(CoderError, match="would change which latents are the k largest"):
        folding.with_unit_decoder(coder_of(name))
    equal = coder_of(name, unit=True)
    equal.W_dec.mul_(0.5)
    equal.W_dec[1] = 0
    unit = folding.with_unit_decoder(equal)
    same(unit(X), equal(X))
    same(unit.W_dec.norm(dim=1)[2:], torch.ones(M - 2))


def test_normalising_by_hand():
    """One latent of norm 5 that reads 2 x + 1 above 3: in units of its row it reads 10 x + 5 above 15."""
    coder = Coder(CoderConfig("jumprelu", 1, 1, d_out=2, centre_input=False)).requires_grad_(False)
    coder.encoder.fill_(2)
    coder.b_enc.fill_(1)
    coder.threshold.fill_(3)
    coder.W_dec.copy_(torch.tensor([[3.0, 4.0]]))
    unit = folding.with_unit_decoder(coder)
    assert (unit.encoder.item(), unit.b_enc.item(), unit.threshold.item()) == (10, 5, 15)
    x = torch.tensor([[1.0], [1.5]])  # at 1 the pre-activation is the threshold itself, and does not pass
    assert unit.encode(x).dense().tolist() == [[0.0], [20.0]]
    assert unit(x).tolist() == coder(x).tolist() == [[0.0, 0.0], [12.0, 16.0]]


def test_batchtopk_without_a_threshold_is_not_normalised():
    coder = coder_of("batchtopk")
    coder.threshold.fill_(math.nan)
    with pytest.raises(CoderError, match="no threshold yet"):
        folding.with_unit_decoder(coder)


def test_factors_of_latents():
    coder = coder_of("relu")
    with pytest.raises(CoderError, match="would remove a latent that writes something"):
        folding.rescaled(coder, torch.zeros(M))
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(CoderError, match="finite factors that are not negative"):
            folding.rescaled(coder, torch.full((M,), wrong))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("s", "r"), [(0.25, None), (0.25, 3.0)])
def test_a_scale_is_folded(name, s, r):
    coder = coder_of(name)
    raw = folding.scaled(coder, s, r)
    same(raw.encode(X).dense(), coder.encode(s * X).dense())
    same(raw(X), coder(s * X) / (s if r is None else r))


def test_a_scale_that_is_none_is_refused():
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(CoderError, match="positive factors"):
            folding.scaled(coder_of("relu"), wrong)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "routed"])
def test_reading_raw_activations_where_centred_ones_were_meant(name):
    coder, raw = coder_of(name), X + 2.0
    centred = raw - raw.mean(1, keepdim=True)
    folded = folding.input_centred(coder)
    same(folded.encode(raw).dense(), coder.encode(centred).dense())
    same(folded(raw), coder(centred))
    same(folded(centred), coder(centred))


def test_a_router_is_not_centred():
    with pytest.raises(CoderError, match="router"):
        folding.input_centred(coder_of("routed"))


@pytest.mark.parametrize("name", KINDS)
def test_the_bias_can_take_what_was_taken_off_the_input(name):
    coder = coder_of(name)
    folded = folding.not_centring(coder)
    assert not folded.config.centre_input
    same(folded.encode(X).dense(), coder.encode(X).dense())
    same(folded(X), coder(X))


@pytest.mark.parametrize("name", ["relu", "uncentred", "topk", "gated", "jumprelu"])
def test_whitening_is_folded(name):
    coder = coder_of(name)
    mean, matrix = numbers(D, seed=3), torch.eye(D) + 0.1 * numbers(D, D, seed=4)
    inverse = torch.linalg.inv(matrix.double())
    raw = folding.whitened(coder, mean, matrix, inverse)
    white = (X - mean) @ matrix
    same(raw.encode(X).dense(), coder.encode(white).dense())
    same(raw(X), (coder(white).double() @ inverse + mean).float())


def test_a_transcoder_is_not_whitened():
    with pytest.raises(CoderError, match="writes another space"):
        folding.whitened(coder_of("transcoder"), torch.zeros(D), torch.eye(D), torch.eye(D))
