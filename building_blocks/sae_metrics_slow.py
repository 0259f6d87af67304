"""Core metrics of sparse autoencoders, the slow obvious way: token by token, channel by channel, in Python's own floats.

The reference form of `trialplate.metrics.reconstruction`, `firing_density` and `row_cosines`, and of the scores of `trialplate.sae`. Activations x,
reconstructions y and codes f are lists of rows, batches are lists of such lists. Where a number is undefined these functions return None."""

from __future__ import annotations

import math


def slow_dot(a, b):
    """Inner product."""
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def slow_square(a):
    """Squared length."""
    return slow_dot(a, a)


def slow_minus(a, b):
    """Difference of two vectors."""
    return [p - q for p, q in zip(a, b, strict=True)]


def slow_mean_vector(rows):
    """Mean of vectors, channel by channel."""
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def slow_mean(values):
    """Mean of numbers."""
    values = list(values)
    return math.fsum(values) / len(values)


def slow_variance(values):
    """Mean squared distance from the mean."""
    middle = slow_mean(values)
    return slow_mean((v - middle) ** 2 for v in values)


def slow_total_variance(rows):
    """Variances of all channels, added up."""
    return math.fsum(slow_variance(column) for column in zip(*rows, strict=True))


def slow_all_rows(batches):
    """The rows of all batches."""
    return [row for batch in batches for row in batch]


# --- explained variance, seven ways ----------------------------------------------------------------------------------------------------


def slow_explained_variance(x_batches, y_batches, definition):
    """By name, of activations and reconstructions in batches."""
    x, y = slow_all_rows(x_batches), slow_all_rows(y_batches)
    residual = [slow_minus(a, b) for a, b in zip(x, y, strict=True)]
    error = slow_mean(slow_square(r) for r in residual)
    if definition == "about_mean":
        middle = slow_mean_vector(x)
        return 1 - error / slow_mean(slow_square(slow_minus(a, middle)) for a in x)
    if definition == "about_zero":
        return 1 - error / slow_mean(slow_square(a) for a in x)
    if definition == "all_elements":
        return 1 - slow_variance([v for r in residual for v in r]) / slow_variance([v for a in x for v in a])
    pairs = list(zip(x_batches, y_batches, strict=True))
    if definition == "dictionary_learning":
        return slow_mean(
            1 - slow_total_variance([slow_minus(a, b) for a, b in zip(p, q, strict=True)]) / slow_total_variance(p)
            for p, q in pairs
        )
    if definition == "sparsify":
        return slow_mean(1 - slow_batch_error(p, q) / slow_total_variance(p) for p, q in pairs)
    if definition == "saebench":
        of_batches = [slow_mean_vector([[v * v for v in a] for a in p]) for p, _ in pairs]
        square = slow_mean(math.fsum(channels) for channels in of_batches)
        middle = slow_mean(v for channels in of_batches for v in channels)
        return 1 - slow_mean(slow_batch_error(p, q) for p, q in pairs) / (square - middle**2)
    if definition == "saebench_legacy":
        ratios = []
        for p, q in pairs:
            middle = slow_mean_vector(p)
            for a, b in zip(p, q, strict=True):
                ratios.append(1 - slow_square(slow_minus(a, b)) / slow_square(slow_minus(a, middle)))
        return slow_mean(ratios)
    raise ValueError(definition)


def slow_batch_error(x, y):
    """Mean squared distance of a batch."""
    return slow_mean(slow_square(slow_minus(a, b)) for a, b in zip(x, y, strict=True))


# --- the other numbers of a reconstruction ---------------------------------------------------------------------------------------------


def slow_cosine(a, b):
    """Of two vectors; 0 where one of them has no length."""
    lengths = math.sqrt(slow_square(a)) * math.sqrt(slow_square(b))
    return slow_dot(a, b) / lengths if lengths > 0 else 0.0


def slow_reconstruction(x, y):
    """Everything that is a mean over tokens, and the bias."""
    pairs = list(zip(x, y, strict=True))
    length = [math.sqrt(slow_square(a)) for a in x]
    made = [math.sqrt(slow_square(b)) for b in y]
    overlap = slow_mean(slow_dot(a, b) for a, b in pairs)
    return {
        "mse": slow_batch_error(x, y),
        "mse_element": slow_mean((p - q) ** 2 for a, b in pairs for p, q in zip(a, b, strict=True)),
        "cosine": slow_mean(slow_cosine(a, b) for a, b in pairs),
        "l2_in": slow_mean(length),
        "l2_out": slow_mean(made),
        "l2_ratio": slow_mean(q / (p if p >= 1e-4 else 1) for p, q in zip(length, made, strict=True)),
        "bias": slow_mean(slow_square(b) for b in y) / overlap if overlap else None,
    }


# --- codes -----------------------------------------------------------------------------------------------------------------------------


def slow_code(f):
    """L0, L1 and the share of negative latents among the active ones."""
    active = [v for row in f for v in row if v != 0]
    return {
        "l0": slow_mean(sum(1 for v in row if v != 0) for row in f),
        "l1": slow_mean(math.fsum(abs(v) for v in row) for row in f),
        "neg_latent_frac": sum(1 for v in active if v < 0) / len(active) if active else None,
    }


def slow_density(f):
    """Of each latent, the share of tokens on which it is not zero."""
    return [sum(1 for v in column if v != 0) / len(f) for column in zip(*f, strict=True)]


def slow_share_above(density, cut):
    """Share of latents whose density is above a cut."""
    return sum(1 for p in density if p > cut) / len(density)


def slow_mass_above(density, cut):
    """Densities above a cut, over all densities."""
    total = math.fsum(density)
    return math.fsum(p for p in density if p > cut) / total if total else None


def slow_consistent_activation(f, documents):
    """Of each latent, tokens on which it fires over documents in which it fires."""
    found = []
    for column in zip(*f, strict=True):
        where = [document for v, document in zip(column, documents, strict=True) if v != 0]
        found.append(len(where) / len(set(where)) if where else None)
    return found


def slow_nearest_cosine(rows):
    """Of each row, the largest cosine with another; None for a row of zeros, which is also nobody's neighbour."""
    found = []
    for i, a in enumerate(rows):
        others = [slow_cosine(a, b) for j, b in enumerate(rows) if j != i and slow_square(b) > 0]
        found.append(max(others) if slow_square(a) > 0 else None)
    return found


# --- behaviour of a model --------------------------------------------------------------------------------------------------------------


def slow_log_softmax(logits):
    """Logarithms of probabilities."""
    largest = max(logits)
    total = largest + math.log(math.fsum(math.exp(v - largest) for v in logits))
    return [v - total for v in logits]


def slow_nats(logits, target):
    """-log P(target)."""
    return -slow_log_softmax(logits)[target]


def slow_kl(first, second):
    """KL(P_first || P_second) of two rows of logits, in nats."""
    p, q = slow_log_softmax(first), slow_log_softmax(second)
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))


def slow_recovered(clean, sae, zero):
    """Share of a loss that a coder keeps from being lost."""
    return (zero - sae) / (zero - clean) if zero != clean else None
