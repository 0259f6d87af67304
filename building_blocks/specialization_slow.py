"""Specialization and selectivity of units, the slow obvious way: one unit, one task, one cluster at a time, in plain Python.

The reference form of `trialplate.metrics.specialization`, `selectivity` and `detection`. A table is `fires[cluster][unit]`, `tokens[cluster]`,
`tasks[cluster]`; a relabelling is a list of tasks, one a cluster; a redrawing says how often each cluster was drawn."""

from __future__ import annotations

import math


def mean_tokens(tokens, tasks, n_tasks):
    """Tokens of the mean cluster of each task."""
    return [
        sum(t for t, k in zip(tokens, tasks) if k == task) / sum(1 for k in tasks if k == task) for task in range(n_tasks)
    ]


def relative_rates(fires, tokens, tasks, unit, labels, times, n_tasks):
    """Rate of one unit in each task of a relabelled or redrawn table; clusters count by the mean cluster of the task they come from."""
    mean = mean_tokens(tokens, tasks, n_tasks)
    rates = []
    for task in range(n_tasks):
        above = below = 0.0
        for c in range(len(tokens)):
            if labels[c] == task:
                above += times[c] * fires[c][unit] / mean[tasks[c]]
                below += times[c] * tokens[c] / mean[tasks[c]]
        rates.append(above / below)
    return rates


def index(rates, firings, miller_madow=True):
    """1 - H(p) / ln K of one unit."""
    entropy, occupied = 0.0, 0
    for rate in rates:
        p = rate / sum(rates)
        if p > 0:
            entropy -= p * math.log(p)
            occupied += 1
    if miller_madow:
        entropy += (occupied - 1) / (2 * firings)
    return 1 - entropy / math.log(len(rates))


def relabelled_index(fires, tokens, tasks, unit, labels, n_tasks):
    """The index of one unit after a relabelling."""
    once = [1] * len(tokens)
    rates = relative_rates(fires, tokens, tasks, unit, labels, once, n_tasks)
    return index(rates, sum(row[unit] for row in fires))


def redrawn_index(fires, tokens, tasks, unit, times, n_tasks):
    """The index of one unit after clusters were drawn `times` often; as measured where the unit is silent then."""
    firings = sum(n * row[unit] for n, row in zip(times, fires))
    if firings == 0:
        return relabelled_index(fires, tokens, tasks, unit, tasks, n_tasks)
    return index(relative_rates(fires, tokens, tasks, unit, tasks, times, n_tasks), firings)


def coin(p):
    """Entropy of a coin in bits."""
    return -sum(x * math.log2(x) for x in (p, 1 - p) if x > 0)


def bits(rates, tokens, tasks):
    """Mutual information of firing and task of one unit with these rates."""
    total = sum(tokens)
    share = [sum(t for t, k in zip(tokens, tasks) if k == task) / total for task in range(len(rates))]
    return coin(sum(s * r for s, r in zip(share, rates))) - sum(s * coin(r) for s, r in zip(share, rates))


def rates_and_variances(fires, tokens, tasks, unit, labels, n_tasks, prior=10):
    """Rates of one unit in each task and their variances, drawn towards what all tasks show."""
    mean = mean_tokens(tokens, tasks, n_tasks)
    pooled = sum(row[unit] for row in fires) / sum(tokens)
    rates, own, independent, worth = [], [], [], []
    for task in range(n_tasks):
        mine = [c for c in range(len(tokens)) if labels[c] == task]
        g = [fires[c][unit] / mean[tasks[c]] for c in mine]
        s = [tokens[c] / mean[tasks[c]] for c in mine]
        rate = sum(g) / sum(s)
        squares = sum((gc - rate * sc) ** 2 for gc, sc in zip(g, s))
        rates.append(rate)
        own.append(len(mine) / (len(mine) - 1) * squares / sum(s) ** 2)
        independent.append(sum(tokens[c] / mean[tasks[c]] ** 2 for c in mine) / sum(s) ** 2)
        worth.append(sum(g) ** 2 / sum(gc**2 for gc in g) if any(g) else 0)
    precision = [1 / h for h in independent]
    w = [x / sum(precision) for x in precision]
    between = sum(x * (1 - x) * v for x, v in zip(w, own)) / sum(x * (1 - x) * h for x, h in zip(w, independent))
    shared = max(between, pooled * (1 - pooled))
    return rates, [(n * v + prior * shared * h) / (n + prior) for n, v, h in zip(worth, own, independent)]


def welch(rates, variances):
    """Spread of the rates around their weighted mean, in variances, by K - 1."""
    mean = sum(r / v for r, v in zip(rates, variances)) / sum(1 / v for v in variances)
    return sum((r - mean) ** 2 / v for r, v in zip(rates, variances)) / (len(rates) - 1)


def contrast(rates, variances, task):
    """Rate in a task less the mean of the others, in standard errors."""
    others = [k for k in range(len(rates)) if k != task]
    difference = rates[task] - sum(rates[k] for k in others) / len(others)
    return difference / math.sqrt(variances[task] + sum(variances[k] for k in others) / len(others) ** 2)


def benjamini_hochberg(p):
    """Smallest false discovery rate at which each p is found."""
    n = len(p)
    return [
        min(min(1, x * n / sum(1 for y in p if y <= x)) for x in p if x >= own) for own in p
    ]  # ties: all of them have the largest rank


def auroc(values, is_task):
    """Share of pairs, one token of the task and one other, in which the first is larger; ties count half."""
    own = [v for v, own in zip(values, is_task) if own]
    others = [v for v, own in zip(values, is_task) if not own]
    return sum((a > b) + (a == b) / 2 for a in own for b in others) / (len(own) * len(others))


def average_precision(values, is_task):
    """Sum over thresholds of recall gained times precision."""
    total, recall, area = sum(is_task), 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        found = [own for v, own in zip(values, is_task) if v >= threshold]
        area += (sum(found) / total - recall) * sum(found) / len(found)
        recall = sum(found) / total
    return area
