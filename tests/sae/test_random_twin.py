"""The random twin: same shape and L0 as the coder, nothing of what it learned, the same for the same seed."""

import pytest
import torch

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.random_twin import random_twin
from trialplate.sae.threshold import fit_threshold


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=200, d=16):
    return torch.randn(n, d, generator=generator(1))


def made(architecture, **more):
    k = {"k": 4} if architecture in ("topk", "batchtopk", "routed") else {}
    config = CoderConfig(architecture, d_in=16, d_sae=32, **{**k, **more})
    coder = initialise(Coder(config), generator(2)).eval().requires_grad_(False)
    return fit_threshold(coder, rows()) if architecture == "batchtopk" else coder


def l0(coder):
    return float(coder.encode(rows()).active().double().mean())


@pytest.mark.parametrize(
    ("architecture", "more"), [("topk", {}), ("batchtopk", {}), ("relu", {}), ("jumprelu", {}), ("routed", {"n_experts": 2})]
)  # fmt: skip
def test_a_twin_has_the_shape_and_the_l0_of_the_coder(architecture, more):
    coder = made(architecture, **more)
    twin = random_twin(coder, rows(), generator())
    assert twin.W_dec.shape == coder.W_dec.shape
    assert l0(twin) == pytest.approx(l0(coder), abs=0.01)
    torch.testing.assert_close(twin.b_dec, rows().mean(0))
    torch.testing.assert_close(twin.W_dec.norm(dim=1), torch.ones(32))
    assert float((twin.W_dec @ coder.W_dec.T).abs().max()) < 0.99


def test_a_twin_is_the_same_for_the_same_seed_only():
    one, same, other = (random_twin(made("topk"), rows(), generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.W_dec, same.W_dec)
    assert not torch.equal(one.W_dec, other.W_dec)


def test_a_skip_transcoder_keeps_what_is_linear_in_it():
    config = CoderConfig("topk", d_in=16, d_sae=32, d_out=8, k=4, skip=True, centre_input=False)
    coder = initialise(Coder(config), generator(2)).requires_grad_(False)
    coder.W_skip.copy_(torch.randn(8, 16, generator=generator(5)))
    y = torch.randn(200, 8, generator=generator(6)) + 3
    twin = random_twin(coder, rows(), generator(), y)
    assert torch.equal(twin.W_skip, coder.W_skip)
    torch.testing.assert_close(twin.b_dec, y.mean(0))


def test_no_rows_and_a_silent_coder_are_refused():
    with pytest.raises(ValueError, match="wants rows"):
        random_twin(made("topk"), rows(0), generator())
    silent = made("jumprelu")
    silent.threshold.fill_(1e6)
    with pytest.raises(ValueError, match="silent"):
        random_twin(silent, rows(), generator())


def test_many_rows_are_sampled_evenly(monkeypatch):
    """An even sample of the rows is as good as all of them, wherever the batches of the reading end."""
    coder, many = made("relu"), rows(3000)
    monkeypatch.setattr("trialplate.sae.random_twin._NUMBERS_AT_ONCE", 32 * 700)
    monkeypatch.setattr("trialplate.sae.random_twin._BATCH", 64)
    twin = random_twin(coder, many, generator())
    wanted = float(coder.encode(many).active().double().mean())
    assert float(twin.encode(many).active().double().mean()) == pytest.approx(wanted, rel=0.03)
