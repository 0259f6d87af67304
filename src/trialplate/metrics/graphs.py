"""A weighted graph as an edge list, and Newman's modularity of a partition of it.

Symbols: a pair is an edge {a, b} with weight w > 0, W = sum of weights, k_v = strength of node v (sum of the weights at it), g(v) = its group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Graph:
    """Undirected, no loops, no double edges. ValueError for anything else.

    n_nodes: nodes 0 .. n_nodes - 1. pairs: [m, 2] with the smaller node first. weights: [m], finite and positive."""

    n_nodes: int
    pairs: Int[np.ndarray, "edge 2"]
    weights: Float[np.ndarray, " edge"]

    def __post_init__(self) -> None:
        pairs, weights = self.pairs, self.weights
        whole = np.issubdtype(pairs.dtype, np.integer)
        if not whole or pairs.ndim != 2 or pairs.shape[1] != 2 or weights.shape != pairs.shape[:1]:
            raise ValueError(
                f"a graph has pairs [m, 2] of whole numbers and weights [m], got {pairs.dtype} {pairs.shape} and {weights.shape}; "
                "an unweighted one has weights of 1"
            )
        if not len(pairs):
            return
        if pairs.min() < 0 or pairs.max() >= self.n_nodes or not bool((pairs[:, 0] < pairs[:, 1]).all()):
            raise ValueError(
                f"an edge joins two nodes of 0 .. {self.n_nodes - 1}, the smaller first; got nodes {pairs.min()} .. {pairs.max()} and "
                f"{int((pairs[:, 0] >= pairs[:, 1]).sum())} edges with the larger one first or both alike"
            )
        n_different = len(np.unique(self.keys))
        if n_different < len(pairs):
            raise ValueError(
                f"an edge is listed once, got {len(pairs)} edges of which {n_different} are different; add up the weights of the others"
            )
        if not bool((np.isfinite(weights) & (weights > 0)).all()):
            raise ValueError(f"weights are finite and positive, got {weights.min()} .. {weights.max()}")

    @property
    def keys(self) -> Int[np.ndarray, " edge"]:
        """One whole number an edge, different for different edges."""
        return self.pairs[:, 0].astype(np.int64) * self.n_nodes + self.pairs[:, 1]

    @property
    def degrees(self) -> Int[np.ndarray, " node"]:
        """Edges at each node."""
        return np.bincount(self.pairs.ravel(), minlength=self.n_nodes)

    @property
    def strengths(self) -> Float[np.ndarray, " node"]:
        """k_v."""
        return np.bincount(self.pairs.ravel(), np.repeat(self.weights, 2), self.n_nodes)


def newman_q(graph: Graph, labels: Int[np.ndarray, " node"]) -> float:
    """Modularity Q = sum over groups of [ (weight inside) / W - (sum of k_v / 2W)^2 ] (Newman and Girvan 2004; resolution 1).

    At least -1/2 and less than 1; 0 for one group of all. All weights times a constant leave it as it is. High by construction for a graph
    in pieces (m separate edges have 1 - 1/m), so it means nothing without a null. ValueError without edges: Q is then undefined."""
    labels = np.asarray(labels)
    if labels.shape != (graph.n_nodes,):
        raise ValueError(f"a partition has one label a node, got shape {labels.shape} for {graph.n_nodes} nodes")
    if not len(graph.pairs):
        raise ValueError("modularity of a graph without edges is undefined; say so instead of reporting 0")
    group = np.unique(labels, return_inverse=True)[1]
    total = float(graph.weights.sum())
    inside = float(graph.weights[group[graph.pairs[:, 0]] == group[graph.pairs[:, 1]]].sum())
    shares = np.bincount(group, graph.strengths) / (2 * total)
    return inside / total - float(np.square(shares).sum())
