"""How many units a token can do without: the sparsity of an MLP by what its units write, for any activation function.

Symbols: h = rows [n, d]; W = rows of the down projection [d, d_out], unit i writes h_i W_i; c_i = |h_i| ||W_i||, the size of what it writes;
S = sum_i h_i W_i, the output without its bias. CETT, the cumulative error of tail truncation, is ||sum_D h_i W_i|| / ||S|| when the units D are
left out (Zhang et al. 2024, arXiv:2402.03804); t is the error that is allowed."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_RANKS_AT_ONCE = 16
# Numbers [tokens, ranks, d_out] held at once: within the cache of a processor, and within 64 MB on an accelerator.
_CPU_NUMBERS, _ACCELERATOR_NUMBERS = 1 << 18, 1 << 24


def cett_sparsity(rows: Float[Tensor, "n d"], down: Float[Tensor, "d d_out"], t: float = 0.2) -> Float[Tensor, " n"]:
    """Share of units in D for every token, in [0, 1]; higher is sparser. D and errors as `cett_mask`."""
    left_out = rows.shape[1] - _kept(rows, down, t)[0]
    return left_out.to(torch.float32) / rows.shape[1]


def cett_mask(rows: Float[Tensor, "n d"], down: Float[Tensor, "d d_out"], t: float = 0.2) -> Bool[Tensor, "n d"]:
    """The units of every token that are kept; (h * mask) @ W differs from h @ W by at most t ||S||.

    Units in ascending order of c_i; D is the longest beginning of that order with ||sum_D h_i W_i|| <= t ||S||. The left side need not grow with
    D (units cancel), so D may reach beyond the first place where the bound is broken: it is the longest, not the first. Written without division:
    a token with S = 0 keeps nothing. Of equal c_i the unit of higher number is left out first. float32 (float64 where an argument is): an error
    within about 1e-6 of t may fall either way. At t = 0 only units that write nothing, or cancel exactly, are left out.

    Work: d_out times the units kept; 1 to 3 ms a token on one core for 600 units of 512. ValueError for shapes that do not fit, numbers that are not
    finite, and t outside [0, 1)."""
    kept, order = _kept(rows, down, t)
    chosen = torch.arange(rows.shape[1], device=rows.device) < kept.unsqueeze(1)  # by rank
    return torch.zeros_like(chosen).scatter_(1, order, chosen)


def _kept(rows: Tensor, down: Tensor, t: float) -> tuple[Int[Tensor, " n"], Int[Tensor, "n d"]]:
    """(number of units kept, all units with the largest c_i first) of every token."""
    _check(rows, down, t)
    dtype = torch.float64 if torch.float64 in (rows.dtype, down.dtype) else torch.float32
    h, W = rows.detach().to(dtype), down.detach().to(rows.device, dtype)
    sizes = torch.linalg.vector_norm(W, dim=1)
    numbers = _CPU_NUMBERS if rows.device.type == "cpu" else _ACCELERATOR_NUMBERS
    at_once = max(1, numbers // (_RANKS_AT_ONCE * W.shape[1]))
    parts = [_peel(part, W, sizes, t) for part in h.split(at_once)]
    return torch.cat([kept for kept, _ in parts]), torch.cat([order for _, order in parts])


def _peel(h: Tensor, W: Tensor, sizes: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Takes units off the sum, largest first, until what is left is small enough: the first such place leaves out the most units."""
    contributions, order = (h.abs() * sizes).sort(dim=1, descending=True, stable=True)
    writes_something = (contributions > 0).sum(dim=1)
    ranked = h.gather(1, order)
    rest = h @ W  # what the units not yet taken off write together
    limit = t * torch.linalg.vector_norm(rest, dim=1)
    # what is kept if no place is found before the last: rounding leaves a residue of the sum where no error is allowed
    kept = writes_something * (rest != 0).any(dim=1)
    open_ = kept.nonzero().squeeze(1)
    rest, limit, ranked, units = rest[open_], limit[open_], ranked[open_], order[open_]
    running = torch.tril(W.new_ones(_RANKS_AT_ONCE, _RANKS_AT_ONCE)).neg()
    for start in range(0, h.shape[1], _RANKS_AT_ONCE):
        if not len(open_):
            break
        block, factors = units[:, start : start + _RANKS_AT_ONCE], ranked[:, start : start + _RANKS_AT_ONCE]
        width = block.shape[1]
        written = W.index_select(0, block.flatten()).unflatten(0, block.shape)  # [token, rank, d_out]
        rests = torch.baddbmm(rest.unsqueeze(1), factors.unsqueeze(1) * running[:width, :width], written)
        enough = torch.linalg.vector_norm(rests, dim=2) <= limit.unsqueeze(1)
        found = enough.any(dim=1)
        kept[open_[found]] = start + 1 + enough.to(torch.uint8).argmax(dim=1)[found]
        going = ~found
        open_, rest, limit, ranked, units = (x[going] for x in (open_, rests[:, -1], limit, ranked, units))
    return kept, order


def _check(rows: Tensor, down: Tensor, t: float) -> None:
    if rows.ndim != 2 or down.ndim != 2 or not len(rows) or rows.shape[1] != down.shape[0] or not down.numel():
        raise ValueError(
            f"wanted rows [n, d] with n >= 1 and the down projection as [d, d_out], one row a unit; got {list(rows.shape)} and "
            f"{list(down.shape)}; a torch Linear stores it as [d_out, d]: transpose it"
        )
    if not 0 <= t < 1:
        raise ValueError(f"t is the share of the output that may be lost, in [0, 1), got {t}; 0.2 is usual")
    for name, values in (("rows", rows), ("down", down)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"{name} hold NaN or infinity; look for overflow in the model (float16?), do not drop the tokens"
            )
