"""The record of a call: which tensors it holds, under the published names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch

from asa.functional import Recorded

LEVELS = ("basic", "logits", "full")
ROUTED = ("read_weights", "read_logits", "read_logits_key", "read_logits_content", "slot_w")  # [b, H, T, K]
WRITTEN = ("write_logits_raw", "write_logits", "slot_state_norm")  # [b, H, K, T]
# Logs of an intervention and the aliases of those that are scalars.
INTERVENTION_LOGS: dict[str, str | None] = {
    "score": "intv_score_mean",
    "mask": "intv_mask_mean",
    "tau": "intv_tau",
    "alpha": "intv_alpha_mean",
    "out1_norm": "intv_out1_norm_mean",
    "dpar_norm": "intv_dpar_norm_mean",
    "dorth_norm": "intv_dorth_norm_mean",
    "head_mask": None,
}


@dataclass(slots=True)
class InfoSettings:
    """What is kept of a call. Strides keep every n-th row or position."""

    store_read_weights: bool = True
    store_read_logits: bool = True
    store_write_logits: bool = True
    store_slot_state_norm: bool = True
    store_out1: bool = False
    store_delta: bool = False
    store_slot_w: bool = False
    detach_to_cpu: bool = False
    time_stride: int = 1
    batch_stride: int = 1
    full: bool = field(default=True, init=False)  # the level; the recency bias depends on nothing else

    @classmethod
    def of(cls, level: str, settings: Mapping[str, Any] | None) -> Self:
        """Settings of a level (`basic`, `logits`, `full`) and a mapping. Raises ValueError for an unknown level, name or stride."""
        if level not in LEVELS:
            raise ValueError(f"info_level: wanted one of {', '.join(LEVELS)}, got {level!r}")
        known = {f.name for f in fields(cls) if f.init}
        if unknown := sorted(set(settings or {}) - known):
            raise ValueError(f"info_cfg: unknown {', '.join(unknown)}; it knows {', '.join(sorted(known))}")
        made = cls(**(settings or {}))
        if min(made.time_stride, made.batch_stride) < 1:
            raise ValueError(
                f"info_cfg: strides are at least 1, got time {made.time_stride}, batch {made.batch_stride}"
            )
        made.full = level == "full"
        made.store_read_logits &= level in ("logits", "full")
        made.store_write_logits &= made.full
        made.store_slot_state_norm &= made.full
        return made

    def wants(self, name: str) -> bool:
        """Whether a recorded tensor is kept."""
        if name.startswith("read_logits"):
            return self.store_read_logits
        if name == "alibi_bias_applied":
            return self.full
        if name.startswith("write_logits"):
            return self.store_write_logits
        return bool(getattr(self, f"store_{name}", True))

    def kept(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor after strides, on the device that was asked for."""
        if tensor.ndim >= 3:
            tensor = tensor[:: self.batch_stride]
        if name in ROUTED:
            tensor = tensor[:, :, :: self.time_stride]
        elif name in WRITTEN or name == "alibi_bias_applied":
            tensor = tensor[..., :: self.time_stride]
        return tensor.cpu() if self.detach_to_cpu else tensor


def joined(recorded: Recorded, settings: InfoSettings) -> dict[str, Any]:
    """Tensors of all chunks along time; names that are not kept stand with None."""
    info: dict[str, Any] = {}
    for name in (*ROUTED, *WRITTEN, "out1", "delta"):
        parts = recorded.parts.get(name)
        if parts is None or not settings.wants(name):
            info[name] = None
            continue
        info[name] = settings.kept(name, torch.cat(parts, dim=3 if name in WRITTEN else 2))
    return info


def averaged(recorded: Recorded, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Plain means over chunks (a ragged last chunk counts fully); aliases for the scalars of an intervention."""
    found = {name: torch.stack(recorded.parts[name]).mean(0) for name in names if name in recorded.parts}
    aliases = {alias: found[name] for name, alias in INTERVENTION_LOGS.items() if alias is not None and name in found}
    return found | aliases


def light_stats(weights: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean entropy (nats) of read weights and share of the most frequent first choice, each a mean over write chunks."""
    entropies, shares = [], []
    for chunk in weights:
        p = chunk.clamp(min=1e-8)
        entropies.append(-(p * p.log()).sum(-1).mean())
        counts = torch.bincount(chunk.argmax(-1).flatten(), minlength=chunk.shape[-1])
        shares.append(counts.max() / counts.sum())
    return {"entropy_mean": torch.stack(entropies).mean(), "top1freq_mean": torch.stack(shares).mean()}
