"""Leaving out hidden units, the slow obvious way: one token, one unit at a time, in float64 and plain Python lists.

The reference form of `trialplate.activations` where it sparsifies: which units stay under a rule, what a down projection gives from those alone, and
what a model loses by it. Symbols: h_i = hidden units of one token, W_i = what unit i writes (a list of d_out numbers), c_i = |h_i| * ||W_i||."""

from __future__ import annotations

import math


def slow_contributions(hidden, rows):
    """c_i of every unit."""
    return [abs(h) * math.sqrt(sum(w * w for w in row)) for h, row in zip(hidden, rows)]


def slow_top_k(hidden, rows, n):
    """The n units with the largest c_i, of equal ones those with the lowest numbers, as a sorted list."""
    c = slow_contributions(hidden, rows)
    return sorted(sorted(range(len(c)), key=lambda i: (-c[i], i))[:n])


def slow_threshold(hidden, rows, limit):
    """The units with c_i above a limit."""
    return [i for i, c in enumerate(slow_contributions(hidden, rows)) if c > limit]


def slow_projection(hidden, rows, bias, kept):
    """What a down projection gives when only the units in `kept` are there."""
    out = list(bias)
    for i in kept:
        for j in range(len(out)):
            out[j] += hidden[i] * rows[i][j]
    return out


def slow_cett(hidden, rows, t):
    """The units that stay when the longest beginning of the order of rising c_i is left out whose sum is at most t of the whole output."""
    d_out = len(rows[0])
    c = slow_contributions(hidden, rows)
    order = sorted(range(len(c)), key=lambda i: (c[i], -i))
    norm = lambda vector: math.sqrt(sum(x * x for x in vector))
    limit = t * norm(slow_projection(hidden, rows, [0.0] * d_out, range(len(c))))
    longest = 0
    for n in range(1, len(order) + 1):
        if norm(slow_projection(hidden, rows, [0.0] * d_out, order[:n])) <= limit:
            longest = n
    return sorted(order[longest:])


def slow_log_probabilities(logits):
    """Logarithm of the softmax of one list of logits."""
    top = max(logits)
    total = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - total for x in logits]


def slow_costs(dense_logits, sparse_logits, ids):
    """(nats of the dense model, nats of the sparse one, KL(dense || sparse)), each summed over the tokens of a text after its first.

    Logits are one list for every position of the text."""
    dense_nats = sparse_nats = divergence = 0.0
    for t in range(len(ids) - 1):
        p, q = slow_log_probabilities(dense_logits[t]), slow_log_probabilities(sparse_logits[t])
        dense_nats -= p[ids[t + 1]]
        sparse_nats -= q[ids[t + 1]]
        divergence += sum(math.exp(a) * (a - b) for a, b in zip(p, q))
    return dense_nats, sparse_nats, divergence
