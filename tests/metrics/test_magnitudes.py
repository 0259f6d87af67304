"""Counts of sizes on a logarithmic grid: the grid, what is read from it with its bounds, and agreement with the slow form."""

import math

import numpy as np
import pytest
import torch
from building_blocks import sparsity_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.magnitudes import (
    EDGES,
    N_BINS,
    act_frac_sd,
    layer_sd,
    lorenz,
    magnitude_counts,
    quantile,
    share_above,
)
from trialplate.metrics.sparsity import token_gini

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
STREAMS = st.lists(FLOATS, min_size=1, max_size=50).map(lambda x: torch.tensor(x, dtype=torch.float32))
NORMAL_SIZES = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**60, width=32))


def counts_of(*values):
    return magnitude_counts(torch.tensor(values, dtype=torch.float32)).numpy()


def gelu(n=200_000):
    return torch.nn.functional.gelu(torch.randn(n, generator=torch.Generator().manual_seed(0)))


# --- the grid --------------------------------------------------------------------------------------------------------


def test_bins_by_hand():
    # 1 = exponent 127, mantissa 0: bin 127 * 128; 1 + 2^-7 is the next bin, half a step below it is not; 2 is 128 bins on
    counts = counts_of(1.0, -1.0, 1 + 2**-8, 1 + 2**-7, -2.0, 0.0, -0.0)
    assert {int(b): int(counts[b]) for b in counts.nonzero()[0]} == {0: 2, 127 * 128: 3, 127 * 128 + 1: 1, 128 * 128: 1}
    assert EDGES[[127 * 128, 127 * 128 + 1, 128 * 128]].tolist() == [1, 1 + 2**-7, 2]


def test_a_bin_is_at_most_a_128th_of_its_lower_edge_wide():
    normal = EDGES[EDGES >= 2.0**-126]
    widths = np.diff(normal) / normal[:-1]
    assert (widths.max(), widths.min() > 2**-8) == (2**-7, True)


@settings(max_examples=60, deadline=None)
@given(STREAMS)
def test_equals_the_slow_form(stream):
    counts = magnitude_counts(stream)
    assert (counts.dtype, counts.shape) == (torch.int64, (N_BINS,))
    assert {int(b): int(counts[b]) for b in counts.nonzero()} == slow.slow_magnitude_counts(stream.tolist())


@settings(max_examples=60, deadline=None)
@given(STREAMS, st.integers(0, 50))
def test_any_split_of_the_stream_gives_the_same_counts(stream, cut):
    parts = [magnitude_counts(part) for part in (stream[:cut], stream[cut:]) if len(part)]
    assert torch.equal(sum(parts), magnitude_counts(stream))


@settings(max_examples=60, deadline=None)
@given(STREAMS)
def test_every_entry_lies_between_the_edges_of_its_bin(stream):
    for x in stream.tolist():
        own = int(counts_of(x).argmax())
        assert EDGES[own] <= abs(x) < EDGES[own + 1]


