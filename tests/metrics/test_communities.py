"""Graphs, modularity, communities and rewired graphs, on graphs whose answers are known."""

import sys
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from building_blocks.coactivation_slow import slow_ari, slow_q
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from trialplate.metrics.communities import ALGORITHMS, adjusted_rand_index, best_of, find
from trialplate.metrics.graphs import Graph, newman_q
from trialplate.metrics.louvain import louvain
from trialplate.metrics.rewiring import rewire


def graph(n_nodes, pairs, weights=None):
    array = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return Graph(n_nodes, array, np.ones(len(array)) if weights is None else np.asarray(weights, dtype=float))


def random_graph(n_nodes, n_edges, seed):
    rng = np.random.default_rng(seed)
    pairs = np.stack(np.triu_indices(n_nodes, 1), axis=1)
    return graph(n_nodes, pairs[rng.choice(len(pairs), n_edges, replace=False)], rng.uniform(0.1, 1, n_edges))


def to_networkx(of):
    network = nx.Graph()
    network.add_nodes_from(range(of.n_nodes))
    network.add_weighted_edges_from((a, b, w) for (a, b), w in zip(of.pairs.tolist(), of.weights.tolist(), strict=True))
    return network


def karate():
    network = nx.karate_club_graph()
    return graph(34, [sorted(pair) for pair in network.edges])


TRIANGLES = graph(6, [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)])  # joined by one edge


# --- Q and the index of Rand -----------------------------------------------------------------------------------------


def test_q_by_hand():
    # W = 7; each triangle holds 3 edges and strength 7 of 14: 6/7 - 2 * (1/2)^2
    assert newman_q(TRIANGLES, np.array([0, 0, 0, 1, 1, 1])) == pytest.approx(6 / 7 - 1 / 2)
    assert newman_q(TRIANGLES, np.zeros(6, dtype=int)) == pytest.approx(0)
    # all apart: no edge inside, minus the squares of degrees 2, 2, 3, 3, 2, 2 of 14
    assert newman_q(TRIANGLES, np.arange(6)) == pytest.approx(-(4 * 4 + 2 * 9) / 196)


def test_q_with_weights_by_hand():
    # path 0 -3- 1 -1- 2: W = 4, strengths 3, 4, 1; groups {0, 1}, {2}: 3/4 - (7/8)^2 - (1/8)^2
    path = graph(3, [(0, 1), (1, 2)], [3, 1])
    assert newman_q(path, np.array([5, 5, 9])) == pytest.approx(3 / 4 - 49 / 64 - 1 / 64)
    assert newman_q(graph(3, path.pairs, [30, 10]), np.array([5, 5, 9])) == pytest.approx(3 / 4 - 50 / 64)


