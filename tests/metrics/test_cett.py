"""Which units a token can do without: by hand, the bound itself, and agreement with the form that tries every beginning."""

import math

import pytest
import torch
from building_blocks import sparsity_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.cett import cett_mask, cett_sparsity

# weights of whole length: products of sizes are then exact, and ties are ties in both forms
WEIGHTS = st.sampled_from([[1, 0, 0], [0, -2, 0], [3, 4, 0], [1, 2, 2], [2, 3, -6], [0, 0, 5], [0, 0, 0]])


@st.composite
def small(draw):
    d, n = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(st.integers(-4, 4), min_size=d, max_size=d), min_size=n, max_size=n))
    down = draw(st.lists(WEIGHTS, min_size=d, max_size=d))
    return torch.tensor(rows).float(), torch.tensor(down).float(), draw(st.sampled_from([0.0, 0.25, 0.5, 0.75]))


def random_mlp(n=20, d=200, d_out=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.gelu(torch.randn(n, d, generator=generator))
    return rows, torch.randn(d, d_out, generator=generator)


def test_by_hand():
    # sizes 3, 4, 12 along three axes, the whole is 13 long: without 3 and 4 the error is 5/13, without 3 alone 3/13
    rows, down = torch.tensor([[3.0, -2.0, 12.0]]), torch.diag(torch.tensor([1.0, 2.0, 1.0]))
    assert cett_mask(rows, down, t=0.2).tolist() == [[True, True, True]]
    assert cett_mask(rows, down, t=0.25).tolist() == [[False, True, True]]
    assert cett_mask(rows, down, t=0.4).tolist() == [[False, False, True]]
    assert cett_sparsity(rows, down, t=0.4).tolist() == pytest.approx([2 / 3])


def test_units_that_cancel_are_left_out_together():
    # 1, then 2 against -2, then 10: leaving out 1, or 1 and 2 and -2, costs 1/11; 1 and 2 alone costs 3/11
    rows, down = torch.tensor([[1.0, 2.0, -2.0, 10.0]]), torch.ones(4, 1)
    assert cett_mask(rows, down, t=0.1).tolist() == [[False, False, False, True]]


def test_a_large_activation_with_a_small_weight_is_left_out():
    rows, down = torch.tensor([[100.0, 1.0]]), torch.tensor([[0.001, 0.0], [0.0, 1.0]])
    assert cett_mask(rows, down).tolist() == [[False, True]]


def test_a_token_without_output_keeps_nothing():
    rows, down = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0], [-1.0]])
    assert cett_mask(rows, down).tolist() == [[False, False], [False, False], [True, False]]
    assert cett_sparsity(rows, down).tolist() == [1, 1, 0.5]


def test_without_any_error_exactly_the_zeros_are_left_out():
    rows, down = random_mlp()
    rows = rows.relu()
    assert torch.equal(cett_mask(rows, down, t=0.0), rows != 0)
    assert torch.equal(cett_sparsity(rows, down, t=0.0), (rows == 0).float().mean(1))


@settings(max_examples=150, deadline=None)
@given(small())
def test_equals_the_form_that_tries_every_beginning(case):
    rows, down, t = case
    wanted = [slow.slow_cett_kept(row, down.tolist(), t) for row in rows.tolist()]
    assert cett_mask(rows.double(), down.double(), t).tolist() == wanted


def test_equals_the_form_that_tries_every_beginning_on_a_wider_layer():
    rows, down = random_mlp(n=4, d=90, d_out=7)
    for t in (0.05, 0.2, 0.6):
        wanted = [slow.slow_cett_kept(row, down.tolist(), t) for row in rows.tolist()]
        assert cett_mask(rows, down, t).tolist() == wanted


@pytest.mark.parametrize("t", [0.05, 0.2, 0.5])
def test_the_output_changes_by_no_more_than_was_allowed(t):
    rows, down = random_mlp()
    mask = cett_mask(rows, down, t)
    whole, kept = rows.double() @ down.double(), (rows * mask).double() @ down.double()
    error = (whole - kept).norm(dim=1) / whole.norm(dim=1)
    assert error.max() <= t * (1 + 1e-5)
    assert error.mean() > 0.9 * t  # and uses nearly all of it
    assert torch.equal(cett_sparsity(rows, down, t), (~mask).float().mean(1))


def test_more_error_leaves_out_more():
    rows, down = random_mlp()
    shares = torch.stack([cett_sparsity(rows, down, t) for t in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)])
    assert bool((shares.diff(dim=0) >= 0).all())


def test_scale_and_blocks_do_not_matter(monkeypatch):
    rows, down = random_mlp()
    mask = cett_mask(rows, down)
    assert torch.equal(cett_mask(rows * 2.0**20, down * 2.0**-30), mask)
    monkeypatch.setattr("trialplate.metrics.cett._CPU_NUMBERS", 3 * 16 * 32)
    assert torch.equal(cett_mask(rows, down), mask)
    assert torch.equal(torch.cat([cett_mask(part, down) for part in rows.split(7)]), mask)


def test_half_precision_is_widened():
    rows, down = random_mlp()
    half, weights = rows.bfloat16(), down.bfloat16()
    assert torch.equal(cett_mask(half, weights), cett_mask(half.float(), weights.float()))


def test_errors_say_what_was_wanted():
    rows, down = random_mlp()
    with pytest.raises(ValueError, match="transpose it"):
        cett_mask(rows, down.T)
    with pytest.raises(ValueError, match="n >= 1"):
        cett_mask(rows[:0], down)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        cett_sparsity(rows, down, t=1.0)
    rows[3, 4] = math.nan
    with pytest.raises(ValueError, match="rows hold NaN"):
        cett_sparsity(rows, down)
