"""Co-activation and modularity, the slow obvious way: loops over tokens, pairs and nodes, exact fractions for probabilities.

The reference form of `trialplate.metrics.coactivation`, `association`, `graphs` and of the index in `communities`. `fires` is a list of tokens, each a
list of one truth value a unit; edges are (a, b, weight)."""

from __future__ import annotations

import math
from fractions import Fraction


def slow_counts(fires):
    """counts[i][j]: tokens on which units i and j both fire."""
    n_units = len(fires[0])
    counts = [[0] * n_units for _ in range(n_units)]
    for token in fires:
        for i in range(n_units):
            for j in range(n_units):
                if token[i] and token[j]:
                    counts[i][j] += 1
    return counts


def slow_z(counts, n_tokens, i, j):
    """Joint firings of i and j in standard deviations above what independent units of these rates show."""
    n, m = counts[i][i], counts[j][j]
    mean = n * m / n_tokens
    variance = n * (n_tokens - n) * m * (n_tokens - m) / (n_tokens**2 * (n_tokens - 1))
    return (counts[i][j] - mean) / math.sqrt(variance)


def slow_tail(together, n, m, n_tokens):
    """Probability of at least `together` joint firings: ways to choose m tokens of which so many are among the n."""
    ways = sum(math.comb(n, k) * math.comb(n_tokens - n, m - k) for k in range(together, min(n, m) + 1))
    return Fraction(ways, math.comb(n_tokens, m))


def slow_edges(counts, n_tokens, rate, min_firings):
    """Pairs (i, j) found by Benjamini and Hochberg's step-up: the largest k such that k tails are at most rate * k / tests."""
    units = [i for i in range(len(counts)) if min_firings <= counts[i][i] <= n_tokens - min_firings]
    tails = []
    for i in units:
        for j in units:
            if i < j:
                tails.append((slow_tail(counts[i][j], counts[i][i], counts[j][j], n_tokens), i, j))
    tails.sort()
    found = 0
    for k in range(1, len(tails) + 1):
        if tails[k - 1][0] <= Fraction(rate) * k / len(tails):
            found = k
    return sorted((i, j) for _, i, j in tails[:found])


def slow_q(n_nodes, edges, labels):
    """Newman's double sum over nodes: [A_ij - k_i k_j / 2W] where i and j are in one group, divided by 2W."""
    weight = [[0.0] * n_nodes for _ in range(n_nodes)]
    for a, b, w in edges:
        weight[a][b] += w
        weight[b][a] += w
    strength = [sum(row) for row in weight]
    twice = sum(strength)
    total = 0.0
    for i in range(n_nodes):
        for j in range(n_nodes):
            if labels[i] == labels[j]:
                total += weight[i][j] - strength[i] * strength[j] / twice
    return total / twice


def slow_ari(first, second):
    """Adjusted Rand index, by going through all pairs of nodes. Undefined (division by 0) where both put all together or all apart."""
    both = in_first = in_second = every = 0
    for i in range(len(first)):
        for j in range(i):
            one, two = first[i] == first[j], second[i] == second[j]
            both, in_first, in_second, every = both + (one and two), in_first + one, in_second + two, every + 1
    expected = Fraction(in_first * in_second, every)
    return float((both - expected) / (Fraction(in_first + in_second, 2) - expected))
