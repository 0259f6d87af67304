"""Reconstruction: what explained variance must do whatever the data, its seven names by hand, and agreement with the slow form."""

import math

import pytest
import torch
from building_blocks import sae_metrics_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.reconstruction import (
    DEFINITIONS,
    Moments,
    ReconstructionSums,
    explained_variance,
    token_terms,
)

CENTRED = ("about_mean", "all_elements", "dictionary_learning", "sparsify", "saebench_legacy")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_batches(x, x_hat, *sizes):
    sums = ReconstructionSums()
    for one, two in zip(x.split(list(sizes)), x_hat.split(list(sizes)), strict=True):
        sums.update(one, two)
    return sums


# --- what must hold --------------------------------------------------------------------------------------------------


def test_predicting_the_mean_explains_nothing():
    x = drawn(400, 7) * 3 + torch.arange(7)
    mean = x.double().mean(0).expand(400, 7)
    assert explained_variance(x.double(), mean) == pytest.approx(0, abs=1e-12)
    assert of_batches(x.double(), mean, 100, 250, 50).explained_variance() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_identity_explains_everything(definition):
    # 40 channels of variance about 1/4: what saebench divides by is positive
    x = drawn(50, 40) / 2
    assert explained_variance(x, x, definition) == 1


@pytest.mark.parametrize("sizes", [(60,), (30, 30), (1, 59), (7, 40, 13)])
def test_batches_change_nothing(sizes):
    x, x_hat = drawn(60, 5), drawn(60, 5, seed=1)
    whole, parts = of_batches(x, x_hat, 60), of_batches(x, x_hat, *sizes)
    for definition in ("about_mean", "about_zero", "all_elements"):
        assert parts.explained_variance(definition) == pytest.approx(whole.explained_variance(definition), rel=1e-12)
    assert parts.mse() == pytest.approx(whole.mse(), rel=1e-12)
    assert parts.bias() == pytest.approx(whole.bias(), rel=1e-12)
    for term in ("cosine", "l2_in", "l2_out", "l2_ratio"):
        assert parts.mean(term) == pytest.approx(whole.mean(term), rel=1e-12)


def test_batchwise_definitions_do_depend_on_batches():
    """Why they are here for comparison only: the same rows, dealt in another way, give another number."""
    x, x_hat = drawn(60, 5) + torch.arange(60).unsqueeze(1), drawn(60, 5, seed=1) + torch.arange(60).unsqueeze(1)
    for definition in ("dictionary_learning", "sparsify", "saebench_legacy"):
        one, two = (of_batches(x, x_hat, *sizes).explained_variance(definition) for sizes in ((60,), (20, 20, 20)))
        assert abs(one - two) > 1e-3


def test_merging_is_taking_all_rows():
    x, x_hat = drawn(60, 5) / 4 + 0.5, drawn(60, 5, seed=1) / 4 + 0.5
    left, right = of_batches(x[:25], x_hat[:25], 25), of_batches(x[25:], x_hat[25:], 20, 15)
    left.merge(right)
    left.merge(ReconstructionSums())
    whole = of_batches(x, x_hat, 25, 20, 15)
    assert left.n_tokens == 60
    assert [left.explained_variance(d) for d in DEFINITIONS] == pytest.approx(
        [whole.explained_variance(d) for d in DEFINITIONS], rel=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(-50, 50))
def test_explained_variance_is_about_the_mean(seed, constant):
    """A constant added to all activations and to b_dec, and so to all reconstructions, changes nothing."""
    x = drawn(30, 4, seed=seed).double()
    x_hat = (x + drawn(30, 4, seed=seed + 1).double()) / 2
    for definition in CENTRED:
        moved = explained_variance(x + constant, x_hat + constant, definition)
        assert moved == pytest.approx(explained_variance(x, x_hat, definition), abs=1e-9)


def test_explained_variance_as_saebench_has_it_grows_with_a_constant():
    """Its variance is about zero: the same coder on the same activations looks better when their mean lies further out."""
    x = drawn(2000, 64) / 4
    x_hat = x + drawn(2000, 64, seed=1) / 8
    at_home, moved = (explained_variance(x + c, x_hat + c, "saebench") for c in (0.0, 0.5))
    ours = explained_variance(x + 0.5, x_hat + 0.5)
    assert ours == pytest.approx(0.75, abs=0.01)  # noise of half the size: 1 - 1/4
    assert at_home == pytest.approx(0.75, abs=0.01)
    assert moved == pytest.approx(0.95, abs=0.01)  # E|r|^2 = 1, E|x|^2 = 4 + 16: 1 - 1/20


def test_a_wide_random_residual_gives_the_score_of_a_narrow_one():
    """Averaging the error over channels and the variance over their sum makes a score look better by the width: 0.9982 where it is 0.08."""
    narrow, wide = ((drawn(20_000, 1), drawn(20_000, 1, seed=1)), (drawn(2_000, 512), drawn(2_000, 512, seed=1)))
    for x, noise in (narrow, wide):
        assert explained_variance(x, x + 0.9 * noise) == pytest.approx(1 - 0.81, abs=0.02)
    x, noise = wide
    wrong = 1 - float((0.9 * noise).square().mean() / x.var(0).sum())
    assert wrong > 0.998


