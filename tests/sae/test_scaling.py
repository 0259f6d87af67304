"""What was trained on scaled rows computes the same on raw ones, for every architecture, and its decoder rows keep their length."""

import math

import pytest
import torch
from tests.sae.coders import drawn, random_coder

from trialplate.sae.errors import TrainingError
from trialplate.sae.scaling import Scales, folded, geometric_median, measure
from trialplate.sae.source import from_tensor

AUTOENCODERS = {
    "relu": {},
    "topk": {},
    "signed": {"signed": True},
    "batchtopk": {},
    "jumprelu": {},
    "routed": {"n_experts": 3},
}
S, R = 7.3, 0.21


def trained(kind, **more):
    coder = random_coder("topk" if kind == "signed" else kind, **AUTOENCODERS[kind] | more)
    if kind == "jumprelu":
        with torch.no_grad():
            coder.threshold.copy_(0.3 + drawn(24, seed=8).abs())
    if kind == "routed":
        with torch.no_grad():
            coder.b_router.copy_(drawn(3, seed=8))
    return coder


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_an_autoencoder_on_raw_rows_is_what_was_trained_on_scaled_ones(kind, centred):
    coder, x = trained(kind, centre_input=centred), drawn(40, 8, seed=4) / S
    raw = folded(coder, Scales(S, S))
    scaled, found = coder.encode(x * S), raw.encode(x)
    assert int(scaled.active().sum()) > 40
    torch.testing.assert_close(found.dense() * S, scaled.dense(), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.dense() != 0, scaled.dense() != 0)
    torch.testing.assert_close(raw(x) * S, coder(x * S), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_a_transcoder_has_a_scale_on_either_side(kind, skip):
    more = {"d_out": 5, "centre_input": False, "skip": skip, "site_in": "a", "site_out": "b"}
    coder, x = trained(kind, **more), drawn(40, 8, seed=4) / S
    if skip:
        coder.W_skip.copy_(drawn(5, 8, seed=6))
    raw = folded(coder, Scales(S, R))
    torch.testing.assert_close(raw.encode(x).dense() * R, coder.encode(x * S).dense(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(raw(x) * R, coder(x * S), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_decoder_rows_keep_their_length(kind):
    coder = trained(kind)
    assert torch.equal(folded(coder, Scales(S, S)).W_dec, coder.W_dec)


def test_folding_does_not_touch_what_goes_on_learning():
    coder = trained("jumprelu")
    before = {name: value.clone() for name, value in coder.state_dict().items()}
    folded(coder, Scales(S, S))
    assert all(torch.equal(value, before[name]) for name, value in coder.state_dict().items())


def test_two_scales_need_an_input_that_is_not_centred():
    with pytest.raises(TrainingError, match="one scale for both sides"):
        folded(trained("topk"), Scales(S, R))


def test_measured_by_hand():
    # squared norms 25 and 1: mean 13; targets (1, 1) and (3, -1): mean (2, 0), squared norms 2 and 10
    source = from_tensor(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[1.0, 1.0], [3.0, -1.0]]), name="two")
    found = measure(source)
    assert (found.input, found.target, found.mean.tolist()) == (13.0, 6.0, [2.0, 0.0])
    assert found.scales(2, 2) == Scales(math.sqrt(2 / 13), math.sqrt(2 / 6))


def test_scaled_rows_have_as_much_in_them_as_channels():
    x = 50 * drawn(300, 8) + 20
    s = measure(from_tensor(x, name="x")).scales(8, 8)
    assert s.input == s.target
    assert float((x * s.input).double().square().sum(1).mean()) == pytest.approx(8, rel=1e-6)


def test_rows_of_zeros_have_no_scale():
    with pytest.raises(TrainingError, match="cannot be scaled"):
        measure(from_tensor(torch.zeros(3, 2), name="zeros")).scales(2, 2)


def test_the_geometric_median_is_where_distances_are_least():
    # on a line it is the median: one row far away moves the mean and not this
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1000.0, 0.0]])
    torch.testing.assert_close(
        geometric_median(line, rounds=2000, tolerance=1e-9), torch.tensor([1.0, 0.0]).double(), atol=0.05, rtol=0
    )
    rows = drawn(60, 3).double()
    centre = geometric_median(rows)

    def distance(point):
        return float((rows - point).norm(dim=1).sum())

    assert all(distance(centre) <= distance(centre + 0.05 * step) for step in drawn(50, 3, seed=2).double())
    assert geometric_median(torch.ones(4, 2)).tolist() == [1.0, 1.0]
