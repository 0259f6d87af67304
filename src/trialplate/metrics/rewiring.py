"""A random graph with the degrees of a given one: what modularity comes from degrees alone?

Two edges {a, b}, {c, d} become {a, d}, {c, b} (Maslov and Sneppen 2002). A step pairs the edges at random and tries the swaps of all pairs at once:
a pair is swapped if each of its four edges (two old, two new) occurs once among all that are present or proposed. That rule reads the
same from either side of a step, so steps are symmetric, and the uniform distribution over graphs with these degrees stays as it
is. One step in ten tries fewer pairs, down to one, so that any single swap can happen alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trialplate.metrics.graphs import Graph

_SMALL_STEPS = 0.1
_TRIES = 20  # times the swaps that are wanted
_ONCE = np.int32(1)  # of the type of the table that it is added to, which makes ufunc.at ten times as fast


class Rewired(NamedTuple):
    """A graph with the degrees of another, and the swaps made on the way; a weight stays with one end of its edge."""

    graph: Graph
    n_swaps: int


def rewire(graph: Graph, rng: np.random.Generator, swaps_per_edge: float = 10) -> Rewired:
    """The graph after about swaps_per_edge * m swaps: simple, every degree as before, the same weights on other edges.

    A graph that hardly can be swapped (complete, a star) comes back with less than half of them, after 20 tries for each that was
    wanted: look at n_swaps. Memory: 4 bytes for each pair of nodes. ValueError for swaps_per_edge that is not positive."""
    if not swaps_per_edge > 0:
        raise ValueError(
            f"a graph is rewired by a positive number of swaps for each edge, got {swaps_per_edge}; 10 is usual"
        )
    chain = _Chain(graph)
    half, tries = swaps_per_edge * len(graph.pairs) / 2, 0
    swaps: list[int] = []
    while len(graph.pairs) > 1 and sum(swaps) < half and tries < _TRIES * half:
        tries += len(graph.pairs) // 2
        swaps.append(chain.step(rng))
    # a chain that stops at a swap prefers graphs that have many, so how long it goes on is settled half-way
    n_swaps = sum(swaps) + sum(chain.step(rng) for _ in swaps)
    pairs = np.sort(np.stack([chain.tail, chain.head], axis=1), axis=1)
    return Rewired(Graph(graph.n_nodes, pairs, graph.weights), n_swaps)


class _Chain:
    """Edges in place, and for each pair of nodes how often it is present or proposed."""

    def __init__(self, graph: Graph) -> None:
        self.n_nodes, self.keys = graph.n_nodes, graph.keys
        self.tail, self.head = (end.astype(np.int64) for end in graph.pairs.T)
        self.uses = np.zeros(graph.n_nodes**2, dtype=np.int32)
        self.uses[self.keys] = 1

    def step(self, rng: np.random.Generator) -> int:
        """Try one swap for each pair of edges, or for fewer in a small step; the number made."""
        tail, head, keys, uses = self.tail, self.head, self.keys, self.uses
        n_pairs = len(tail) // 2
        if rng.random() < _SMALL_STEPS:
            n_pairs = int(rng.integers(1, n_pairs + 1))
        first, second = rng.permutation(len(tail))[: 2 * n_pairs].reshape(2, n_pairs)
        a, b, c, d = tail[first], head[first], tail[second], head[second]
        turn = rng.random(n_pairs) < 0.5  # which end of the second edge is called c
        c, d = np.where(turn, d, c), np.where(turn, c, d)
        one, two = self._key(a, d), self._key(c, b)
        np.add.at(uses, one, _ONCE)
        np.add.at(uses, two, _ONCE)
        most = np.maximum(np.maximum(uses[one], uses[two]), np.maximum(uses[keys[first]], uses[keys[second]]))
        uses[one] = uses[two] = 0
        made = np.flatnonzero((most == 1) & (a != d) & (c != b))
        first, second = first[made], second[made]
        uses[keys] = 1
        uses[keys[first]] = uses[keys[second]] = 0
        head[first], tail[second], head[second] = d[made], c[made], b[made]
        keys[first], keys[second] = one[made], two[made]
        uses[keys[first]] = uses[keys[second]] = 1
        return len(made)

    def _key(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.minimum(u, v) * self.n_nodes + np.maximum(u, v)
