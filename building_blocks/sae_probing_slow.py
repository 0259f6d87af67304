"""What a coder tells downstream, the slow obvious way: one row, one pair, one latent at a time, in plain Python.

The reference form of `trialplate.metrics.logistic`, `paired_auroc`, `sparse_probing`, `absorption`, `erasure` and `contrastive`. Matrices are lists
of rows; `y` is a list of true and false."""

from __future__ import annotations

import math


def dot(a, b):
    """Inner product."""
    return sum(x * z for x, z in zip(a, b))


# --- logistic regression -------------------------------------------------------------------------------------------------


def logistic(x, y, c=1.0, weights=None, steps=200):
    """(w, b) at the minimum of |w|^2 / 2 + c sum_i a_i log(1 + exp(-s_i (w . x_i + b))), by Newton steps that are halved until they descend."""
    n, k = len(x), len(x[0])
    a = weights or [1.0] * n
    rows = [[*row, 1.0] for row in x]
    theta = [0.0] * (k + 1)
    for _ in range(steps):
        gradient = [t for t in theta[:k]] + [0.0]
        hessian = [[1.0 if i == j < k else 0.0 for j in range(k + 1)] for i in range(k + 1)]
        for row, label, weight in zip(rows, y, a):
            p = 1 / (1 + math.exp(-dot(theta, row)))
            for i in range(k + 1):
                gradient[i] += c * weight * (p - (1.0 if label else 0.0)) * row[i]
                for j in range(k + 1):
                    hessian[i][j] += c * weight * p * (1 - p) * row[i] * row[j]
        step = solve(hessian, gradient)
        size, before = 1.0, loss(rows, y, a, c, theta)
        while size > 1e-12 and loss(rows, y, a, c, [t - size * s for t, s in zip(theta, step)]) > before:
            size /= 2
        theta = [t - size * s for t, s in zip(theta, step)]
    return theta[:k], theta[k]


def loss(rows, y, a, c, theta):
    """The penalised loss; the last entry of theta is the bias, and is not penalised."""
    total = sum(t * t for t in theta[:-1]) / 2
    for row, label, weight in zip(rows, y, a):
        margin = dot(theta, row) if label else -dot(theta, row)
        total += c * weight * (math.log1p(math.exp(-margin)) if margin > 0 else math.log1p(math.exp(margin)) - margin)
    return total


def solve(matrix, vector):
    """The solution of a linear system, by Gaussian elimination with pivots."""
    n = len(vector)
    m = [[*row, value] for row, value in zip(matrix, vector)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(m[r][i]))
        m[i], m[pivot] = m[pivot], m[i]
        for r in range(i + 1, n):
            factor = m[r][i] / m[i][i]
            m[r] = [value - factor * above for value, above in zip(m[r], m[i])]
    result = [0.0] * n
    for i in reversed(range(n)):
        result[i] = (m[i][n] - sum(m[i][j] * result[j] for j in range(i + 1, n))) / m[i][i]
    return result


# --- AUROC ---------------------------------------------------------------------------------------------------------------


def wins(a, b):
    """1, one half or 0."""
    return 1.0 if a > b else 0.5 if a == b else 0.0


def placements(scores, y):
    """(share of negatives below each positive, share of positives above each negative)."""
    positive = [s for s, label in zip(scores, y) if label]
    negative = [s for s, label in zip(scores, y) if not label]
    above = [sum(wins(p, n) for n in negative) / len(negative) for p in positive]
    below = [sum(wins(p, n) for p in positive) / len(positive) for n in negative]
    return above, below


def variance(values):
    """On n - 1."""
    middle = sum(values) / len(values)
    return sum((v - middle) ** 2 for v in values) / (len(values) - 1)


def auroc_difference(first, second, y):
    """(difference, standard error) of two scores of the same items."""
    (a1, b1), (a2, b2) = placements(first, y), placements(second, y)
    above, below = [p - q for p, q in zip(a1, a2)], [p - q for p, q in zip(b1, b2)]
    return sum(above) / len(above), math.sqrt(variance(above) / len(above) + variance(below) / len(below))


# --- choice of latents ---------------------------------------------------------------------------------------------------


def contrast(f, y, j):
    """Mean of latent j where y minus its mean elsewhere."""
    own = [row[j] for row, label in zip(f, y) if label]
    others = [row[j] for row, label in zip(f, y) if not label]
    return sum(own) / len(own) - sum(others) / len(others)


def by_contrast(f, y):
    """Latents, the largest absolute contrast first, equal ones by number."""
    return sorted(range(len(f[0])), key=lambda j: (-abs(contrast(f, y, j)), j))


# --- absorption ----------------------------------------------------------------------------------------------------------


def word(f, x, decoder, v, main):
    """(full absorption, absorption fraction) of one word: f [m], x [d], decoder rows, unit direction v, main latents."""
    m = len(f)
    p = dot(x, v)
    along = [dot(row, v) for row in decoder]
    cosine = [a / math.sqrt(dot(row, row)) if dot(row, row) > 0 else 0.0 for a, row in zip(along, decoder)]
    q = [f[j] * along[j] for j in range(m)]
    top = max(range(m), key=lambda j: q[j])
    silent = all(f[j] < 1e-8 for j in main)
    full = silent and cosine[top] >= 0.025 and p > 0 and q[top] / p >= 0.4
    own = sum(q[j] for j in main)
    others = sorted((q[j] for j in range(m) if j not in main and q[j] > 0 and cosine[j] >= 0.1), reverse=True)
    absorbed = sum(others[:3])
    if p <= 0 or own >= p or absorbed / p < 0.4:
        return full, 0.0
    if own <= 0:
        return full, 1.0
    taken = min(absorbed, p - own)
    return full, taken / (taken + own)


# --- erasure -------------------------------------------------------------------------------------------------------------


def erased_mean(tokens, codes, decoder, latents):
    """Mean over tokens of what a coder writes with some latents at 0, its error added back: token by token.

    tokens [t][d], codes [t][m], decoder [m][d]."""
    d = len(tokens[0])
    total = [0.0] * d
    for x, f in zip(tokens, codes):
        written = [sum(f[j] * decoder[j][i] for j in range(len(f))) for i in range(d)]
        error = [x[i] - written[i] for i in range(d)]
        kept = [sum(f[j] * decoder[j][i] for j in range(len(f)) if j not in latents) for i in range(d)]
        total = [total[i] + kept[i] + error[i] for i in range(d)]
    return [value / len(tokens) for value in total]


# --- contrast of stories -------------------------------------------------------------------------------------------------


def standardised(values):
    """(v - mean) / standard deviation on n - 1, which counts as 1 where it is 0."""
    middle = sum(values) / len(values)
    spread = math.sqrt(variance(values)) or 1.0
    return [(v - middle) / spread for v in values]


def stories(pairs, mode):
    """Per pair of (tokens of the first story, tokens of the second), each a list of latent vectors: (C, I, interpretability)."""

    def mean(rows):
        return [sum(column) / len(rows) for column in zip(*rows)]

    together = [mean([*one, *two]) for one, two in pairs]
    middle = mean(together) if mode == "paper" else [0.0] * len(together[0])
    found = []
    for (one, two), both in zip(pairs, together):
        apart = [abs(a - b) for a, b in zip(mean(one), mean(two))]
        off = [abs(a - b) for a, b in zip(both, middle)]
        total = [a + b for a, b in zip(apart, off)]
        found.append(tuple(max(standardised(values)) for values in (apart, off, total)))
    return found
