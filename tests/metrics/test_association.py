"""Edges of a co-activation graph: what counts as firing together more often than chance."""

import numpy as np
import pytest
from building_blocks.coactivation_slow import slow_counts, slow_edges, slow_tail, slow_z
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom, norm

from trialplate.metrics.association import _least_z, associated_pairs, upper_tail
from trialplate.metrics.coactivation import Coactivation, count_coactivation
from trialplate.metrics.planted import planted_patterns


def independent(n_tokens, rates, seed):
    return np.random.default_rng(seed).random((n_tokens, len(rates))) < np.asarray(rates)


def test_z_phi_and_tail_by_hand():
    # T = 10, n = m = 5, together 5: mean 2.5, variance 5*5*5*5 / (100 * 9), phi 1; one choice in C(10, 5) = 252 has all five
    fires = np.zeros((10, 2), dtype=bool)
    fires[:5] = True
    found = associated_pairs(count_coactivation(fires), min_firings=1)
    assert found.pairs.tolist() == [[0, 1]]
    assert found.z == pytest.approx(2.5 / np.sqrt(625 / 900))
    assert found.phi == pytest.approx(1.0)
    assert found.p == pytest.approx(1 / 252)
    assert (found.units.tolist(), found.n_tests) == ([0, 1], 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.data())
def test_tail_is_exact(total, data):
    n, m = data.draw(st.integers(1, total)), data.draw(st.integers(1, total))
    together = data.draw(st.integers(max(0, n + m - total), min(n, m)))
    tail = upper_tail(*(np.array([x]) for x in (together, n, m)), total)
    assert tail[0] == pytest.approx(float(slow_tail(together, n, m, total)), rel=1e-10)


def test_tail_of_a_long_stream():
    together, n, m, total = np.array([1100, 1000, 700]), np.array([30_000] * 3), np.array([33_333] * 3), 1_000_000
    assert upper_tail(together, n, m, total) == pytest.approx(hypergeom.sf(together - 1, total, n, m), rel=1e-6)


@pytest.mark.parametrize("fdr", [0.0001, 0.01, 0.05, 0.1])
def test_pairs_that_are_not_summed_could_not_be_found(fdr):
    for total in (4, 7, 12, 30, 80, 400):
        some = {*range(1, 12), *(total * k // 8 for k in range(1, 8)), *(total - k for k in range(1, 12))}
        rates = np.array(sorted(k for k in some if 0 < k < total))
        n, m, c = (x.ravel() for x in np.meshgrid(rates, rates, np.arange(total + 1), indexing="ij"))
        possible = (c > n * m / total) & (c <= np.minimum(n, m))
        n, m, c = n[possible], m[possible], c[possible]
        z = (c - n * m / total) / np.sqrt(n * (total - n) * m * (total - m) / (total**2 * (total - 1)))
        assert (upper_tail(c, n, m, total)[z <= _least_z(fdr)] > fdr).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_edges_are_those_of_the_slow_form(seed):
    fires, _ = planted_patterns(150, 8, 2, 1.0, np.random.default_rng(seed))
    slow = slow_counts(fires.tolist())
    found = associated_pairs(count_coactivation(fires), fdr=0.05, min_firings=5)
    assert found.pairs.tolist() == [list(pair) for pair in slow_edges(slow, 150, 0.05, 5)]
    assert found.z == pytest.approx([slow_z(slow, 150, i, j) for i, j in found.pairs.tolist()])
    assert found.phi * np.sqrt(149) == pytest.approx(found.z)


def test_step_up_is_scipys():
    fires, _ = planted_patterns(600, 60, 4, 0.4, np.random.default_rng(3))
    counts = count_coactivation(fires)
    n = counts.firings
    i, j = np.triu_indices(60, 1)
    p = hypergeom.sf(counts.counts[i, j] - 1, 600, n[i], n[j])
    wanted = false_discovery_control(p) <= 0.01
    found = associated_pairs(counts, min_firings=1)
    assert 0 < wanted.sum() < len(p)
    assert found.pairs.tolist() == np.stack([i, j], 1)[wanted].tolist()


def test_independent_units_have_no_edges():
    edges = [
        len(associated_pairs(count_coactivation(independent(2000, np.geomspace(0.03, 0.5, 100), seed))).pairs)
        for seed in range(20)
    ]
    assert sum(edges) <= 2  # one pattern in a hundred may have an edge, at a rate of 1 %


def test_the_normal_tail_invents_edges_between_rare_units():
    fires = independent(5000, np.full(150, 0.012), seed=0)
    counts = count_coactivation(fires)
    n, total = counts.firings, counts.n_tokens
    i, j = np.triu_indices(150, 1)
    sd = np.sqrt(n[i] * (total - n[i]) * n[j] * (total - n[j]) / (total**2 * (total - 1)))
    z = (counts.counts[i, j] - n[i] * n[j] / total) / sd
    assert (false_discovery_control(norm.sf(z)) <= 0.01).sum() > 10
    assert len(associated_pairs(counts, min_firings=30).pairs) == 0


def test_pmi_picks_the_rarest_pairs_and_the_edges_do_not():
    rng = np.random.default_rng(0)
    structured, module = planted_patterns(5000, 120, 4, 0.5, rng)
    rare = rng.random((5000, 60)) < 0.007  # nothing but noise
    counts = count_coactivation(np.concatenate([structured, rare], axis=1))
    i, j = np.triu_indices(180, 1)
    rate = counts.firings / 5000
    pmi = np.log((counts.counts[i, j] / 5000 + 1e-9) / (rate[i] * rate[j] + 1e-9))
    first = np.argsort(-pmi)[:100]
    assert ((i[first] >= 120) | (j[first] >= 120)).mean() > 0.5

    pairs = associated_pairs(counts, min_firings=20).pairs
    assert (pairs < 120).all(axis=1).mean() > 0.98
    within = module[pairs[(pairs < 120).all(axis=1)]]
    assert (within[:, 0] == within[:, 1]).mean() > 0.98


def test_units_that_hardly_fire_or_hardly_rest_are_not_tested():
    fires = independent(1000, [0.5, 0.5, 0.02, 0.98], seed=1)
    fires[:, 2] = np.arange(1000) < 49
    fires[:, 3] = np.arange(1000) >= 49
    found = associated_pairs(count_coactivation(fires))
    assert (found.units.tolist(), found.n_tests) == ([0, 1], 1)
    fires[49, 2:] = [True, False]
    assert associated_pairs(count_coactivation(fires)).units.tolist() == [0, 1, 2, 3]


def test_units_that_shun_each_other_have_no_edge():
    fires = np.zeros((400, 2), dtype=bool)
    fires[:200, 0] = fires[200:, 1] = True
    assert len(associated_pairs(count_coactivation(fires)).pairs) == 0


def test_no_unit_to_test_is_no_edge_and_no_error():
    found = associated_pairs(count_coactivation(np.zeros((200, 3), dtype=bool)))
    assert (found.units.size, found.n_tests, found.pairs.shape) == (0, 0, (0, 2))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fdr": 0}, "lies in"),
        ({"fdr": 0.5}, "lies in"),
        ({"min_firings": 0}, "at least 1 each"),
        ({"min_firings": 51}, "take more tokens"),
    ],
)
def test_what_cannot_be_tested_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        associated_pairs(Coactivation(100, np.full((2, 2), 50), "numpy"), **options)
