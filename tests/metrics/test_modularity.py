"""The whole pipeline: it finds modules that were planted, finds none in noise, and says what its nulls say."""

import json
import math

import numpy as np
import pytest

from trialplate.metrics import modularity as room
from trialplate.metrics.coactivation import count_coactivation
from trialplate.metrics.communities import adjusted_rand_index, best_of
from trialplate.metrics.graphs import Graph, newman_q
from trialplate.metrics.modularity import Null, Settings, modularity, modularity_of_counts
from trialplate.metrics.planted import planted_patterns
from trialplate.metrics.rewiring import rewire
from trialplate.metrics.surrogates import shifted

LEAN = Settings(n_runs=4, n_rewired=5, n_shifted=3, n_dealt=3)
DOCUMENT = np.arange(3000) // 15


def planted(strength, n_units=256, seed=0, n_tokens=3000):
    return planted_patterns(n_tokens, n_units, 8, strength, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def strong():
    fires, module = planted(0.6)
    return modularity(fires, DOCUMENT, np.random.default_rng(0), LEAN), module


# --- planted modules -------------------------------------------------------------------------------------------------


def test_strong_modules_are_found(strong):
    found, module = strong
    inside = found.communities >= 0
    assert inside.mean() > 0.98
    assert adjusted_rand_index(found.communities[inside], module[inside]) > 0.95
    assert found.n_communities == 8
    assert found.q > 0.8
    assert found.q_z > 20
    assert found.stability_ari > 0.95
    assert found.largest_share == pytest.approx(1 / 8, abs=0.02)


def test_nulls_of_patterns_have_no_edges_where_units_meet_on_tokens(strong):
    found, _ = strong
    for null in (found.shifted, found.dealt):
        assert max(null.n_edges) <= 2
        assert (null.mean, null.sd, null.q) == (None, None, (None, None, None))


def test_the_null_of_degrees_keeps_the_number_of_edges(strong):
    found, _ = strong
    assert found.rewired.n_edges == (found.n_edges,) * 5
    assert found.rewired.mean == pytest.approx(0.12, abs=0.05)
    assert found.swaps_per_edge > 8


def test_independent_units_have_no_edges_and_no_q():
    fires, _ = planted(0.0)
    found = modularity(fires, DOCUMENT, np.random.default_rng(0), LEAN)
    assert found.n_edges <= 1
    assert not found.q_defined
    assert (found.q, found.q_z, found.n_communities, found.stability_ari) == (None, None, None, None)
    assert f"Q wants {found.n_units}, as fewer fall to pieces" in found.why["q"]
    assert (found.communities == -1).all()


def test_a_shifted_pattern_has_no_q():
    fires, _ = planted(0.6)
    control = shifted(fires, DOCUMENT, np.random.default_rng(1))
    assert not modularity_of_counts(count_coactivation(control), np.random.default_rng(0), LEAN).q_defined


def test_fragments_of_noise_have_high_q_and_the_null_says_so():
    fires, _ = planted(0.0)
    counts = count_coactivation(fires)
    n, total = counts.firings.astype(float), counts.n_tokens
    sd = np.sqrt(n * (total - n))
    i, j = np.triu_indices(256, 1)
    z = ((total * counts.counts - np.outer(n, n)) / np.outer(sd, sd))[i, j]
    chosen = np.argsort(-z)[:100]  # the hundred strongest pairs, untested
    nodes, ends = np.unique(np.stack([i, j], 1)[chosen], return_inverse=True)
    fragments = Graph(len(nodes), ends.reshape(-1, 2), z[chosen])
    q = best_of(fragments, range(10)).q
    rng = np.random.default_rng(1)
    null = [max(best_of(rewire(fragments, rng).graph, [seed]).q) for seed in range(20)]
    assert max(q) > 0.85
    assert abs(np.mean(q) - np.mean(null)) < 3 * np.std(null)
    assert not modularity_of_counts(counts, rng, LEAN).q_defined


def test_weak_modules_have_too_few_edges_for_a_q():
    fires, _ = planted(0.25)
    found = modularity_of_counts(count_coactivation(fires), np.random.default_rng(0), LEAN)
    assert 5 < found.n_edges < 200
    assert not found.q_defined
    asked = Settings(n_runs=4, n_rewired=10, min_edges=5)
    high = modularity_of_counts(count_coactivation(fires), np.random.default_rng(0), asked)
    assert high.q > 0.8
    assert high.rewired.mean > 0.8


def test_methods_and_algorithms_are_kept_with_the_result():
    fires, module = planted(0.6)
    asked = Settings(method="popcount", algorithm="leiden", n_runs=2, n_rewired=2, n_shifted=1, n_dealt=1)
    found = modularity(fires, DOCUMENT, np.random.default_rng(0), asked)
    assert (found.settings.algorithm, found.counted_by) == ("leiden", "popcount")
    assert adjusted_rand_index(found.communities, module) > 0.95


# --- what the nulls of patterns are for ------------------------------------------------------------------------------


def test_a_shared_task_makes_modules_that_the_nulls_explain():
    rng = np.random.default_rng(0)
    document = np.arange(4000) // 20
    task = document % 4
    likes = np.arange(80) % 4
    fires = rng.random((4000, 80)) < np.where(task[:, None] == likes, 0.4, 0.05)
    found = modularity(fires, document, rng, LEAN, task=task)
    assert found.q_z > 10  # modular beyond its degrees
    assert found.shifted.mean_edges > 0.9 * found.n_edges  # but not on tokens: a preference for texts is enough
    assert found.dealt.mean_edges > 0.9 * found.n_edges  # nor for texts: a preference for the task is enough
    untold = modularity(fires, document, rng, LEAN)
    assert untold.dealt.mean_edges < 0.1 * found.n_edges


def test_thinning_tames_tokens_that_depend_on_each_other():
    rng = np.random.default_rng(0)
    document = np.arange(6000) // 24
    # every unit fires in spells of 8 tokens, on its own: independent of the others, and of the text
    starts = rng.random((6000 // 8, 120)) < 0.2
    fires = np.repeat(starts, 8, axis=0)
    counts = count_coactivation(fires)
    plain = modularity_of_counts(counts, rng, LEAN)
    thinned = modularity(fires, document, rng, Settings(n_shifted=0, n_dealt=0, one_per_block=8))
    assert plain.n_edges > 100
    assert thinned.n_edges <= 2
    assert thinned.n_tokens == 750


def test_the_shifted_null_shows_dependence_inside_documents():
    rng = np.random.default_rng(0)
    fires = np.repeat(rng.random((6000 // 8, 120)) < 0.2, 8, axis=0)
    found = modularity(fires, np.arange(6000) // 24, rng, Settings(n_runs=1, n_rewired=0, n_shifted=3, n_dealt=0))
    assert found.shifted.mean_edges > 100


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_metrics_are_finite_and_fit_a_report(strong):
    found, _ = strong
    numbers = found.metrics()
    json.dumps(numbers, allow_nan=False)
    undefined = {name for name, value in numbers.items() if value is None}
    assert undefined == {"shifted_q", "dealt_q"}
    assert all(math.isfinite(value) for value in numbers.values() if value is not None)
    assert numbers["q_defined"] == 1.0
    assert numbers["q_z"] == (found.q_matched - found.rewired.mean) / found.rewired.sd
    assert numbers["density"] == found.n_edges / (found.n_units * (found.n_units - 1) / 2)
    assert numbers["q_null_mean"] == np.mean(found.rewired.q)
    assert numbers["q_null_sd"] == pytest.approx(np.std(found.rewired.q, ddof=1))


def test_q_is_that_of_the_communities_and_the_same_with_z_for_phi(strong):
    found, _ = strong
    assert newman_q(Graph(256, found.pairs, found.weights), found.communities) == pytest.approx(found.q)
    z = found.weights * np.sqrt(found.n_tokens - 1)
    assert newman_q(Graph(256, found.pairs, z), found.communities) == pytest.approx(found.q)


def test_expected_best_by_hand():
    # of 1, 2, 3 the best of two: 2, 3, 3
    assert room._expected_best([3, 1, 2], 2) == pytest.approx(8 / 3)
    assert room._expected_best([3, 1, 2], 1) == pytest.approx(2)
    assert room._expected_best([3, 1, 2], 3) == 3


def test_equal_seeds_give_equal_results_and_nulls_do_not_disturb_each_other():
    fires, _ = planted(0.4, n_units=120)
    few = Settings(n_runs=2, n_rewired=2, n_shifted=2, n_dealt=2)
    one, two = (modularity(fires, DOCUMENT, np.random.default_rng(5), few) for _ in range(2))
    assert one.metrics() == two.metrics()
    more = Settings(n_runs=2, n_rewired=3, n_shifted=5, n_dealt=0)
    other = modularity(fires, DOCUMENT, np.random.default_rng(5), more)
    assert other.q == one.q
    assert other.rewired.q[:2] == one.rewired.q
    assert other.shifted.n_edges[:2] == one.shifted.n_edges
    assert other.dealt == Null("dealt")


def test_counts_of_two_streams_give_the_result_of_one():
    fires, _ = planted(0.5, n_units=100)
    parts = count_coactivation(fires[:1000]) + count_coactivation(fires[1000:])
    one, two = (
        modularity_of_counts(counts, np.random.default_rng(0), LEAN) for counts in (parts, count_coactivation(fires))
    )
    assert one.metrics() == two.metrics()


# --- what is undefined says why --------------------------------------------------------------------------------------


def test_a_graph_that_cannot_be_rewired_has_no_z():
    rng = np.random.default_rng(0)
    fires = (rng.random((2000, 1)) < 0.3) & (rng.random((2000, 30)) < 0.9)  # every pair has an edge
    found = modularity_of_counts(count_coactivation(fires), rng, LEAN)
    assert (found.density, found.q_defined, found.q_z) == (1.0, True, None)
    assert found.swaps_per_edge == 0
    assert "stuck" in found.why["q_z"]


@pytest.mark.parametrize("n_rewired", [0, 1])
def test_fewer_than_two_rewired_graphs_have_no_z(n_rewired):
    fires, _ = planted(0.6, n_units=80)
    asked = Settings(n_runs=1, n_rewired=n_rewired)
    found = modularity_of_counts(count_coactivation(fires), np.random.default_rng(0), asked)
    assert (found.q_z, found.rewired.sd, found.stability_ari) == (None, None, None)
    assert set(found.why) == {"q_z", "stability_ari"}


def test_a_silent_site_is_a_result_and_no_error():
    silent = np.zeros((300, 10), dtype=bool)
    found = modularity(silent, np.arange(300) // 10, np.random.default_rng(0), LEAN)
    assert (found.n_units, found.n_edges, found.density, found.q_defined) == (0, 0, None, False)


@pytest.mark.parametrize(
    ("n_tested", "asked", "needed"), [(150, None, 200), (201, None, 201), (201, 7, 7), (201, 0, 1)]
)
def test_edges_are_needed_as_many_as_units_tested(n_tested, asked, needed):
    fires = np.random.default_rng(0).random((400, 300)) < 0.5
    fires[:, n_tested:] = False
    found = modularity_of_counts(count_coactivation(fires), np.random.default_rng(0), Settings(min_edges=asked))
    assert (found.n_units, found.q_defined) == (n_tested, False)
    assert f"Q wants {needed}," in found.why["q"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Settings(method="int8"), "got 'int8'"),
        (lambda: Settings(algorithm="greedy"), "'greedy'"),
        (lambda: Settings(null_runs=0), "at least one run"),
        (lambda: Settings(n_runs=2, null_runs=3), "at most as many"),
        (lambda: Settings(n_dealt=-1), "0 leaves it out"),
        (lambda: modularity(np.ones((60, 3), dtype=bool), np.zeros(60), np.random.default_rng(0)), "take more tokens"),
        (lambda: modularity(np.ones((0, 3), dtype=bool), [], np.random.default_rng(0)), "not empty"),
        (lambda: planted_patterns(10, 4, 5, 0.5, np.random.default_rng(0)), "a unit for each module"),
        (lambda: planted_patterns(10, 4, 2, 1.5, np.random.default_rng(0)), "between 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


# --- the generator ---------------------------------------------------------------------------------------------------


def test_planted_rates_do_not_depend_on_the_strength():
    rates = [planted(strength, n_units=400, seed=7)[0].mean(0) for strength in (0.0, 1.0)]
    assert 0.015 < rates[0].min() < rates[0].max() < 0.12
    assert rates[1] == pytest.approx(rates[0], abs=0.04)  # the same rates, from other draws
    assert rates[1].mean() == pytest.approx(rates[0].mean(), abs=0.003)


def test_planted_units_of_rate_a_tenth_correlate_by_the_square_of_the_strength():
    fires, module = planted(0.5, n_units=160, n_tokens=20_000)
    often = np.flatnonzero(fires.mean(0) > 0.085)
    phi = np.corrcoef(fires[:, often].T.astype(float))
    same = (module[often][:, None] == module[often]) & ~np.eye(len(often), dtype=bool)
    # p_on - p_off = s r / 0.1 ... at r = 0.1: phi = s^2; a rate of 0.09 gives 0.9 of it
    assert phi[same].mean() == pytest.approx(0.25 * 0.92, abs=0.03)
    assert phi[~same & ~np.eye(len(often), dtype=bool)].mean() == pytest.approx(0, abs=0.01)
