"""Sparsity, the slow obvious way: one token, one unit, one entry at a time, in Python's own floats.

The reference form of `trialplate.metrics.sparsity`, `lifetime`, `cett`, `magnitudes` and `dimension`. A row is a list of numbers, a table a list
of rows. Where a measure is undefined these functions return None."""

from __future__ import annotations

import math
import struct


# --- one list of numbers: the units of a token, or the tokens of a unit ----------------------------------------------------------------


def slow_share_above(row, threshold):
    """Share of numbers above a threshold."""
    return sum(1 for x in row if x > threshold) / len(row)


def slow_share_above_largest(row, part):
    """Share of numbers whose size exceeds a part of the largest size."""
    largest = max(abs(x) for x in row)
    return sum(1 for x in row if abs(x) > part * largest) / len(row)


def slow_zero_share(row):
    """Share of numbers that are exactly zero."""
    return sum(1 for x in row if x == 0) / len(row)


def slow_treves_rolls(row):
    """Square of the mean size over the mean square."""
    mean_size = sum(abs(x) for x in row) / len(row)
    mean_square = sum(x * x for x in row) / len(row)
    return None if mean_square == 0 else mean_size**2 / mean_square


def slow_hoyer(row):
    """0 when all sizes are equal, 1 when one number alone is not zero."""
    l1 = sum(abs(x) for x in row)
    l2 = math.sqrt(sum(x * x for x in row))
    if l2 == 0:
        return None
    root = math.sqrt(len(row))
    return (root - l1 / l2) / (root - 1)


def slow_gini(row):
    """Mean difference of two sizes drawn with replacement, over twice the mean size."""
    sizes = [abs(x) for x in row]
    mean = sum(sizes) / len(sizes)
    if mean == 0:
        return None
    differences = sum(abs(a - b) for a in sizes for b in sizes) / len(sizes) ** 2
    return differences / (2 * mean)


def slow_excess_kurtosis(row):
    """Fourth central moment over the squared variance, less 3."""
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    if variance == 0:
        return None
    return sum((x - mean) ** 4 for x in row) / len(row) / variance**2 - 3


# --- tables ----------------------------------------------------------------------------------------------------------------------------


def slow_columns(table):
    """The columns of a table as lists."""
    return [[row[unit] for row in table] for unit in range(len(table[0]))]


def slow_dead_and_always_on(fires, n):
    """(share of units that fire on fewer than one token in a million, share that fire on more than 99 of a hundred)."""
    dead = sum(1 for count in fires if count / n < 1e-6) / len(fires)
    return dead, sum(1 for count in fires if count / n > 0.99) / len(fires)


def slow_cett_kept(row, down, t):
    """Which units of a token are kept (list of bool): every beginning of the ascending order of sizes is tried, and the longest good one left out.

    Of equal sizes the unit of higher number comes first."""
    width = len(down[0])
    size = [abs(h) * math.sqrt(sum(w * w for w in weights)) for h, weights in zip(row, down)]
    order = sorted(range(len(row)), key=lambda unit: (size[unit], -unit))

    def norm(units):
        written = [sum(row[unit] * down[unit][k] for unit in units) for k in range(width)]
        return math.sqrt(sum(x * x for x in written))

    whole = norm(order)
    longest = max(length for length in range(len(order) + 1) if norm(order[:length]) <= t * whole)
    left_out = set(order[:longest])
    return [unit not in left_out for unit in range(len(row))]


def slow_magnitude_counts(numbers):
    """How many numbers have each pattern of the first 16 bits of a float32 without its sign, as {pattern: count}."""
    counts = {}
    for x in numbers:
        first, second = struct.pack(">f", abs(x))[:2]
        pattern = 256 * first + second
        counts[pattern] = counts.get(pattern, 0) + 1
    return counts


def slow_covariance(table):
    """Sum over rows of the products of deviations from the mean, over the number of rows less one."""
    n, columns = len(table), slow_columns(table)
    centred = [[x - sum(column) / n for x in column] for column in columns]
    return [[sum(a * b for a, b in zip(one, two)) / (n - 1) for two in centred] for one in centred]


def slow_participation(eigenvalues):
    """Squared sum over sum of squares."""
    return sum(eigenvalues) ** 2 / sum(x * x for x in eigenvalues)


def slow_effective_rank(eigenvalues):
    """Exponential of the entropy of the eigenvalues as shares of their sum."""
    whole = sum(eigenvalues)
    return math.exp(-sum(x / whole * math.log(x / whole) for x in eigenvalues if x > 0))
