"""Firings: shares and histograms by hand, the dead counted apart, agreement with the slow form."""

import math

import numpy as np
import pytest
import torch
from building_blocks import sae_metrics_slow as slow

from trialplate.metrics.firing_density import FiringDensity, consistent_activation
from trialplate.metrics.row_cosines import nearest_cosine, paired_cosine

# of 1000 tokens: dead, once, at 1 % exactly, above it, above 10 %, always
FIRED = np.array([0, 1, 10, 11, 200, 1000])


def test_shares_by_hand():
    found = FiringDensity(FIRED, 1000)
    assert found.values.tolist() == [0, 0.001, 0.01, 0.011, 0.2, 1]
    assert (found.alive_frac, found.dead_frac) == (5 / 6, 1 / 6)
    assert found.share_above(0.01) == 3 / 6  # above, not at
    assert found.share_above(0.1) == 2 / 6
    assert found.mass_above(0.01) == 1211 / 1222
    assert found.mass_above(0.1) == 1200 / 1222


def test_a_latent_is_dead_on_these_tokens():
    """More tokens, fewer dead latents: the number says nothing without the tokens it was counted on."""
    rng = np.random.default_rng(0)
    fires = rng.random((4000, 300)) < 0.001
    few, many = (FiringDensity(fires[:n].sum(0), n) for n in (200, 4000))
    assert few.dead_frac > 0.7
    assert many.dead_frac < 0.05


def test_histogram_counts_the_dead_apart():
    found = FiringDensity(FIRED, 1000).histogram(per_decade=1)
    assert found.edges.tolist() == [-3, -2, -1, 0]
    # [0.001, 0.01): one; [0.01, 0.1): at 1 % and 1.1 %; [0.1, 1]: two
    assert found.counts.tolist() == [1, 2, 2]
    assert found.dead == 1


@pytest.mark.parametrize("n", [1, 2, 7, 10, 1000, 12345, 10**6])
def test_every_latent_has_its_place_in_the_histogram(n):
    fired = np.unique([0, 1, max(1, n // 3), n - 1, n])
    found = FiringDensity(fired, n).histogram()
    assert found.counts.sum() + found.dead == fired.size


def test_nothing_fires_is_not_a_share_of_zero():
    dead = FiringDensity(np.zeros(4, int), 10)
    assert dead.dead_frac == 1
    assert dead.share_above(0.01) == 0
    with pytest.raises(ValueError, match="none of 4 latents fired on 10 tokens"):
        dead.mass_above(0.01)


def test_tokens_by_document():
    found = consistent_activation([6, 3, 0], [2, 3, 0])
    assert found.tolist()[:2] == [3, 1]
    assert math.isnan(found[2])


def test_agreement_with_the_slow_form():
    rng = np.random.default_rng(0)
    f = np.where(rng.random((40, 9)) < 0.2, rng.normal(size=(40, 9)), 0)
    f[:, 4] = 0
    documents = np.repeat(np.arange(5), 8)
    fires = f != 0
    found = FiringDensity(fires.sum(0), 40)
    density = slow.slow_density(f.tolist())
    assert found.values.tolist() == pytest.approx(density)
    assert found.share_above(0.1) == slow.slow_share_above(density, 0.1)
    assert found.mass_above(0.2) == pytest.approx(slow.slow_mass_above(density, 0.2))
    in_documents = [len(set(documents[column])) for column in fires.T]
    wanted = slow.slow_consistent_activation(f.tolist(), documents.tolist())
    assert wanted[4] is None
    assert [None if math.isnan(v) else v for v in consistent_activation(fires.sum(0), in_documents)] == wanted


def test_nearest_cosine_agrees_with_the_slow_form_in_any_chunks(monkeypatch):
    rows = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    rows[5] = 0
    wanted = slow.slow_nearest_cosine(rows.double().tolist())
    for at_once in (1, 40, 10_000):
        monkeypatch.setattr("trialplate.metrics.row_cosines._AT_ONCE", at_once)
        found = nearest_cosine(rows).tolist()
        assert math.isnan(found[5])
        assert wanted[5] is None
        assert found[:5] + found[6:] == pytest.approx(wanted[:5] + wanted[6:], abs=1e-6)


def test_nearest_cosine_by_hand():
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0], [-1.0, 0.0]])
    # cosines of the third: 0.6, 0.8, -0.6; an opposite row is far away
    assert nearest_cosine(rows).tolist() == pytest.approx([0.6, 0.8, 0.8, 0.0], abs=1e-6)


def test_a_row_of_zeros_is_nobodys_neighbour():
    """Its cosines are no 0, which would be nearer than every row that there is."""
    assert nearest_cosine(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))[:2].tolist() == [-1, -1]


def test_duplicated_directions_show_as_one():
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    rows[3] = 10 * rows[1]
    found = nearest_cosine(rows)
    assert found[[1, 3]].tolist() == pytest.approx([1, 1], abs=1e-6)
    assert found[[0, 2, 4]].max() < 0.99


def test_paired_cosine_by_hand():
    found = paired_cosine(
        torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), torch.tensor([[5.0, 0.0], [-2.0, 0.0], [1.0, 1.0]])
    )
    assert found[:2].tolist() == pytest.approx([0.6, -1.0])
    assert math.isnan(found[2])


def test_messages():
    with pytest.raises(ValueError, match=r"whole numbers \[m\]"):
        FiringDensity(np.array([0.5]), 3)
    with pytest.raises(ValueError, match="fires on 0 to 3 tokens, got 1 to 4"):
        FiringDensity(np.array([1, 4]), 3)
    with pytest.raises(ValueError, match="taken over tokens, got 0"):
        FiringDensity(np.array([0]), 0)
    with pytest.raises(ValueError, match="at least one bin a decade"):
        FiringDensity(FIRED, 1000).histogram(0)
    with pytest.raises(ValueError, match="so does the cut; got 5"):
        FiringDensity(FIRED, 1000).share_above(5)
    with pytest.raises(ValueError, match="at most as many documents as tokens"):
        consistent_activation([1], [2])
    with pytest.raises(ValueError, match="at most as many documents as tokens, and in one if it fires"):
        consistent_activation([1], [0])
    with pytest.raises(ValueError, match="two rows that are not zero, got 1 of 2"):
        nearest_cosine(torch.tensor([[1.0], [0.0]]))
    with pytest.raises(ValueError, match="finite rows"):
        nearest_cosine(torch.tensor([[math.nan], [0.0]]))
    with pytest.raises(ValueError, match=r"of one shape, got \[2, 1\] and \[1, 2\]"):
        paired_cosine(torch.zeros(2, 1), torch.zeros(1, 2))
