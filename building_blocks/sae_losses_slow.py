"""Loss terms of sparse autoencoders by their definitions: one token, one latent, one channel at a time.

Vectors are lists of numbers or of torch scalars, matrices lists of rows; `encoder[j]` reads for latent j, `decoder[j]` is what it writes. Numbers may
be torch scalars that want a gradient: a sum of products is differentiable however slowly it is made."""

import math


def slow_number(z):
    """A number as such, without whatever gradient it wants."""
    return float(z.detach()) if hasattr(z, "detach") else float(z)


def slow_dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def slow_pre(x, encoder, b_enc, b_dec):
    """What an encoder says of one token, latent by latent; `b_dec` None where it is not taken off the input."""
    seen = x if b_dec is None else [a - b for a, b in zip(x, b_dec)]
    return [slow_dot(weights, seen) + bias for weights, bias in zip(encoder, b_enc)]


def slow_relu(z):
    return z if z > 0 else 0 * z


def slow_topk(pre, k, signed=False):
    """One token's code: the k largest stay."""
    kept = sorted(range(len(pre)), key=lambda j: -slow_number(pre[j]))[:k]
    return [(z if signed else slow_relu(z)) if j in kept else 0 * z for j, z in enumerate(pre)]


def slow_batch_topk(pres, k):
    """The codes of all tokens: of all their numbers, k a token stay, wherever they are, if they are positive."""
    everywhere = [(slow_number(z), i, j) for i, pre in enumerate(pres) for j, z in enumerate(pre)]
    kept = {(i, j) for z, i, j in sorted(everywhere, reverse=True)[: k * len(pres)] if z > 0}
    return [[z if (i, j) in kept else 0 * z for j, z in enumerate(pre)] for i, pre in enumerate(pres)]


def slow_threshold(pre, thresholds):
    return [z if z > t and z > 0 else 0 * z for z, t in zip(pre, thresholds)]


def slow_decode(code, decoder, b_dec):
    """b_dec and every latent's row as often as it is active."""
    return [bias + sum(f * row[channel] for f, row in zip(code, decoder)) for channel, bias in enumerate(b_dec)]


def slow_reconstruction(y_hats, ys):
    """Mean over tokens of the squared distance."""
    return sum(sum((a - b) ** 2 for a, b in zip(y_hat, y)) for y_hat, y in zip(y_hats, ys)) / len(ys)


def slow_norm(row):
    return sum(w**2 for w in row) ** 0.5


def slow_l1(codes, decoder):
    """Mean over tokens of the latents' sizes, each times the length of its row."""
    return sum(abs(f) * slow_norm(row) for code in codes for f, row in zip(code, decoder)) / len(codes)


def slow_l0(codes):
    return sum(1 for code in codes for f in code if f != 0) / len(codes)


def slow_aux(pres, decoder, residuals, dead, k):
    """What the k strongest dead latents leave of the residuals, as a share of what the mean residual leaves; residuals are plain numbers."""
    channels = range(len(residuals[0]))
    mean = [sum(e[c] for e in residuals) / len(residuals) for c in channels]
    left = spread = 0
    for pre, e in zip(pres, residuals):
        best = sorted(dead, key=lambda j: -slow_number(pre[j]))[:k]
        explained = [sum(slow_relu(pre[j]) * decoder[j][c] for j in best) for c in channels]
        left += sum((a - b) ** 2 for a, b in zip(explained, e))
        spread += sum((a - b) ** 2 for a, b in zip(e, mean))
    return left / spread


def slow_softmax(logits):
    shares = [math.exp(slow_number(z)) for z in logits]
    return [s / sum(shares) for s in shares]


def slow_balance(all_logits):
    """Number of experts times the sum over experts of (share of tokens that choose it) times (its mean probability)."""
    experts, n = range(len(all_logits[0])), len(all_logits)
    chosen = [max(experts, key=lambda e: slow_number(logits[e])) for logits in all_logits]
    probabilities = [slow_softmax(logits) for logits in all_logits]
    return len(experts) * sum(chosen.count(e) / n * sum(p[e] for p in probabilities) / n for e in experts)


def slow_threshold_slopes(pres, thresholds, upstream, bandwidth):
    """Straight-through slopes of jumprelu's thresholds: (of the latents' values, of the number that is active).

    upstream[i][j]: how the loss changes with what token i has for latent j. Only pre-activations nearer than half a bandwidth to the threshold speak."""
    of_values, of_counts = [], []
    for j, t in enumerate(thresholds):
        near = [i for i, pre in enumerate(pres) if abs(pre[j] - t) < bandwidth / 2]
        of_values.append(sum(-t / bandwidth * upstream[i][j] for i in near))
        of_counts.append(sum(-1 / bandwidth * upstream[i][j] for i in near))
    return of_values, of_counts


def slow_quantile_threshold(pres, k):
    """(a, b): with a threshold in [a, b) exactly k latents a token are active on average, where that many are positive and none are equal."""
    positive = sorted((slow_number(z) for pre in pres for z in pre if z > 0), reverse=True)
    count = round(k * len(pres))
    if len(positive) <= count:
        return 0.0, positive[-1] if positive else math.inf
    return positive[count], positive[count - 1]