def test_separate_edges_have_high_q_by_construction():
    assert newman_q(graph(20, np.arange(20).reshape(10, 2)), np.arange(20) // 2) == pytest.approx(1 - 1 / 10)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**31))
def test_q_is_the_slow_one_and_that_of_networkx(n_nodes, seed):
    rng = np.random.default_rng(seed)
    some = random_graph(n_nodes, int(rng.integers(1, n_nodes * (n_nodes - 1) // 2 + 1)), seed)
    labels = rng.integers(0, 3, n_nodes)
    edges = [(a, b, w) for (a, b), w in zip(some.pairs.tolist(), some.weights.tolist(), strict=True)]
    groups = [set(np.flatnonzero(labels == name).tolist()) for name in np.unique(labels)]
    assert newman_q(some, labels) == pytest.approx(slow_q(n_nodes, edges, labels.tolist()), abs=1e-12)
    assert newman_q(some, labels) == pytest.approx(nx.community.modularity(to_networkx(some), groups), abs=1e-12)


def test_ari_by_hand():
    # 6 nodes, 15 pairs. Together in the first: 3 + 3; in the second: 1 + 6; in both: 1 + 3
    first, second = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]
    expected = 6 * 7 / 15
    assert adjusted_rand_index(first, second) == pytest.approx((4 - expected) / (6.5 - expected))
    assert adjusted_rand_index(first, ["b", "b", "b", "a", "a", "a"]) == 1.0
    # each of two groups cut across: nothing in both, 2 and 2 of 6 pairs
    assert adjusted_rand_index([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx((0 - 2 / 3) / (2 - 2 / 3))


def test_ari_of_trivial_partitions():
    assert adjusted_rand_index([0, 0, 0], [4, 4, 4]) == 1.0
    assert adjusted_rand_index([0, 1, 2], [2, 1, 0]) == 1.0
    assert adjusted_rand_index([0], [1]) == 1.0
    assert adjusted_rand_index([0, 0, 0], [0, 1, 2]) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=30))
def test_ari_is_the_slow_one(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    try:
        wanted = slow_ari(first, second)
    except ZeroDivisionError:
        wanted = 1.0
    assert adjusted_rand_index(first, second) == pytest.approx(wanted)
    assert adjusted_rand_index(second, first) == pytest.approx(wanted)


# --- communities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_triangles_are_two_communities(algorithm):
    for seed in range(5):
        assert find(TRIANGLES, algorithm, seed).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_karate_club_has_its_known_modularity(algorithm):
    runs = best_of(karate(), range(10), algorithm)
    assert max(runs.q) == pytest.approx(0.4198, abs=0.002)  # 0.4198 is the most that there is (Brandes et al. 2008)
    assert newman_q(karate(), runs.labels) == max(runs.q)
    assert 0.5 < runs.stability_ari <= 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_groups_are_numbered_by_size_and_lone_nodes_stay_alone(algorithm):
    pairs = [(5, 6), (1, 2), (1, 3), (2, 3)]
    assert find(graph(8, pairs), algorithm).tolist() == [2, 0, 0, 0, 3, 1, 1, 4]


def test_louvain_without_edges_leaves_each_node_alone():
    assert louvain(graph(3, []), 0).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("n_nodes", "n_edges"), [(60, 90), (150, 2000), (300, 900)])
def test_louvain_climbs_as_high_as_that_of_networkx(n_nodes, n_edges):
    for number in range(2):
        some = random_graph(n_nodes, n_edges, number)
        network = to_networkx(some)
        theirs = [
            nx.community.modularity(network, nx.community.louvain_communities(network, seed=seed)) for seed in range(5)
        ]
        ours = best_of(some, range(5)).q
        assert np.mean(ours) > np.mean(theirs) - 0.02
        assert max(ours) > max(theirs) - 0.015


def test_seeds_make_runs_and_equal_seeds_equal_runs():
    some = random_graph(100, 300, 0)
    for algorithm in ALGORITHMS:
        assert (find(some, algorithm, 3) == find(some, algorithm, 3)).all()
    runs = best_of(some, range(6))
    assert len(set(runs.q)) > 1
    assert runs.stability_ari < 0.9
    one = best_of(some, [0])
    assert (one.q, one.stability_ari) == (runs.q[:1], None)


def test_leiden_without_its_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "leidenalg", None)
    with pytest.raises(ImportError, match=r"pip install 'trialplate\[leiden\]'"):
        find(TRIANGLES, "leiden")


# --- rewiring --------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.floats(0.05, 0.95), st.integers(0, 2**31))
def test_rewiring_keeps_degrees_and_weights_and_stays_simple(n_nodes, density, seed):
    some = random_graph(n_nodes, max(1, int(density * n_nodes * (n_nodes - 1) / 2)), seed)
    out, n_swaps = rewire(some, np.random.default_rng(seed))  # Graph refuses loops and double edges
    assert (out.degrees == some.degrees).all()
    assert sorted(out.weights) == sorted(some.weights)
    assert n_swaps >= 0
    assert (np.sort(out.keys) == np.sort(some.keys)).all() or n_swaps > 0


def test_rewiring_makes_the_swaps_and_forgets_the_graph():
    some = random_graph(200, 2000, 0)
    out, n_swaps = rewire(some, np.random.default_rng(0))
    assert 9 * 2000 < n_swaps < 11.5 * 2000
    chance = 2000 / (200 * 199 / 2)
    assert np.isin(out.keys, some.keys).mean() == pytest.approx(chance, abs=0.035)


def test_a_chain_that_stops_at_a_swap_is_not_uniform_and_this_one_is():
    # six nodes of degree 2: 60 hexagons and 10 pairs of triangles, each as likely as the others
    hexagon = graph(6, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)])
    rng = np.random.default_rng(0)
    seen = Counter(tuple(np.sort(rewire(hexagon, rng, 2).graph.keys).tolist()) for _ in range(1400))
    assert len(seen) == 70
    assert chisquare(list(seen.values())).pvalue > 0.001


@pytest.mark.parametrize("pairs", [[(0, 1)], [(0, 1), (0, 2), (0, 3)], [(0, 1), (0, 2), (1, 2)]])
def test_a_graph_without_another_of_its_degrees_comes_back_with_no_swaps(pairs):
    out, n_swaps = rewire(graph(4, pairs), np.random.default_rng(0))
    assert (sorted(out.pairs.tolist()), n_swaps) == ([list(pair) for pair in pairs], 0)


def test_random_graphs_are_no_more_modular_than_their_rewired_ones():
    z = []
    for number in range(8):
        some, rng = random_graph(100, 400, number), np.random.default_rng(number)
        null = [newman_q(out, find(out, seed=seed)) for seed in range(15) for out, _ in [rewire(some, rng)]]
        q = best_of(some, range(5)).q
        assert min(q) > 0.3
        z.append((np.mean(q) - np.mean(null)) / np.std(null, ddof=1))
    assert np.mean(z) == pytest.approx(0, abs=1.2)  # sd = 0.4


# --- what is no graph ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: graph(3, [(1, 0)]), "the smaller first"),
        (lambda: graph(3, [(1, 1)]), "both alike"),
        (lambda: graph(3, [(0, 3)]), r"nodes of 0 .. 2"),
        (lambda: graph(3, [(0, 1), (0, 1)]), "listed once"),
        (lambda: graph(3, [(0, 1)], [0]), "finite and positive"),
        (lambda: graph(3, [(0, 1)], [np.nan]), "finite and positive"),
        (lambda: graph(3, [(0, 1)], [1, 2]), "weights of 1"),
        (lambda: Graph(3, np.array([[0.0, 1.0]]), np.ones(1)), "of whole numbers"),
        (lambda: newman_q(graph(3, []), np.zeros(3)), "without edges is undefined"),
        (lambda: newman_q(TRIANGLES, np.zeros(5)), "one label a node"),
        (lambda: find(graph(3, [])), "no communities"),
        (lambda: find(TRIANGLES, "greedy"), "louvain, leiden; got 'greedy'"),
        (lambda: best_of(TRIANGLES, []), "at least one seed"),
        (lambda: adjusted_rand_index([0, 1], [0]), "same nodes"),
        (lambda: adjusted_rand_index([], []), "at least one"),
        (lambda: rewire(TRIANGLES, np.random.default_rng(0), 0), "positive number"),
    ],
)
def test_what_is_undefined_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
