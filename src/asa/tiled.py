"""The plain case of the attention layer in tiles: softmax routing, no controls, no record. The same numbers as `asa.functional`, faster,
and nothing of size T x K x d is formed; see `asa.segment` for the mathematics and `asa.tiling` for the layout.

A text is walked segment by segment. For a backward pass each segment keeps what it needs, or, in texts so long that this would cost more
than `KEPT_NUMBERS`, is computed again from the sums at its start."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from asa import segment
from asa.entry import Entered, Fixed, Tops, Weights, enter, leave
from asa.segment import Carried, Given, Kept, Parameters
from asa.tiling import Plan, from_tiles, to_tiles

KEPT_NUMBERS = 2**26  # 268 MB in float32


class State(NamedTuple):
    """What stands between two segments."""

    tops: Tops
    sums: Carried


class ChunkEnd(NamedTuple):
    """The sums at the end of a chunk: Mp [G, K], what was carried into it, and its own, [G, d, K] and [G, K]."""

    top: torch.Tensor
    carried_num: torch.Tensor
    carried_den: torch.Tensor
    num: torch.Tensor
    den: torch.Tensor


def attend(
    plan: Plan, x: torch.Tensor, fixed: Fixed, weights: Weights, small: Parameters, dtype: torch.dtype
) -> torch.Tensor:
    """Head outputs [H, d, b, T] of x [b, T, C] from its beginning, in `dtype` (of sums and exponentials)."""
    if torch.is_grad_enabled():
        found: torch.Tensor = _Tiled.apply(plan, fixed, dtype, x, *weights, *small)
        return found
    return walk(plan, x, fixed, weights, small, empty(plan, dtype, x.device))[0]


def empty(plan: Plan, dtype: torch.dtype, device: torch.device) -> State:
    """The state before any token."""

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(plan.groups, *shape, dtype=dtype, device=device)

    low = torch.full((plan.heads, plan.slots, plan.batch), -torch.inf, dtype=dtype, device=device)
    wide, flat = zeros(plan.width, plan.slots), zeros(plan.slots)
    return State(Tops(low, low, low), Carried(wide, flat, wide, flat, zeros(plan.slots + 1, plan.wide)))


def walk(
    plan: Plan,
    x: torch.Tensor,
    fixed: Fixed,
    weights: Weights,
    small: Parameters,
    state: State,
    ends: dict[int, ChunkEnd] | None = None,
) -> tuple[torch.Tensor, State]:
    """Outputs and the last state, without gradients; `ends` gathers the sums at the end of each chunk by its number."""
    output = state.sums.num.new_empty(plan.heads, plan.width, plan.batch, x.shape[1])
    for a, b in plan.segments(x.shape[1]):
        inputs, tops, _ = enter(plan, fixed, weights, x, state.tops, a, b)
        found, sums, kept = segment.forward(plan, inputs, state.sums, small)
        from_tiles(plan, found, output[..., a:b])
        state = State(tops, sums)
        if ends is not None:
            chunks = zip(inputs.tops[1:], kept.written.ends, strict=True)
            ends.update({a // plan.chunk + index: ChunkEnd(top, *end) for index, (top, end) in enumerate(chunks)})
    return output, state


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, fixed: Fixed, dtype: torch.dtype, x: torch.Tensor, *tensors: torch.Tensor
    ) -> torch.Tensor:
        weights, small = Weights(*tensors[:3]), Parameters(*tensors[3:])
        state, starts, kept = empty(plan, dtype, x.device), [], []
        output = state.sums.num.new_empty(plan.heads, plan.width, plan.batch, x.shape[1])
        keeps = x.shape[1] * plan.groups * plan.numbers_per_row <= KEPT_NUMBERS
        for a, b in plan.segments(x.shape[1]):
            starts.append(state)
            found, state, intermediate = _segment(plan, fixed, weights, small, x, state, a, b)
            from_tiles(plan, found, output[..., a:b])
            kept.append(intermediate if keeps else None)
            del intermediate
        ctx.save_for_backward(x, *tensors)
        ctx.walk = plan, fixed, starts, kept
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_output: torch.Tensor) -> Any:
        with torch.autocast(d_output.device.type, enabled=False):  # the caller may still be under it
            return _Tiled._way_back(ctx, d_output)

    @staticmethod
    def _way_back(ctx: Any, d_output: torch.Tensor) -> Any:
        plan, fixed, starts, kept = ctx.walk
        x, *tensors = ctx.saved_tensors
        weights, small = Weights(*tensors[:3]), Parameters(*tensors[3:])
        d_x = torch.empty_like(x)
        totals = [None if tensor is None else torch.zeros_like(tensor) for tensor in tensors]
        nothing = empty(plan, d_output.dtype, x.device)
        d_sums, d_tops = nothing.sums, Tops(*(torch.zeros_like(top) for top in nothing.tops))
        for index, (a, b) in reversed(list(enumerate(plan.segments(x.shape[1])))):
            intermediate = kept[index] or _segment(plan, fixed, weights, small, x, starts[index], a, b)[2]
            kept[index] = None  # its memory serves the segments before
            besides, entered, inside = intermediate
            found = segment.backward(plan, besides, inside, small, to_tiles(plan, d_output[..., a:b]), d_sums)
            left = leave(plan, fixed, weights, x, entered, found, d_tops, a, b)
            d_x[:, a:b] = left.rows.view(plan.batch, b - a, -1)
            for total, gradient in zip(totals, (*left.weights, *found.small), strict=True):
                if total is not None and gradient is not None:
                    total += gradient
            d_sums, d_tops = found.state, left.tops
        return None, None, None, d_x, *totals


def _segment(
    plan: Plan, fixed: Fixed, weights: Weights, small: Parameters, x: torch.Tensor, state: State, a: int, b: int
) -> tuple[torch.Tensor, State, tuple[Given, Entered, Kept]]:
    inputs, tops, entered = enter(plan, fixed, weights, x, state.tops, a, b)
    found, sums, inside = segment.forward(plan, inputs, state.sums, small)
    return found, State(tops, sums), (inputs.fixed, entered, inside)
