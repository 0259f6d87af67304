"""A threshold in place of a choice in the batch: with it, a coder's code of a token no longer depends on which tokens stand beside it.

Symbols: N rows, m latents, k wanted on average. The threshold lies between the Nk-th and the next largest of the N m pre-activations, so that
exactly Nk of them lie above it: an exact quantile, found in one pass that never holds more than Nk + 1 of them beside one batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError
from trialplate.sae.source import Source

_AT_ONCE = 4096


@torch.no_grad()
def fit_threshold(
    coder: Coder, rows: Source | Float[Tensor, "N d_in"], k: float | None = None, *, batch: int = _AT_ONCE
) -> Coder:
    """A batchtopk coder with the threshold at which its mean L0 on these rows is k (None: the k it was trained with). The coder given stays as it is.

    A topk coder becomes a batchtopk coder with the same weights: another function, which spends a budget of k where it is wanted.
    Rounded down where pre-activations tie at the threshold, or fewer than Nk of them are positive (the threshold is then 0).
    CoderError for other architectures, signed topk, no rows, or a k that is not positive."""
    c = coder.config
    if c.architecture not in ("topk", "batchtopk") or c.signed:
        kind = f"signed {c.architecture}" if c.signed else c.architecture
        raise CoderError(f"a threshold is fitted for topk and batchtopk coders, whose latents are positive; got {kind}")
    wanted = float(c.k if k is None else k)  # type: ignore[arg-type]
    if not 0 < wanted <= c.d_sae:
        raise CoderError(f"wanted a mean number of active latents above 0 and at most {c.d_sae}, got {wanted}")
    value = _between(_largest(coder, rows, wanted, batch), _count(rows, wanted))
    fitted = Coder(c.with_(architecture="batchtopk"))
    state = {**coder.state_dict(), "threshold": torch.tensor(value)}
    fitted.load_state_dict(state)
    return fitted.to(coder.W_dec.device).eval().requires_grad_(False)


def _count(rows: Source | Tensor, k: float) -> int:
    n = len(rows) if isinstance(rows, Tensor) else rows.n_rows
    if n < 1:
        raise CoderError("there are no rows to fit a threshold on")
    return max(1, round(n * k))


def _largest(coder: Coder, rows: Source | Tensor, k: float, batch: int) -> Tensor:
    """The Nk + 1 largest positive pre-activations, or all positive ones where there are fewer; descending."""
    keep = _count(rows, k) + 1
    device = coder.W_dec.device
    found = torch.empty(0, device=device)
    floor = 0.0
    n = len(rows) if isinstance(rows, Tensor) else rows.n_rows
    for part in torch.arange(n).split(batch):
        x = rows[part] if isinstance(rows, Tensor) else rows.rows(part)[0]
        pre = coder.preactivations(x.to(device))
        found = torch.cat([found, pre[pre > floor]])
        if len(found) >= keep:
            found = found.topk(keep, sorted=False).values
            floor = float(found.min())
    return found.sort(descending=True).values


def _between(values: Tensor, count: int) -> float:
    """A number with exactly `count` of the descending values above it where they allow it, never more."""
    if len(values) <= count:
        return 0.0
    high, low = float(values[count - 1]), float(values[count])
    middle = float(torch.tensor((high + low) / 2, dtype=values.dtype))
    return middle if low <= middle < high else low
