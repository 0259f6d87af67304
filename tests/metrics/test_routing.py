"""Routing measures on weights whose answers are worked out by hand."""

import math

import numpy as np
import pytest
import torch

from trialplate.metrics.routing import (
    attractor_sharpness,
    explained_variance_ratios,
    half_life,
    head_features,
    match_heads,
    policy_inertia,
    read_entropy,
    slope_through_origin,
    slot_usage,
    top1_frequency,
    usage_perplexity,
    valid_rows,
)

pytestmark = pytest.mark.fast
ONE_HOT = torch.eye(4)[[0, 0, 0, 1]]  # three rows read slot 0, one reads slot 1
UNIFORM = torch.full((3, 4), 0.25)


def noise(*shape, seed=0):
    return torch.softmax(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_entropy_runs_from_nothing_to_log_k():
    assert read_entropy(ONE_HOT) == 0
    assert read_entropy(UNIFORM) == pytest.approx(math.log(4))
    assert read_entropy(torch.tensor([[0.5, 0.5, 0, 0], [1, 0, 0, 0]])) == pytest.approx(math.log(2) / 2)


def test_top1_frequency_counts_the_favourite_slot():
    assert top1_frequency(ONE_HOT) == 0.75
    assert top1_frequency(torch.eye(4)) == 0.25


def test_usage_is_the_mean_and_its_perplexity_counts_slots():
    assert slot_usage(ONE_HOT).tolist() == [0.75, 0.25, 0, 0]
    assert usage_perplexity(torch.eye(4)) == pytest.approx(4)  # every row reads one slot, all slots are read
    assert usage_perplexity(torch.eye(4)[[2, 2]]) == pytest.approx(1)


def test_only_valid_positions_are_rows():
    weights = noise(2, 3, 4, 5)
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    rows = valid_rows(weights, mask)
    assert rows.shape == (3 * 3, 5)
    assert torch.equal(rows[:3], weights[0, :, 0])
    assert torch.equal(rows[-3:], weights[1, :, 0])
    assert valid_rows(weights).shape == (2 * 3 * 4, 5)


@pytest.mark.parametrize(
    "bad", [torch.randn(3, 4), torch.full((3, 4), 0.5), torch.empty(0, 4), torch.tensor([[math.nan, 1.0]])]
)
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError):
        read_entropy(bad)


def test_inertia_of_routing_that_turns_after_two_steps():
    """Positions read slots 0 0 1 1: at lag 1 the cosines are 1 0 1, at lag 2 both 0, at lag 3 0."""
    weights = torch.eye(2)[[0, 0, 1, 1]][None, None]
    assert policy_inertia(weights) == pytest.approx([2 / 3, 0, 0])
    assert policy_inertia(weights, max_lag=1) == pytest.approx([2 / 3])


def test_inertia_leaves_padding_out():
    weights = torch.eye(2)[[0, 0, 1, 1]][None, None]
    assert policy_inertia(weights, torch.tensor([[True, True, False, False]])) == pytest.approx([1])
    with pytest.raises(ValueError, match="at most one"):
        policy_inertia(weights, torch.tensor([[True, False, False, False]]))


def test_half_life_is_interpolated():
    assert half_life([0.95, 0.85]) == pytest.approx(1.5)
    assert half_life([0.8]) == pytest.approx(0.5)  # from 1 at lag 0
    assert half_life([0.99, 0.95]) is None


def test_explained_variance_of_points_on_two_axes():
    points = torch.tensor([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]) + 7
    assert explained_variance_ratios(points) == pytest.approx([0.8, 0.2, 0], abs=1e-12)
    assert explained_variance_ratios(points, 1) == pytest.approx([0.8])
    eigenvalues = np.linalg.eigvalsh(np.cov(points.numpy().T))[::-1]
    assert explained_variance_ratios(points) == pytest.approx(eigenvalues / eigenvalues.sum(), abs=1e-12)


def test_equal_points_explain_nothing():
    with pytest.raises(ValueError, match="equal"):
        explained_variance_ratios(torch.ones(5, 3))


def test_sharpness_is_one_where_the_margin_falls_with_the_distance():
    """A huge margin at the origin makes it the centroid; other margins are minus their distance."""
    ends = torch.tensor([[0.0, 0], [3, 4], [0, 10], [-6, 8]])
    distances = torch.tensor([0.0, 5, 10, 10])
    assert attractor_sharpness(ends, -40 * distances + 40) == pytest.approx(1, abs=1e-6)
    assert attractor_sharpness(ends, torch.ones(4)) is None


def test_sharpness_wants_three_prompts():
    with pytest.raises(ValueError, match="at least 3"):
        attractor_sharpness(torch.zeros(2, 2), torch.zeros(2))


def test_slope_through_the_origin_has_no_intercept():
    sizes = torch.tensor([0.0, 1, 2])
    changes = torch.tensor([[0.0, 5], [3, 5], [6, 5]])
    assert slope_through_origin(sizes, changes).tolist() == pytest.approx([3, 3])  # a jump of 5 is read as a slope
    with pytest.raises(ValueError):
        slope_through_origin(torch.zeros(3), changes)


def test_features_of_a_constant_head():
    """One slot for ever: cosines 1, no trend, no entropy, one slot in use, all mass in the top four; then length 1."""
    head = torch.eye(6)[[2, 2, 2, 2]][None]
    assert head_features(head)[0] == pytest.approx(np.array([1, 1, 0, 0, 1, 1]) / 2, abs=1e-9)


def test_heads_are_matched_across_a_permutation():
    first = head_features(noise(4, 12, 5))
    match = match_heads(first, first[[2, 0, 3, 1]])
    assert match.partner == (1, 3, 0, 2)
    assert match.best == pytest.approx(1)
    assert match.diag < match.best
    with pytest.raises(ValueError, match="one shape"):
        match_heads(first, first[:2])


def test_features_and_inertia_equal_the_slow_form():
    from building_blocks import paris_margin as slow

    weights = noise(3, 4, 9, 6, seed=1)
    torch.testing.assert_close(torch.tensor(head_features(weights.mean(0))), slow.head_features(weights.double()))
    found = slow.policy_inertia(weights.double())
    torch.testing.assert_close(torch.tensor(policy_inertia(weights), dtype=torch.float64), found["curve"])
    first, second = (head_features(noise(4, 9, 6, seed=s)) for s in (2, 3))
    partner, total = slow.best_matching(torch.tensor(first @ second.T))
    assert match_heads(first, second).partner == tuple(partner)
    assert match_heads(first, second).best == pytest.approx(total / 4)