def test_error_of_one_channel_costs_the_same_beside_any_number_of_silent_ones():
    x, error = drawn(200, 1), drawn(200, 1, seed=1)
    silent = torch.zeros(200, 31)
    assert explained_variance(torch.cat([x, silent], 1), torch.cat([x + error, silent], 1)) == pytest.approx(
        explained_variance(x, x + error), abs=1e-12
    )


def test_mse_does_not_scale_with_the_batch():
    """Divided by the tokens of its batch, and averaged, it would be 16 times smaller in batches 16 times larger."""
    x, x_hat = drawn(64, 3), drawn(64, 3, seed=1)
    assert of_batches(x, x_hat, 64).mse() == pytest.approx(of_batches(x, x_hat, *[4] * 16).mse(), rel=1e-12)


def test_a_constant_error_is_no_explained_variance():
    """With the residual centred too, a coder that is off by a constant looks perfect."""
    x = drawn(100, 4)
    off = x + 3
    assert explained_variance(x, off, "dictionary_learning") == pytest.approx(1)
    assert explained_variance(x, off) < -5


# --- digits ----------------------------------------------------------------------------------------------------------


def test_a_large_mean_costs_no_digits():
    """E|x|^2 - |E x|^2 in float32 loses everything at a mean of 1e4; here rows are summed about the first one."""
    x = (drawn(3000, 8) * 0.5).round(decimals=2)
    x_hat = x + (drawn(3000, 8, seed=1) * 0.1).round(decimals=2)
    far, far_hat = (rows.double() + 1e4 for rows in (x, x_hat))
    parts = of_batches(far, far_hat, 1000, 1, 1999)
    assert parts.explained_variance() == pytest.approx(explained_variance(x, x_hat), rel=1e-6)
    naive = far.float().square().sum(1).mean() - far.float().mean(0).square().sum()
    assert abs(float(naive) / float(x.double().var(0).sum()) - 1) > 0.1


def test_variance_of_float32_rows_far_out_is_that_of_the_numbers_they_hold():
    x = drawn(500, 6) + 1e4  # spacing of float32 there: 1e-3
    x_hat = x + 0.25 * drawn(500, 6, seed=1)
    truth = slow.slow_explained_variance([x.double().tolist()], [x_hat.double().tolist()], "about_mean")
    assert explained_variance(x, x_hat) == pytest.approx(truth, rel=1e-9)


def test_moments_of_equal_rows_have_no_scatter_at_all():
    rows = torch.full((7, 3), 0.1, dtype=torch.float64)
    assert Moments.of(rows).merged(Moments.of(rows[:2])).scatter == 0


# --- by hand ---------------------------------------------------------------------------------------------------------

# mean (2, 1), squared distances from it 2, 2, 4, 4: in all 12. |x|^2: 13, 1, 17, 1, in all 32. Residuals (1, 0) (0, 0) (0, 1) (0, 0): in all 2
X = torch.tensor([[3.0, 2.0], [1.0, 0.0], [4.0, 1.0], [0.0, 1.0]])
X_HAT = torch.tensor([[2.0, 2.0], [1.0, 0.0], [4.0, 0.0], [0.0, 1.0]])


def test_definitions_by_hand():
    found = {name: explained_variance(X, X_HAT, name) for name in DEFINITIONS if name != "saebench"}
    assert found["about_mean"] == pytest.approx(1 - 2 / 12)
    assert found["about_zero"] == pytest.approx(1 - 2 / 32)
    # elements of x: 3 2 1 0 4 1 0 1, mean 3/2, squares 32 - 8 * 9/4 = 14; of r: two ones in eight, 2 - 8 / 16 = 3/2
    assert found["all_elements"] == pytest.approx(1 - 1.5 / 14)
    # residual about its mean: 2 - 4 * (1/16 + 1/16) = 3/2
    assert found["dictionary_learning"] == pytest.approx(1 - 1.5 / 12)
    assert found["sparsify"] == pytest.approx(1 - 2 / 12)
    # ratios of tokens: 1/2, 0, 1/4, 0
    assert found["saebench_legacy"] == pytest.approx(1 - 0.75 / 4)
    # q = 8: 8 - 16 is no variance; at a quarter of the size q = 1/2, so 1/2 - 1/16 = 7/16, and E|r|^2 = 2/4/16
    with pytest.raises(ValueError, match=r"\(saebench\) is undefined: what it divides by is -8"):
        explained_variance(X, X_HAT, "saebench")
    assert explained_variance(X / 4, X_HAT / 4, "saebench") == pytest.approx(1 - (1 / 32) / (7 / 16))


