"""What joint firings cost to count, 4096 tokens by 2048 units, and what communities of their graph cost to find.

python benchmarks/coactivation.py [--rounds 7]

CPU seconds of one thread, medians over rounds in which the cases take turns; every ratio is to a case of the same run. "popcount" and "numpy" start
from bool patterns, packing included; the float32 product starts from a float32 matrix, its conversion left out. Compiling is done
before, and kept between processes. Counts are compared, and the exit status is 1 where popcount is less than 8 times as fast."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable

import networkx as nx
import numpy as np
import torch

from trialplate.metrics.coactivation import count_coactivation, pack
from trialplate.metrics.communities import find
from trialplate.metrics.graphs import Graph, newman_q
from trialplate.metrics.modularity import modularity
from trialplate.metrics.planted import planted_patterns
from trialplate.metrics.rewiring import rewire

TOKENS, UNITS, RATE, WANTED = 4096, 2048, 0.1, 8.0
Case = Callable[[], object]


def counting() -> dict[str, Case]:
    """Ways to count the same pattern; they are checked to agree."""
    fires = np.random.default_rng(0).random((TOKENS, UNITS)) < RATE
    matrix = torch.from_numpy(fires.astype(np.float32))
    found: dict[str, Case] = {
        "float32 product": lambda: matrix.T @ matrix,
        "gemm (converted, in int64)": lambda: count_coactivation(fires, "gemm"),
        "numpy": lambda: count_coactivation(fires, "numpy"),
        "popcount": lambda: count_coactivation(fires, "popcount"),
        "packing alone": lambda: pack(fires),
    }
    wanted = (matrix.T @ matrix).numpy()
    for method in ("gemm", "numpy", "popcount"):
        if not (count_coactivation(fires, method).counts == wanted).all():
            sys.exit(f"{method} does not count what the product counts")
    return found


def graphs() -> dict[str, Graph]:
    """A graph with eight modules and two without, sizes as of 512 and 2048 units."""
    return {
        "512 nodes, 16 000 edges, 8 modules": graph(512, 16_000, 0.97),
        "512 nodes, 16 000 edges": graph(512, 16_000, 0.0),
        "2048 nodes, 50 000 edges": graph(2048, 50_000, 0.0),
    }


def graph(n_nodes: int, n_edges: int, inside: float) -> Graph:
    """Random edges, a share of them drawn inside of modules alone."""
    rng = np.random.default_rng(0)
    pairs = np.stack(np.triu_indices(n_nodes, 1), axis=1)
    alike = pairs[:, 0] % 8 == pairs[:, 1] % 8
    weight = np.where(alike, inside / max(alike.sum(), 1), 0) + (1 - inside) / len(pairs)
    chosen = rng.choice(len(pairs), n_edges, replace=False, p=weight / weight.sum())
    return Graph(n_nodes, pairs[chosen], rng.uniform(0.1, 1, n_edges))


def communities(of: Graph) -> dict[str, Case]:
    """Ways to find communities of one graph, and to rewire it."""
    network = nx.Graph()
    network.add_nodes_from(range(of.n_nodes))
    network.add_weighted_edges_from((a, b, w) for (a, b), w in zip(of.pairs.tolist(), of.weights.tolist(), strict=True))
    found: dict[str, Case] = {
        "louvain": lambda: find(of, "louvain", 0),
        "louvain of networkx": lambda: nx.community.louvain_communities(network, seed=0),
        "rewire, 10 swaps an edge": lambda: rewire(of, np.random.default_rng(0)),
    }
    if importlib.util.find_spec("leidenalg"):
        found["leiden"] = lambda: find(of, "leiden", 0)
    return found


def measure(found: dict[str, Case], rounds: int) -> dict[str, float]:
    """Median CPU seconds of every case; cases take turns so that a busy minute falls on all of them."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        for name, case in found.items():
            begin = time.process_time()
            case()
            if number:
                taken[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in taken.items()}


def table(taken: dict[str, float], base: str) -> str:
    """Markdown: medians, and how many times as fast as the base."""
    lines = [f"| case | CPU s | times as fast as {base} |", "|---|--:|--:|"]
    return "\n".join(lines + [f"| {name} | {s:.4f} | {taken[base] / s:.2f} |" for name, s in taken.items()])


def pipeline() -> float:
    """CPU seconds of all steps and nulls on 512 units and 5000 tokens with strong modules."""
    fires, _ = planted_patterns(5000, 512, 8, 0.6, np.random.default_rng(0))
    begin = time.process_time()
    modularity(fires, np.arange(5000) // 15, np.random.default_rng(0))
    return time.process_time() - begin


def main(rounds: int) -> None:
    """Print the tables, and fail if popcount is not fast enough."""
    torch.set_num_threads(1)
    taken = measure(counting(), rounds)
    print(f"{TOKENS} tokens, {UNITS} units, {RATE:.0%} firing\n\n{table(taken, 'float32 product')}")
    for name, some in graphs().items():
        found = table(measure(communities(some), min(rounds, 3)), "louvain of networkx")
        print(f"\n{name}; Q of louvain {newman_q(some, find(some)):.3f}\n\n{found}")
    print(f"\nall steps, 3 x 20 nulls, 512 units, 5000 tokens: {pipeline():.1f} CPU s")
    ratio = taken["float32 product"] / taken["popcount"]
    if not ratio >= WANTED:
        sys.exit(f"popcount is {ratio:.1f} times as fast as a float32 product, {WANTED:g} are wanted")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args().rounds)
