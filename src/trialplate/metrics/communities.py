"""Communities of a graph: the partition of highest modularity that some seeds find, and how far the seeds agree.

The algorithm is named by the caller and kept with the result: "louvain" (own, in `louvain`) or "leiden" (extra `leiden`: leidenalg and igraph, GPL).
Both climb; neither is sure to reach the top, so a partition is the best of several runs, and its stability is part of the result."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from trialplate.metrics.graphs import Graph, newman_q
from trialplate.metrics.louvain import louvain

ALGORITHMS = ("louvain", "leiden")


class Runs(NamedTuple):
    """Partitions of one graph from several seeds.

    labels: [node] of the run with the highest Q, 0 = the largest group. q: of each run. stability_ari: mean adjusted Rand index
    of all pairs of runs, 1 = all alike; None for a single run, which has nothing to agree with."""

    labels: np.ndarray
    q: tuple[float, ...]
    stability_ari: float | None


def find(graph: Graph, algorithm: str = "louvain", seed: int = 0) -> Int[np.ndarray, " node"]:
    """Group of each node, 0 = the largest, by modularity at resolution 1. Equal seeds give equal groups.

    ValueError for an algorithm that is none of ALGORITHMS or a graph without edges; ImportError for "leiden" without its extra."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"communities are found by one of {', '.join(ALGORITHMS)}; got {algorithm!r}")
    if not len(graph.pairs):
        raise ValueError("a graph without edges has no communities; say so instead of reporting one for each node")
    labels = louvain(graph, seed) if algorithm == "louvain" else _leiden(graph, seed)
    return _by_size(labels)


def best_of(graph: Graph, seeds: Sequence[int], algorithm: str = "louvain") -> Runs:
    """`find` with each seed, all of them kept in numbers and the best in full."""
    if not len(seeds):
        raise ValueError("the best of no runs is undefined; pass at least one seed, ten are usual")
    partitions = [find(graph, algorithm, seed) for seed in seeds]
    q = tuple(newman_q(graph, labels) for labels in partitions)
    agreement = [adjusted_rand_index(one, two) for one, two in combinations(partitions, 2)]
    return Runs(partitions[int(np.argmax(q))], q, float(np.mean(agreement)) if agreement else None)


def adjusted_rand_index(first: Int[np.ndarray, " node"], second: Int[np.ndarray, " node"]) -> float:
    """Agreement of two partitions of the same nodes beyond chance (Hubert and Arabie 1985): 1 = alike, 0 = as by chance, at least -1/2.

    (S - E) / ((A + B) / 2 - E): pairs of nodes together in both (S), in the first (A), in the second (B); E = A B / all pairs.
    Names of groups do not matter. Two partitions that both put all nodes together, or all apart, are alike: 1."""
    one, two = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != two.shape or not one.size:
        raise ValueError(f"two partitions label the same nodes, at least one; got shapes {one.shape} and {two.shape}")
    one, two = np.unique(one, return_inverse=True)[1], np.unique(two, return_inverse=True)[1]
    both = np.unique(one * (int(two.max()) + 1) + two, return_counts=True)[1]
    together, in_one, in_two = (_pairs(sizes) for sizes in (both, np.bincount(one), np.bincount(two)))
    every = one.size * (one.size - 1) / 2
    expected = in_one * in_two / every if every else 0.0
    most = (in_one + in_two) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def _pairs(sizes: np.ndarray) -> float:
    return float((sizes * (sizes - 1)).sum()) / 2


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Groups renamed by falling size, of equal ones the one with the first node first."""
    _, first, group, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.intp)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[group]


def _leiden(graph: Graph, seed: int) -> np.ndarray:
    try:
        import igraph
        import leidenalg
    except ImportError as error:
        raise ImportError(
            f"algorithm 'leiden' needs leidenalg and igraph, which cannot be imported ({error}): pip install 'trialplate[leiden]'; "
            "algorithm 'louvain' needs neither"
        ) from error
    network = igraph.Graph(n=graph.n_nodes, edges=graph.pairs.tolist())
    partition = leidenalg.find_partition(
        network,
        leidenalg.ModularityVertexPartition,
        weights=graph.weights.tolist(),
        n_iterations=-1,  # until nothing improves
        seed=seed,
    )
    return np.asarray(partition.membership)
