"""Loss terms on numbers worked out by hand, against their slow twins, and what their gradients must and must not do."""

import math

import pytest
import torch
from building_blocks import sae_losses_slow as slow

from trialplate.sae import losses
from trialplate.sae.autograd_step import gradients, objective
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError
from trialplate.sae.losses import MULTI, Terms, prefix_k
from trialplate.sae.straight_through import jumprelu, step

N, D, M = 6, 3, 8
DEAD = torch.tensor([False, False, True, False, False, True, False, True])
CODERS = {
    "relu": {},
    "topk": {"k": 2},
    "signed": {"k": 2, "signed": True},
    "batchtopk": {"k": 2},
    "jumprelu": {},
    "routed": {"k": 2, "n_experts": 2},
}


def coder_of(kind, **more):
    """A small coder in float64 with nothing at zero, so that every gradient has something to be."""
    draw = torch.Generator().manual_seed(3)
    config = CoderConfig("topk" if kind == "signed" else kind, D, M, **CODERS[kind] | more)
    coder = initialise(Coder(config), draw).double()
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
        if kind == "jumprelu":
            coder.threshold.copy_(0.1 + 0.4 * torch.rand(M, generator=draw, dtype=torch.float64))
    return coder


def rows(width=D, seed=5):
    return torch.randn(N, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_reconstruction_sums_over_channels_and_averages_over_tokens():
    y, y_hat = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    assert float(losses.reconstruction(y_hat, y)) == (5 + 9) / 2


def test_l1_counts_the_length_of_decoder_rows():
    f, rows_ = torch.tensor([[1.0, 0.5], [0.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert float(losses.l1(f, rows_)) == (1 * 5 + 0.5 * 2 + 2 * 2) / 2
    # half as large latents with twice as long rows are the same coder and have the same penalty
    assert float(losses.l1(f / 2, rows_ * 2)) == float(losses.l1(f, rows_))


def test_aux_by_hand():
    # residuals (2, 0) and (0, 0), mean (1, 0), spread 1 + 1 = 2; latent 1 is dead with pre 1 and -1 and row (1, 0): it leaves (1, 0) and (0, 0)
    pre, dictionary = torch.tensor([[9.0, 1.0], [9.0, -1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    error = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert float(losses.aux(pre, dictionary, error, torch.tensor([False, True]), 1)) == 1 / 2


def test_aux_is_zero_where_nothing_is_dead_or_nothing_is_left_to_explain():
    pre, dictionary, error = torch.ones(2, 2), torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert float(losses.aux(pre, dictionary, error, None, 1)) == 0
    assert float(losses.aux(pre, dictionary, error, torch.tensor([False, False]), 1)) == 0
    assert float(losses.aux(pre, dictionary, torch.ones(2, 2), torch.tensor([True, True]), 1)) == 0


def test_balance_by_hand():
    # two of three tokens choose expert 0; mean probabilities are (0.6, 0.4)
    probability = torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.3, 0.7]])
    assert float(losses.balance(probability, probability.argmax(1))) == pytest.approx(2 * (2 / 3 * 0.6 + 1 / 3 * 0.4))


def test_balance_is_1_when_even_and_the_number_of_experts_when_one_has_all():
    assert float(losses.balance(torch.eye(3), torch.arange(3))) == pytest.approx(1)
    assert float(losses.balance(torch.eye(3)[[1, 1, 1]], torch.tensor([1, 1, 1]))) == pytest.approx(3)


def test_a_prefix_gets_its_part_of_k_and_at_least_one():
    assert [prefix_k(32, p, 4096) for p in (2048, 512, 128, 16)] == [16, 4, 1, 1]
    assert all(prefix_k(k, p, 10) <= p for k in range(1, 11) for p in range(1, 10))


# --- every architecture against the slow twin ---------------------------------------------------------------------------


def slow_parts(kind, coder, x, y, terms):
    """The parts of a loss by the slow twin, from lists of torch scalars."""
    encoder, b_enc, decoder = list(coder.encoder), list(coder.b_enc), list(coder.W_dec)
    b_dec, c, n = list(coder.b_dec), coder.config, len(x)
    seen = b_dec if c.centre_input else None
    pres = [slow.slow_pre(list(row), [list(w) for w in encoder], b_enc, seen) for row in x]
    logits = [slow.slow_pre(list(row), [list(w) for w in coder.router], list(coder.b_router), seen) for row in x] if c.n_experts else []  # fmt: skip

    def codes(width, k):
        cut = [pre[:width] for pre in pres]
        if kind == "batchtopk":
            return slow.slow_batch_topk(cut, k)
        if kind in ("topk", "signed"):
            return [slow.slow_topk(pre, k, kind == "signed") for pre in cut]
        if kind == "routed":
            return [routed(pre, route, k) for pre, route in zip(cut, logits, strict=True)]
        limits = [float(t) for t in coder.threshold] if kind == "jumprelu" else [0.0] * M
        return [slow.slow_threshold(pre, limits) for pre in cut]

    def routed(pre, route, k):
        best = max(range(2), key=lambda e: float(route[e]))
        inside = [z if M // 2 * best <= j < M // 2 * (best + 1) else z - 1e6 for j, z in enumerate(pre)]
        return slow.slow_topk(inside, k)

    def error(code):
        made = [slow.slow_decode(f, [list(w) for w in decoder[: len(f)]], b_dec) for f in code]
        if c.skip:
            added = [slow.slow_pre(list(row), [list(w) for w in coder.W_skip], [0.0] * c.d_out, None) for row in x]
            made = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(made, added, strict=True)]
        return slow.slow_reconstruction(made, y.tolist()), made

    full = codes(M, c.k)
    mse, made = error(full)
    parts = {"mse": mse}
    if terms.l1:
        parts["l1"] = terms.l1 * slow.slow_l1(full, [list(w) for w in decoder])
    if terms.l0:
        parts["l0"] = terms.l0 * slow.slow_l0(full)
    if terms.aux:
        left = [[float(a) - slow.slow_number(b) for a, b in zip(y[i], made[i], strict=True)] for i in range(n)]
        dead = [j for j in range(M) if terms.dead[j]]
        parts["aux"] = terms.aux * slow.slow_aux(pres, [list(w) for w in decoder], left, dead, terms.aux_k)
    if terms.prefix_weight:
        several = [error(codes(p, prefix_k(c.k, p, M) if c.k else None))[0] for p in c.prefixes]
        parts["prefix"] = terms.prefix_weight * sum(several) / len(several)
    if terms.multi:
        parts["multi"] = terms.multi * error(codes(M, min(MULTI * c.k, M)))[0]
    if terms.router_balance:
        parts["balance"] = terms.router_balance * slow.slow_balance(logits)
    return parts


CASES = {
    "relu": (Terms(l1=0.3, prefix_weight=0.5), {"prefixes": (2, 5)}),
    "topk": (Terms(aux=0.5, aux_k=2, dead=DEAD, prefix_weight=0.5, multi=0.125), {"prefixes": (2, 5)}),
    "signed": (Terms(aux=0.5, aux_k=9, dead=DEAD), {}),
    "batchtopk": (Terms(aux=0.5, aux_k=2, dead=DEAD, prefix_weight=0.5), {"prefixes": (3,)}),
    "jumprelu": (Terms(l0=0.2, aux=0.5, aux_k=2, dead=DEAD, bandwidth=1e-9, prefix_weight=0.5), {"prefixes": (4,)}),
    "routed": (Terms(router_balance=0.7, aux=0.5, aux_k=2, dead=DEAD), {}),
}


@pytest.mark.parametrize("kind", CODERS)
def test_parts_and_gradients_are_those_of_the_slow_twin(kind):
    terms, more = CASES[kind]
    coder, x = coder_of(kind, **more), rows()
    expected = slow_parts(kind, coder, x, x, terms)
    differentiable = sum(part for name, part in expected.items() if name not in ("l0", "balance"))
    names = [n for n, _ in coder.named_parameters() if "router" not in n and n != "threshold"]
    by_hand = torch.autograd.grad(differentiable, [coder.get_parameter(n) for n in names])
    outcome = gradients(coder, x, x, terms)
    numbers = {name: float(torch.as_tensor(part).detach()) for name, part in expected.items()}
    assert {name: float(part) for name, part in outcome.parts.items()} == pytest.approx(numbers)
    assert float(outcome.loss) == pytest.approx(sum(numbers.values()))
    for name, gradient in zip(names, by_hand, strict=True):
        if kind == "routed" and name == "b_dec":
            continue  # a router that subtracts b_dec adds to its gradient; the slow twin has no slope of a choice
        torch.testing.assert_close(coder.get_parameter(name).grad, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["topk", "relu"])
def test_a_skip_transcoder_against_the_slow_twin(kind):
    coder = coder_of(kind, d_out=2, centre_input=False, skip=True, site_in="a", site_out="b")
    x, y, terms = rows(), rows(2, seed=9), Terms(l1=0.3 if kind == "relu" else 0.0)
    expected = slow_parts(kind, coder, x, y, terms)
    names = [n for n, _ in coder.named_parameters()]
    by_hand = torch.autograd.grad(sum(expected.values()), [coder.get_parameter(n) for n in names])
    outcome = gradients(coder, x, y, terms)
    assert float(outcome.loss) == pytest.approx(float(sum(expected.values()).detach()))
    for name, gradient in zip(names, by_hand, strict=True):
        torch.testing.assert_close(coder.get_parameter(name).grad, gradient, rtol=1e-9, atol=1e-12)


# --- what gradients must do ---------------------------------------------------------------------------------------------


def test_thresholds_get_the_straight_through_slopes():
    draw = torch.Generator().manual_seed(0)
    pre, upstream = torch.randn(20, 4, generator=draw).double(), torch.randn(20, 4, generator=draw).double()
    threshold = torch.tensor([0.0, 0.3, 0.6, 5.0], dtype=torch.float64, requires_grad=True)
    values, counts = slow.slow_threshold_slopes(pre.tolist(), threshold.tolist(), upstream.tolist(), 0.4)
    for function, expected in ((jumprelu, values), (step, counts)):
        (found,) = torch.autograd.grad((function(pre, threshold, 0.4) * upstream).sum(), threshold)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert values[3] == 0  # nothing comes near a threshold of 5
    assert counts[1] != 0


def test_the_jumprelu_penalty_has_a_gradient():
    """An L0 penalty that is a mean of a comparison is a number without a slope: thresholds never move, and the coder stays dense."""
    coder, x = coder_of("jumprelu"), rows()
    without, with_penalty = Terms(bandwidth=0.5), Terms(bandwidth=0.5, l0=1.0)
    gradients(coder, x, x, without)
    before = coder.threshold.grad.clone()
    gradients(coder, x, x, with_penalty)
    assert float((coder.threshold.grad - before).abs().max()) > 0.1
    assert bool(
        (coder.threshold.grad <= before).all()
    )  # descent raises thresholds, which is what a penalty on L0 is for


def test_the_aux_term_falls_as_dead_latents_explain_the_residual():
    """A term that grows with what dead latents do would push them further down."""
    error = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
    pre, dead = torch.tensor([[1.0], [0.0], [2.0]]), torch.tensor([True])
    found = [float(losses.aux(pre * size, torch.tensor([[1.0, 0.0]]), error, dead, 1)) for size in (0.0, 0.5, 1.0)]
    assert found[0] > found[1] > found[2]
    away = losses.aux(pre, torch.tensor([[-1.0, 0.0]]), error, dead, 1)
    assert float(away) > found[0]


def test_no_gradient_of_the_aux_term_reaches_live_latents():
    coder, x = coder_of("topk"), rows()
    parts = objective(coder, x, x, Terms(aux=1.0, aux_k=2, dead=DEAD)).parts
    W_dec, encoder, b_enc = torch.autograd.grad(parts["aux"], [coder.W_dec, coder.encoder, coder.b_enc])
    for gradient in (W_dec, encoder, b_enc):
        assert bool((gradient[~DEAD] == 0).all())
        assert bool((gradient[DEAD] != 0).any())


def test_prefixes_choose_among_their_own_latents():
    """Chosen over the whole dictionary, a prefix may have no active latent at all; here the two largest are always the last ones."""
    coder, x = coder_of("topk", prefixes=(4,)), rows()
    with torch.no_grad():
        coder.b_enc.copy_(torch.tensor([0, 0, 0, 0, 0, 0, 50.0, 60.0]))
    outcome = objective(coder, x, x, Terms(prefix_weight=1.0))
    assert set(outcome.latents.index.tolist()) == {6, 7}
    (gradient,) = torch.autograd.grad(outcome.parts["prefix"], coder.W_dec)
    assert bool((gradient[:4] != 0).any())
    assert bool((gradient[4:] == 0).all())


def test_a_router_learns_from_the_reconstruction():
    """A hard choice has no slope: with balance terms alone a router never learns which slice reconstructs better."""
    coder, x = coder_of("routed"), rows()
    gradients(coder, x, x, Terms())
    assert float(coder.router.grad.abs().max()) > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in CODERS if kind != "batchtopk"])
def test_what_is_trained_is_what_encode_computes(kind):
    """Training one function and judging another is how a good coder gets a bad name, or the reverse. (batchtopk: test_thresholds.)"""
    coder, x = coder_of(kind), rows()
    outcome = objective(coder, x, x, Terms(bandwidth=0.5))
    with torch.no_grad():
        latents = coder.encode(x)
        assert torch.equal(latents.dense(), outcome.latents.dense())
        torch.testing.assert_close(coder.decode(latents), outcome.y_hat, rtol=1e-14, atol=1e-14)


def test_a_smaller_k_for_now():
    coder, x = coder_of("topk"), rows()
    assert gradients(coder, x, x, Terms(k=5)).latents.value.numel() == N * 5


def test_unasked_terms_are_no_parts():
    coder, x = coder_of("relu"), rows()
    outcome = gradients(coder, x, x, Terms())
    assert list(outcome.parts) == ["mse"]
    assert not outcome.loss.requires_grad
    assert math.isfinite(float(outcome.loss))


@pytest.mark.parametrize(
    ("kind", "terms", "said"),
    [
        ("topk", Terms(l1=1.0), "L1 penalty is for relu"),
        ("relu", Terms(l0=1.0), "jumprelu only"),
        ("relu", Terms(multi=1.0), "topk and batchtopk only"),
        ("topk", Terms(prefix_weight=1.0), "its config names none"),
    ],
)
def test_terms_that_mean_nothing_are_refused(kind, terms, said):
    with pytest.raises(TrainingError, match=said):
        gradients(coder_of(kind), rows(), rows(), terms)


def test_a_gated_coder_is_not_trained():
    with pytest.raises(TrainingError, match="read and judged, not trained"):
        gradients(Coder(CoderConfig("gated", D, M)).double(), rows(), rows(), Terms())
