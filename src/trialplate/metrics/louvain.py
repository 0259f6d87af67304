"""Louvain's method for modularity (Blondel et al. 2008, arXiv:0803.0476), on arrays: about ten times as fast as one on dictionaries.

Symbols as in `graphs`; k_v / 2W is a node's share. Nodes wait in a queue; one that is taken out joins the group that gains Q most, and
wakes its neighbours in other groups (the queue of Ouyang et al. and of Leiden: the same fixed points, fewer visits). When none
waits, groups become nodes, and so on until nothing moves. A node may also leave for a group of its own.

Random only in the order of visits, from the seed. Groups are not guaranteed to hang together; Leiden's are."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Int
from scipy import sparse

from trialplate.metrics.graphs import Graph

_LEAST_GAIN = 1e-12  # of 2W: a move for less is rounding, and could go on for ever


def louvain(graph: Graph, seed: int) -> Int[np.ndarray, " node"]:
    """Group of each node, 0 .. n_groups - 1. A node without edges stays alone."""
    rng = np.random.default_rng(seed)
    ends = graph.pairs.T
    both, weights = np.concatenate([ends, ends[::-1]], axis=1), np.concatenate([graph.weights, graph.weights])
    strength = graph.strengths
    labels = np.arange(graph.n_nodes)
    while len(weights):
        adjacency = sparse.csr_array((weights, (both[0], both[1])), shape=(len(strength), len(strength)))
        group = _move_nodes(adjacency, strength, rng)
        names, group = np.unique(group, return_inverse=True)
        if len(names) == len(strength):
            break
        labels = group[labels]
        strength = np.bincount(group, strength)
        both, weights = _merged(group[both], weights, len(names))
    return labels


def _move_nodes(adjacency: sparse.csr_array, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Group of each node, starting with each alone, when no node gains by leaving."""
    n, total = len(strength), float(strength.sum())
    cuts = adjacency.indptr[1:-1]
    neighbours, weights = np.split(adjacency.indices.astype(np.intp), cuts), np.split(adjacency.data, cuts)
    own, share = strength.tolist(), (strength / total).tolist()
    group, group_strength = np.arange(n), strength.astype(np.float64)
    queue, waits = deque(rng.permutation(n).tolist()), np.ones(n, dtype=bool)
    gain = np.empty(n)
    while queue:
        v = queue.popleft()
        waits[v] = False
        near, old = neighbours[v], group[v]
        near_groups = group[near]
        group_strength[old] -= own[v]
        # W times the change of Q when v, standing alone, joins each group
        np.multiply(group_strength, -share[v], out=gain)
        gain += np.bincount(near_groups, weights[v], n)
        new = gain.argmax()
        if gain[new] <= gain[old] + _LEAST_GAIN * total:
            new = old
        group_strength[new] += own[v]
        if new != old:
            group[v] = new
            wake = near[(near_groups != new) & ~waits[near]]
            waits[wake] = True
            queue.extend(wake.tolist())
    return group


def _merged(ends: np.ndarray, weights: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges between groups, those of one pair of groups added up; inside a group they do not bear on further moves."""
    between = ends[0] != ends[1]
    keys, where = np.unique(ends[0, between] * n_groups + ends[1, between], return_inverse=True)
    return np.stack([keys // n_groups, keys % n_groups]), np.bincount(where, weights[between], len(keys))
