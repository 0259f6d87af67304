"""The prefix write: every slot keeps a weighted mean of the values so far. Two definitions, and the recurrence that carries each.

Symbols: w = write logits [b, H, K, L] (masked tokens -inf), v = values [b, H, L, d], Mx_t = running maximum of w over all s <= t.
`reference` is what the published checkpoints compute: within a write chunk a token keeps the weight exp(w_s - Mx_s) that it had when it
came, and only what was carried into the chunk is rescaled when the maximum rises, so the borders of chunks are part of the function.
`exact` is the softmax over the whole prefix, which the papers describe; it equals `reference` with chunks of one token.
Where nothing was written yet, the slot state is 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

FLOOR = 1e-8
WRITE_MODES = ("reference", "exact")


@dataclass(slots=True)
class WriteState:
    """What the write carries from token to token, [b, H, K] and [b, H, K, d]: `carried` stands at the start of the current chunk, the
    in-chunk sums since then. In exact mode everything is carried and the in-chunk part stays empty."""

    carried_max: torch.Tensor
    carried_den: torch.Tensor
    carried_num: torch.Tensor
    max: torch.Tensor
    den: torch.Tensor
    num: torch.Tensor

    @classmethod
    def empty(
        cls, batch: int, heads: int, slots: int, width: int, *, dtype: torch.dtype, device: torch.device
    ) -> WriteState:
        """The state before any token."""
        low = torch.full((batch, heads, slots), -torch.inf, dtype=dtype, device=device)
        zero = torch.zeros_like(low)
        wide = torch.zeros(batch, heads, slots, width, dtype=dtype, device=device)
        return cls(low, zero, wide, low, zero, wide)

    def folded(self, where: torch.Tensor) -> WriteState:
        """The same state with the in-chunk sums folded into the carried ones, in rows where `where` [b] holds: a new chunk begins there."""
        few, many = where[:, None, None], where[:, None, None, None]
        shrink = torch.exp(self.carried_max - finite(self.max))
        return WriteState(
            torch.where(few, self.max, self.carried_max),
            torch.where(few, shrink * self.carried_den + self.den, self.carried_den),
            torch.where(many, shrink.unsqueeze(-1) * self.carried_num + self.num, self.carried_num),
            self.max,
            torch.where(few, 0.0, self.den),
            torch.where(many, 0.0, self.num),
        )


class Written(NamedTuple):
    """Slot states [b, H, L, K, d] after each token, and the state after the last."""

    slots: torch.Tensor
    state: WriteState


def write_reference(logits: torch.Tensor, values: torch.Tensor, state: WriteState) -> Written:
    """Slot states of tokens that lie within one chunk; `state` may stand anywhere in that chunk."""
    running = torch.maximum(logits.cummax(dim=-1).values, state.max.unsqueeze(-1))
    bound = finite(running)
    weights = torch.exp(logits - bound)  # 0 for masked tokens
    shrink = torch.exp(state.carried_max.unsqueeze(-1) - bound)
    in_chunk_den = state.den.unsqueeze(-1) + weights.cumsum(-1)
    in_chunk_num = state.num.unsqueeze(-2) + (weights.unsqueeze(-1) * values.unsqueeze(2)).cumsum(-2)
    den = shrink * state.carried_den.unsqueeze(-1) + in_chunk_den
    num = shrink.unsqueeze(-1) * state.carried_num.unsqueeze(-2) + in_chunk_num
    slots = (num / den.clamp(min=FLOOR).unsqueeze(-1)).transpose(2, 3)
    after = WriteState(
        state.carried_max,
        state.carried_den,
        state.carried_num,
        running[..., -1],
        in_chunk_den[..., -1],
        in_chunk_num[..., -1, :],
    )
    return Written(slots, after)


def write_exact(logits: torch.Tensor, values: torch.Tensor, state: WriteState) -> Written:
    """Slot states by an inclusive scan over (maximum, denominator, numerator): stable for logits of any size."""
    top = logits
    den = torch.exp(logits - finite(logits))
    num = den.unsqueeze(-1) * values.unsqueeze(2)
    step = 1
    while step < logits.shape[-1]:
        merged = torch.maximum(top[..., step:], top[..., :-step])
        bound = finite(merged)
        late, early = torch.exp(top[..., step:] - bound), torch.exp(top[..., :-step] - bound)
        new_den = late * den[..., step:] + early * den[..., :-step]
        new_num = late.unsqueeze(-1) * num[..., step:, :] + early.unsqueeze(-1) * num[..., :-step, :]
        top = torch.cat([top[..., :step], merged], dim=-1)
        den = torch.cat([den[..., :step], new_den], dim=-1)
        num = torch.cat([num[..., :step, :], new_num], dim=-2)
        step *= 2
    running = torch.maximum(top, state.carried_max.unsqueeze(-1))
    bound = finite(running)
    late, early = torch.exp(top - bound), torch.exp(state.carried_max.unsqueeze(-1) - bound)
    den = late * den + early * state.carried_den.unsqueeze(-1)
    num = late.unsqueeze(-1) * num + early.unsqueeze(-1) * state.carried_num.unsqueeze(-2)
    slots = (num / den.clamp(min=FLOOR).unsqueeze(-1)).transpose(2, 3)
    last = running[..., -1]
    return Written(slots, WriteState(last, den[..., -1], num[..., -1, :], last, state.den, state.num))


def finite(maximum: torch.Tensor) -> torch.Tensor:
    """A maximum to subtract: 0 where nothing was written yet, so that exp(-inf - 0) is 0 and not NaN."""
    return torch.where(maximum == -torch.inf, 0.0, maximum)
