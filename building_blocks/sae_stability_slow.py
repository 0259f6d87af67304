"""Similarity of dictionaries, stability over seeds and Fourier shares, the slow obvious way: loops over rows, pairs, orders and tokens.

The reference form of `trialplate.metrics.cosines`, `decoder_similarity`, `latent_correlation`, `seed_resampling`, `dictionary_recovery` and `fourier`.
A dictionary is a list of rows, each a list of numbers; a code is a list of tokens, each a list of one activation a latent."""

from __future__ import annotations

import math
from itertools import permutations


def slow_cosine(u, v):
    """Cosine of two rows."""
    dot = sum(a * b for a, b in zip(u, v))
    return dot / (math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v)))


def slow_cosines(A, B, absolute=False):
    """S[i][j]."""
    return [[abs(slow_cosine(u, v)) if absolute else slow_cosine(u, v) for v in B] for u in A]


def slow_mean_max(A, B, absolute=False):
    """Mean over both directions of the mean largest cosine."""
    S = slow_cosines(A, B, absolute)
    a_in_b = sum(max(row) for row in S) / len(A)
    b_in_a = sum(max(S[i][j] for i in range(len(A))) for j in range(len(B))) / len(B)
    return (a_in_b + b_in_a) / 2


def slow_matching(score):
    """Pairs (i, j) of the largest sum: every way to give the rows of the smaller side different partners is tried."""
    n_rows, n_columns = len(score), len(score[0])
    if n_rows > n_columns:
        turned = [[score[i][j] for i in range(n_rows)] for j in range(n_columns)]
        return sorted((i, j) for j, i in slow_matching(turned))
    best, pairs = -math.inf, []
    for partners in permutations(range(n_columns), n_rows):
        total = sum(score[i][partners[i]] for i in range(n_rows))
        if total > best:
            best, pairs = total, [(i, partners[i]) for i in range(n_rows)]
    return pairs


def slow_matched(A, B, absolute=False):
    """Mean cosine of the best matching."""
    S = slow_cosines(A, B, absolute)
    pairs = slow_matching(S)
    return sum(S[i][j] for i, j in pairs) / len(pairs)


def slow_shared(enc_a, dec_a, enc_b, dec_b, at):
    """Share of pairs, matched on the mean of both cosines, of which both reach the threshold."""
    encoder, decoder = slow_cosines(enc_a, enc_b), slow_cosines(dec_a, dec_b)
    score = [[(e + d) / 2 for e, d in zip(row_e, row_d)] for row_e, row_d in zip(encoder, decoder)]
    pairs = slow_matching(score)
    return sum(1 for i, j in pairs if encoder[i][j] >= at and decoder[i][j] >= at) / len(pairs)


def slow_mutual(A, B, absolute=False):
    """Pairs (i, j) in which each is the other's nearest."""
    S = slow_cosines(A, B, absolute)
    pairs = []
    for i in range(len(A)):
        for j in range(len(B)):
            if S[i][j] == max(S[i]) and S[i][j] == max(S[k][j] for k in range(len(A))):
                pairs.append((i, j))
    return pairs


def slow_correlation(f, g):
    """Pearson's r of two series; None where one does not vary."""
    n = len(f)
    mean_f, mean_g = sum(f) / n, sum(g) / n
    above = sum((a - mean_f) * (b - mean_g) for a, b in zip(f, g))
    below = sum((a - mean_f) ** 2 for a in f) * sum((b - mean_g) ** 2 for b in g)
    return above / math.sqrt(below) if below > 0 else None


def slow_pair_mean(table, seeds):
    """Mean similarity of pairs of the seeds named, which may be named more than once; a seed is not paired with itself."""
    values = []
    for place, i in enumerate(seeds):
        for j in seeds[place + 1 :]:
            if i != j:
                values.append(table[i][j])
    return sum(values) / len(values)


def slow_jackknife(table):
    """(value, standard error) of the mean over pairs, by leaving out one seed at a time."""
    n = len(table)
    without = [slow_pair_mean(table, [j for j in range(n) if j != i]) for i in range(n)]
    middle = sum(without) / n
    return slow_pair_mean(table, list(range(n))), math.sqrt((n - 1) / n * sum((t - middle) ** 2 for t in without))


def slow_recovery(truth, decoder, threshold):
    """(precision, recall, uniqueness) of a matching on signed cosines."""
    S = slow_cosines(truth, decoder)
    finds = sum(1 for i, j in slow_matching(S) if S[i][j] >= threshold)
    claims = []
    for j in range(len(decoder)):
        column = [S[i][j] for i in range(len(truth))]
        if max(column) >= threshold:
            claims.append(column.index(max(column)))
    alone = [claim for claim in claims if claims.count(claim) == 1]
    return finds / len(decoder), finds / len(truth), (len(alone) / len(claims) if claims else None)


def slow_frequency_shares(E):
    """Share of the variance over tokens at each frequency 1 .. n/2: sums of products with a cosine and a sine, token by token."""
    n, d = len(E), len(E[0])
    means = [sum(E[t][c] for t in range(n)) / n for c in range(d)]
    total = sum((E[t][c] - means[c]) ** 2 for t in range(n) for c in range(d))
    shares = []
    for k in range(1, n // 2 + 1):
        share = 0.0
        for wave in (math.cos, math.sin):
            column = [wave(2 * math.pi * k * t / n) for t in range(n)]
            size = sum(x * x for x in column)
            if size > 1e-9:  # the sine of frequency n/2 is zero at every token
                share += sum(sum(column[t] * E[t][c] for t in range(n)) ** 2 for c in range(d)) / size
        shares.append(share / total)
    return shares


def slow_share_of_old_formula(E, k_top):
    """The share as it was once computed, kept to show its fault: the full transform lists k and n - k as two frequencies of equal size, their columns
    have unit length but are the same cosine and opposite sines, and 1 - |E - B B^T E|^2 / |E|^2 with such a B is about 0 for an embedding
    that is one frequency: B B^T is twice a projection, and leaves -E of E."""
    n, d = len(E), len(E[0])
    size = []
    for k in range(n):
        power = 0.0
        for c in range(d):
            real = sum(E[t][c] * math.cos(2 * math.pi * k * t / n) for t in range(n))
            imaginary = sum(E[t][c] * math.sin(2 * math.pi * k * t / n) for t in range(n))
            power += math.hypot(real, imaginary)
        size.append(power / d)
    chosen = sorted(range(n), key=lambda k: -size[k])[:k_top]
    basis = []
    for k in chosen:
        for wave in (math.cos, math.sin):
            column = [wave(2 * math.pi * k * t / n) for t in range(n)]
            length = math.sqrt(sum(x * x for x in column))
            basis.append([x / length for x in column] if length > 1e-9 else [0.0] * n)
    means = [sum(E[t][c] for t in range(n)) / n for c in range(d)]
    left = total = 0.0
    for c in range(d):
        column = [E[t][c] - means[c] for t in range(n)]
        weights = [sum(b[t] * column[t] for t in range(n)) for b in basis]
        for t in range(n):
            left += (column[t] - sum(w * b[t] for w, b in zip(weights, basis))) ** 2
            total += column[t] ** 2
    return 1 - left / total