def test_kinds_shapes_and_blocks_do_not_matter(monkeypatch):
    rows = torch.randn(60, 70, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        cast = rows.to(dtype)
        assert torch.equal(magnitude_counts(cast), magnitude_counts(cast.float()))
        assert torch.equal(magnitude_counts(cast.T), magnitude_counts(cast.flatten()))
    whole = magnitude_counts(rows)
    monkeypatch.setattr("trialplate.metrics.magnitudes._ENTRIES_AT_ONCE", 97)
    assert torch.equal(magnitude_counts(rows), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad, dtype):
    with pytest.raises(ValueError, match="1 of 3 entries are NaN or infinite"):
        magnitude_counts(torch.tensor([1.0, bad, 2.0], dtype=dtype))


def test_no_entries_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        magnitude_counts(torch.zeros(0))
    with pytest.raises(ValueError, match="nothing was measured"):
        share_above(np.zeros(N_BINS, np.int64), 1.0)
    with pytest.raises(ValueError, match="wanted the counts"):
        quantile(np.ones(100, np.int64), 0.5)
    with pytest.raises(ValueError, match="wanted the counts"):
        quantile(np.ones(N_BINS), 0.5)


# --- shares and quantiles --------------------------------------------------------------------------------------------


def test_share_above_by_hand():
    counts = counts_of(0.0, 1.0, 1.0, 4.0)
    assert share_above(counts, 0.0) == (0.75, 0.75, 0.75)
    assert share_above(counts, 1.0) == (0.75, 0.25, 0.75)  # the edge of the bin: >= 1 is 3 of 4, > 1 is 1 of 4
    assert share_above(counts, 1 + 2**-8) == (0.5, 0.25, 0.75)  # the middle of the bin: half of its two entries
    assert share_above(counts, 2.0) == (0.25, 0.25, 0.25)
    assert share_above(counts, 5.0).value == 0
    with pytest.raises(ValueError, match="not negative"):
        share_above(counts, -1.0)
    with pytest.raises(ValueError, match="finite"):
        share_above(counts, math.nan)


def test_what_float32_hardly_holds_counts_with_the_zeros():
    counts = counts_of(1e-41, 1e-30)
    assert share_above(counts, 0.0) == (0.5, 0.5, 0.5)
    assert share_above(counts, 1e-42) == (0.5, 0.5, 1.0)


@settings(max_examples=60, deadline=None)
@given(STREAMS, st.floats(0, 2.0**100))
def test_bounds_enclose_the_exact_share(stream, threshold):
    found = share_above(magnitude_counts(stream), threshold)
    exact = (stream.double().abs() > threshold).double().mean().item()
    assert found.low <= found.value <= found.high
    assert found.low <= exact <= found.high or (threshold == 0 and found.value <= exact)


@settings(max_examples=60, deadline=None)
@given(st.lists(NORMAL_SIZES, min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_lie_within_a_bin_of_the_exact_one(sizes, q):
    exact = float(np.quantile(sizes, q, method="inverted_cdf"))
    assert quantile(counts_of(*sizes), q) == pytest.approx(exact, rel=2**-7)


def test_quantile_and_share_undo_each_other():
    counts = magnitude_counts(gelu())
    for q in (0.01, 0.3, 0.5, 0.9, 0.999):
        assert 1 - share_above(counts, quantile(counts, q)).value == pytest.approx(q, abs=1e-9)
    assert quantile(counts_of(0.0, 0.0, 1.0), 0.5) == 0
    assert (quantile(counts_of(1.0, 4.0), 0), quantile(counts_of(1.0, 4.0), 1)) == (1, 4 + 2**-5)
    with pytest.raises(ValueError, match="the median is"):
        quantile(counts, 50)


def test_gelu_of_a_normal_is_an_eighth_below_a_tenth_of_its_sd():
    h = gelu().double()
    found = act_frac_sd(magnitude_counts(h), h.std().item())
    assert found.value == pytest.approx(1 - 0.128, rel=0.01)
    assert found.value == pytest.approx((h.abs() > 0.1 * h.std()).double().mean().item(), abs=1e-4)
    with pytest.raises(ValueError, match="never moves"):
        act_frac_sd(magnitude_counts(h), 0.0)


def test_sd_of_a_layer_by_hand():
    # units 1, 3 and 10, 10: mean 6, squared deviations 25 + 9 + 16 + 16 = 66
    assert layer_sd([2, 10], [2, 0], 2) == pytest.approx(math.sqrt(66 / 4))
    rows = np.random.default_rng(0).normal(size=(50, 7)) + np.arange(7)
    assert layer_sd(rows.mean(0), np.square(rows - rows.mean(0)).sum(0), 50) == pytest.approx(rows.std())
    with pytest.raises(ValueError, match="wanted mean"):
        layer_sd([1, 2], [1], 3)
    with pytest.raises(ValueError, match="moments are finite"):
        layer_sd([math.nan], [1.0], 3)


# --- Lorenz curve ----------------------------------------------------------------------------------------------------


def test_lorenz_by_hand():
    # 0, 0, 1, 1 (the middle of a bin, exactly as large as each other): half of the entries hold nothing
    curve = lorenz(counts_of(0.0, 0.0, 1.0, 1.0))
    assert curve.share_of_entries.tolist() == [0, 0.5, 1]
    assert curve.share_of_magnitude.tolist() == [0, 0, 1]
    assert curve.gini == pytest.approx(0.5)
    # 1 and 2 - 2^-7 stand for their bins with 1 + 2^-8 and 2 - 2^-8, which add up to 3
    assert lorenz(counts_of(1.0, 2 - 2**-7)).share_of_magnitude[1] == pytest.approx((1 + 2**-8) / 3)
    even = lorenz(counts_of(3.0, -3.0), points=5)
    assert even.share_of_magnitude.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert even.gini == pytest.approx(0)


def test_gini_of_all_entries_agrees_with_the_sorted_one():
    for h in (gelu(), gelu().relu(), torch.randn(50_000, generator=torch.Generator().manual_seed(1)).exp()):
        exact = token_gini(h.unsqueeze(0)).item()
        assert abs(lorenz(magnitude_counts(h)).gini - exact) <= (1 - exact) * 2**-7


@settings(max_examples=60, deadline=None)
@given(st.lists(NORMAL_SIZES, min_size=2, max_size=20).filter(any), st.one_of(st.none(), st.integers(2, 40)))
def test_lorenz_is_convex_below_the_diagonal(sizes, points):
    x, y, gini = lorenz(counts_of(*sizes), points)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(y) >= -1e-12).all()
    assert (y <= x + 1e-12).all()
    assert abs(gini - slow.slow_gini(sizes)) <= 2**-7


def test_a_site_of_zeros_has_no_curve():
    with pytest.raises(ValueError, match="site dead"):
        lorenz(counts_of(0.0, 0.0))
    with pytest.raises(ValueError, match="at least 2 points"):
        lorenz(counts_of(1.0), points=1)
