"""One training step of a sparse coder with k, the slow obvious way: which latents stay is decided by sorting Python lists, the code is a matrix
with zeros in it, every number is float64, and gradients are autograd's.

The reference form of `trialplate.sae.sparse_step`. Symbols: n tokens, m latents, x [n, d_in] read, y [n, d_out] wanted, encoder [m, d_in],
W_dec [m, d_out], f [n, m] the code, y' made.

    pre = (x - b_dec) encoder^T + b_enc  (x itself where b_dec is not subtracted)      f = pre where it stays, else 0      y' = f W_dec + b_dec (+ x W_skip^T)

    topk       of every token the k largest stay; negative ones become 0 unless signed
    batchtopk  of all n m numbers the n k largest stay, if they are positive

Loss: mean over tokens of the squared length of y' - y; and, each with its coefficient: the mean of that over prefixes of the dictionary, which choose
among their own latents; the same with 4 k latents; and how badly the strongest dead latents explain what is left over."""

from __future__ import annotations

import torch


def slow_kept(pre, k, batch):
    """A matrix of 0 and 1: what stays of pre [n, m]. Of equal numbers the ones with lower row and column."""
    n, m = len(pre), len(pre[0])
    kept = torch.zeros(n, m, dtype=torch.float64)
    if batch:
        places = sorted(((i, j) for i in range(n) for j in range(m)), key=lambda place: -pre[place[0]][place[1]])
        for i, j in places[: n * k]:
            kept[i, j] = float(pre[i][j] > 0)
    else:
        for i in range(n):
            for j in sorted(range(m), key=lambda j: -pre[i][j])[:k]:
                kept[i, j] = 1.0
    return kept


def slow_code(pre, k, batch, signed):
    """f of pre [n, m], differentiable in pre."""
    kept = slow_kept(pre.tolist(), k, batch)
    return kept * (pre if signed else pre.relu())


def slow_error(y_hat, y):
    """Mean over tokens of the squared length of the difference."""
    return ((y_hat - y) ** 2).sum(1).mean()


def slow_aux(pre, W_dec, error, dead, k):
    """The residual, taken as it is, beside what the k strongest dead latents of every token make of it; relative to how much it varies."""
    error = error.detach()
    numbers = [j for j in range(len(W_dec)) if dead[j]]
    spread = ((error - error.mean(0)) ** 2).sum()
    if not numbers or spread == 0:
        return torch.zeros((), dtype=torch.float64)
    f = slow_code(pre[:, numbers], min(k, len(numbers)), batch=False, signed=False)
    return ((f @ W_dec[numbers] - error) ** 2).sum() / spread


def slow_step(weights, x, y, *, k, batch=False, signed=False, centre=True, prefixes=(), terms=None):
    """(parts of the loss, f, y', gradients) of one batch. weights: name -> matrix; W_skip only where there is one.

    terms: coefficients "prefix", "multi" and "aux", and with the last "dead", a list of m booleans, and "aux_k"."""
    terms = {} if terms is None else terms
    w = {name: value.detach().double().clone().requires_grad_() for name, value in weights.items()}
    x, y, m = x.double(), y.double(), len(w["W_dec"])
    pre = (x - w["b_dec"] if centre else x) @ w["encoder"].T + w["b_enc"]

    def made(f):
        y_hat = f @ w["W_dec"][: f.shape[1]] + w["b_dec"]
        return y_hat + x @ w["W_skip"].T if "W_skip" in w else y_hat

    f = slow_code(pre, k, batch, signed)
    parts = {"mse": slow_error(made(f), y)}
    if terms.get("aux"):
        parts["aux"] = terms["aux"] * slow_aux(pre, w["W_dec"], y - made(f), terms["dead"], terms["aux_k"])
    if terms.get("prefix"):
        each = [slow_error(made(slow_code(pre[:, :p], max(1, round(k * p / m)), batch, signed)), y) for p in prefixes]
        parts["prefix"] = terms["prefix"] * sum(each) / len(each)
    if terms.get("multi"):
        parts["multi"] = terms["multi"] * slow_error(made(slow_code(pre, min(4 * k, m), batch, signed)), y)
    sum(parts.values()).backward()
    gradients = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in w.items()}
    return {name: part.item() for name, part in parts.items()}, f.detach(), made(f).detach(), gradients
