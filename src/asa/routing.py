"""From read logits to read weights: noise, override or mode, slot masks; in that order.

Symbols: read logits and weights [b, H, L, K] for the positions t0 .. t1-1 of one write chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

ROUTING_MODES = ("softmax", "top1", "topk", "external")
NOISES = (None, "gumbel", "gaussian")
MASK_PLACES = ("read", "content_read_only", "slotspace_only")
MASK_SCOPES = ("all", "last_pos_only", "last_token")
FLOOR = 1e-8

RoutingOverride = torch.Tensor | Callable[..., torch.Tensor]


@dataclass(slots=True)
class Routing:
    """How a call routes. Raises ValueError for settings that cannot be meant, before anything is computed."""

    mode: str = "softmax"
    topk: int = 2
    weights_override: torch.Tensor | None = None
    noise: str | None = None
    noise_scale: float = 1.0
    override: RoutingOverride | None = None

    def __post_init__(self) -> None:
        if self.mode not in ROUTING_MODES:
            raise ValueError(f"routing_mode: wanted one of {', '.join(ROUTING_MODES)}, got {self.mode!r}")
        if self.noise not in NOISES:
            raise ValueError(f"routing_noise: wanted None, 'gumbel' or 'gaussian', got {self.noise!r}")
        if self.weights_override is not None and not isinstance(self.weights_override, torch.Tensor):
            raise ValueError(
                f"read_weights_override: wanted a tensor [batch, heads, time, slots], got {_described(self.weights_override)}"
            )
        if self.mode == "external" and self.weights_override is None and self.override is None:
            raise ValueError("routing_mode='external' needs read_weights_override, weights [batch, heads, time, slots]")

    @property
    def is_plain(self) -> bool:
        """Whether read weights are the softmax of read logits and nothing else."""
        return self.mode == "softmax" and self.noise is None and self.override is None


@dataclass(slots=True)
class SlotMask:
    """Which slots are kept ([K], 1 = kept), where, and at which positions."""

    keep: torch.Tensor | None = None
    where: str = "read"
    scope: str = "all"

    def __post_init__(self) -> None:
        if self.where not in MASK_PLACES:
            raise ValueError(f"slot_mask_where: wanted one of {', '.join(MASK_PLACES)}, got {self.where!r}")
        if self.scope not in MASK_SCOPES:
            raise ValueError(f"slot_mask_scope: wanted one of {', '.join(MASK_SCOPES)}, got {self.scope!r}")

    def checked(self, num_slots: int) -> SlotMask:
        """The same mask as booleans. Raises ValueError for another shape, or if no slot would be left to read."""
        if self.keep is None:
            return self
        keep = torch.as_tensor(self.keep) > 0
        if keep.shape != (num_slots,):
            raise ValueError(f"slot_mask: wanted shape [{num_slots}] (one entry a slot), got {list(keep.shape)}")
        if self.where == "read" and not bool(keep.any()):
            raise ValueError(
                "slot_mask keeps no slot, so there is nothing to read: keep at least one, or mask at 'slotspace_only'"
            )
        return SlotMask(keep, self.where, self.scope)

    def dropped(self, t0: int, t1: int, length: int, last_valid: torch.Tensor) -> torch.Tensor | None:
        """Which (row, position, slot) is masked, [b or 1, 1, t1-t0, K]; None without a mask. `last_valid` [b] is each row's last valid column.

        `last_pos_only` is the last position of every chunk for reads, and of the sequence for slotspace."""
        if self.keep is None:
            return None
        positions = torch.arange(t0, t1, device=last_valid.device)
        if self.scope == "all":
            rows = torch.ones(1, t1 - t0, dtype=torch.bool, device=last_valid.device)
        elif self.scope == "last_token":
            rows = positions == last_valid.unsqueeze(1)
        else:
            rows = (positions == (length if self.where == "slotspace_only" else t1) - 1).unsqueeze(0)
        return rows[:, None, :, None] & ~self.keep.to(last_valid.device)


def noisy(logits: torch.Tensor, routing: Routing) -> torch.Tensor:
    """Logits plus scaled Gumbel or normal noise, from the global generator as dropout is."""
    if routing.noise == "gumbel":
        uniform = torch.rand(logits.shape, dtype=logits.dtype, device=logits.device).clamp(min=FLOOR)
        return logits + routing.noise_scale * -(-uniform.log()).clamp(min=FLOOR).log()
    if routing.noise == "gaussian":
        return logits + routing.noise_scale * torch.randn(logits.shape, dtype=logits.dtype, device=logits.device)
    return logits


def read_weights(
    logits: torch.Tensor,
    routing: Routing,
    temperature: float,
    t0: int,
    t1: int,
    length: int,
    call: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """Weights of one chunk. An override wins over the mode; `call` evaluates a callable override."""
    if routing.override is not None:
        return _overriding(routing.override, t0, t1, call).to(logits).expand(logits.shape)
    if routing.mode == "softmax":
        return torch.softmax(logits / temperature, dim=-1)
    if routing.mode == "top1":
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    if routing.mode == "topk":
        return _topk(logits / temperature, routing.topk)
    given = routing.weights_override
    assert given is not None
    _check_routed_shape("read_weights_override", given, logits, length)
    chosen = given[..., t0:t1, :] if given.shape[-2] == length else given
    return normalised(chosen.to(logits)).expand(logits.shape)


def normalised(weights: torch.Tensor) -> torch.Tensor:
    """Weights over their sum, which is floored."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=FLOOR)


def _overriding(override: RoutingOverride, t0: int, t1: int, call: Callable[[], torch.Tensor]) -> torch.Tensor:
    given = override[..., t0:t1, :] if isinstance(override, torch.Tensor) else call()
    return normalised(torch.nan_to_num(given, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0))


def _topk(logits: torch.Tensor, topk: int) -> torch.Tensor:
    count = min(max(int(topk), 1), logits.shape[-1])
    values, where = logits.topk(count, dim=-1)
    return torch.zeros_like(logits).scatter(-1, where, torch.softmax(values, dim=-1))


def _check_routed_shape(name: str, given: torch.Tensor, logits: torch.Tensor, length: int) -> None:
    batch, heads, _, slots = logits.shape
    fits = given.ndim == 4 and given.shape[0] in (1, batch) and given.shape[1] in (1, heads) and given.shape[3] == slots
    if not fits or given.shape[2] not in (1, length, logits.shape[2]):
        raise ValueError(
            f"{name}: wanted [{batch}, {heads}, {length}, {slots}] (batch, heads, time, slots), got {list(given.shape)}"
        )


def check_override_shape(override: Any, batch: int, heads: int, length: int, slots: int) -> None:
    """Raises ValueError for a routing_override that is neither callable nor a tensor [batch, heads, time, slots] (1 broadcasts)."""
    if override is None or (callable(override) and not isinstance(override, torch.Tensor)):
        return
    wanted = (batch, heads, length, slots)
    if not isinstance(override, torch.Tensor) or override.ndim != 4:
        raise ValueError(f"routing_override: wanted a callable or a tensor {list(wanted)}, got {_described(override)}")
    fits = [have in (1, want) for have, want in zip(override.shape[:2], wanted[:2], strict=True)]
    if not all(fits) or override.shape[2] != length or override.shape[3] != slots:
        raise ValueError(
            f"routing_override: wanted {list(wanted)} (batch, heads, time, slots), got {list(override.shape)}"
        )


def _described(value: Any) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