def test_batchwise_definitions_by_hand():
    # batches of two. First: mean (2, 1), distances 2 + 2; residual 1. Second: mean (2, 1), distances 4 + 4; residual 1
    sums = of_batches(X, X_HAT, 2, 2)
    assert sums.explained_variance("sparsify") == pytest.approx(((1 - 1 / 4) + (1 - 1 / 8)) / 2)
    # residuals about the mean of their batch: 1/4 + 1/4 each
    assert sums.explained_variance("dictionary_learning") == pytest.approx(((1 - 0.5 / 4) + (1 - 0.5 / 8)) / 2)


def test_the_other_numbers_by_hand():
    x, x_hat = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    sums = of_batches(x, x_hat, 2)
    assert sums.mse() == (16 + 4) / 2
    assert sums.mse("element") == (16 + 4) / 4
    assert sums.mean("cosine") == pytest.approx((3 / 5 + 0) / 2)  # a vector of zeros counts as 0
    assert (sums.mean("l2_in"), sums.mean("l2_out")) == (3.5, 1.5)
    assert sums.mean("l2_ratio") == pytest.approx((3 / 5 + 0) / 2)
    assert sums.bias() == 9 / 9  # E|x'|^2 = 9/2, E<x, x'> = 9/2


def test_a_shrunken_reconstruction_shows_as_bias():
    x = drawn(100, 4)
    sums = of_batches(x, 0.8 * x, 100)
    assert sums.bias() == pytest.approx(0.8, rel=1e-6)
    assert sums.mean("l2_ratio") == pytest.approx(0.8, rel=1e-6)
    assert sums.mean("cosine") == pytest.approx(1, rel=1e-6)


def test_lengths_near_zero_do_not_divide():
    terms = token_terms(torch.tensor([[5e-5, 0.0], [2e-4, 0.0]]), torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    assert terms["l2_ratio"].tolist() == pytest.approx([2.0, 1e4], rel=1e-6)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_definitions_agree_with_the_slow_form(definition):
    x, x_hat = drawn(24, 40) / 3 + 0.1, drawn(24, 40, seed=1) / 3
    sizes = [6, 6, 12]
    lists = [[part.double().tolist() for part in rows.split(sizes)] for rows in (x, x_hat)]
    found = of_batches(x, x_hat, *sizes).explained_variance(definition)
    assert found == pytest.approx(slow.slow_explained_variance(*lists, definition), rel=1e-10)


def test_means_agree_with_the_slow_form():
    x, x_hat = drawn(17, 5), drawn(17, 5, seed=1)
    x[3] = x_hat[4] = 0
    sums = of_batches(x, x_hat, 10, 7)
    wanted = slow.slow_reconstruction(x.double().tolist(), x_hat.double().tolist())
    found = {"mse": sums.mse(), "mse_element": sums.mse("element"), "bias": sums.bias()}
    found |= {name: sums.mean(name) for name in ("cosine", "l2_in", "l2_out", "l2_ratio")}
    assert found == pytest.approx(wanted, rel=1e-10)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_no_variance_is_not_zero(definition):
    same = torch.zeros(5, 3) if definition in ("about_zero", "saebench") else torch.full((5, 3), 0.1)
    with pytest.raises(ValueError, match="is undefined"):
        explained_variance(same, same + 1, definition)


def test_one_batch_without_variance_is_not_averaged_away():
    sums = of_batches(torch.cat([torch.ones(2, 3), drawn(4, 3)]), drawn(6, 3, seed=1), 2, 4)
    assert math.isfinite(sums.explained_variance())
    for definition in ("dictionary_learning", "sparsify", "saebench_legacy"):
        with pytest.raises(ValueError, match="does not differ from the mean of its batch"):
            sums.explained_variance(definition)


def test_no_tokens_is_not_zero():
    for ask in (lambda s: s.explained_variance(), lambda s: s.mse(), lambda s: s.mean("cosine"), lambda s: s.bias()):
        with pytest.raises(ValueError, match="no token was taken"):
            ask(ReconstructionSums())
    with pytest.raises(ValueError, match="no token to reconstruct"):
        explained_variance(torch.zeros(0, 3), torch.zeros(0, 3))


def test_messages():
    x = drawn(4, 3)
    with pytest.raises(ValueError, match=r"of one shape, got \[4, 3\] and \[4, 2\]"):
        explained_variance(x, x[:, :2])
    with pytest.raises(ValueError, match=r"wanted a definition of about_mean, .*, got 'r2'"):
        explained_variance(x, x, "r2")
    with pytest.raises(ValueError, match="nothing in common"):
        of_batches(x, torch.zeros(4, 3), 4).bias()
    with pytest.raises(ValueError, match="per token or per element"):
        of_batches(x, x, 4).mse("batch")
    with pytest.raises(ValueError, match="sums of 3 channels cannot be merged with those of 2"):
        of_batches(x, x, 4).merge(of_batches(x[:, :2], x[:, :2], 4))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_do_not_enter(bad):
    x = drawn(4, 3)
    x[2, 1] = bad
    for pair in ((x, drawn(4, 3)), (drawn(4, 3), x), (x, x)):
        with pytest.raises(ValueError, match="1 of 4 tokens"):
            ReconstructionSums().update(*pair)
