"""Addressed State Attention: every head writes the past into K addressed slots and reads them by query. Three public classes over one core.

Shapes: x [b, T, C] in, y [b, T, C] out; C = embed_dim, H = num_heads, d = C / H, K = num_slots, M = slotspace_dim.
`AddressedStateAttention` is the default, `AddressedStateAttentionOnline` takes no controls and masks slotspace maps before their feature map,
`AddressedStateAttentionIntervene` adds interventions on the refinement delta, geometry logs and a choice of what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from asa import functional
from asa.functional import Recorded
from asa.info import INTERVENTION_LOGS, InfoSettings, averaged, joined, light_stats
from asa.layer import AddressedStateLayer, Info, as_dtype
from asa.refine import GEOMETRY, Refine


class AddressedStateAttention(AddressedStateLayer):
    """The default layer. Keys of its state dict are those of published checkpoints.

    Attributes `routing_override` (tensor [b, H, T, K] or callable) and `slot_mask` ([K]) act on every call; set them through
    `asa.interventions.setting`, which restores them."""

    def forward(
        self,
        x: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        return_info: bool = False,
        *,
        routing_mode: str = "softmax",
        routing_topk: int = 2,
        read_weights_override: torch.Tensor | None = None,
        routing_noise: str | None = None,
        routing_noise_scale: float = 1.0,
        slot_mask: torch.Tensor | None = None,
        slot_mask_where: str = "read",
        slot_mask_scope: str = "all",
        info_level: str = "full",
        info_cfg: Mapping[str, Any] | None = None,
    ) -> tuple[torch.Tensor, Info | None]:
        """y [b, T, C] and the record of the call, or None.

        `attention_mask` [b, T]: non-zero = valid. `routing_mode`: softmax, top1 (no gradient to the choice), topk (of `routing_topk` slots),
        external (`read_weights_override` [b, H, T, K]). `routing_noise`: None, gumbel, gaussian. `slot_mask` [K]: positive = kept,
        at `slot_mask_where` (read, content_read_only, slotspace_only) and `slot_mask_scope` (all, last_pos_only, last_token).
        Raises ValueError for unknown names and wrong shapes."""
        routing = self._routing(
            mode=routing_mode,
            topk=routing_topk,
            weights_override=read_weights_override,
            noise=routing_noise,
            noise_scale=routing_noise_scale,
        )
        mask = self._slot_mask(slot_mask, slot_mask_where, slot_mask_scope)
        settings = InfoSettings.of(info_level, info_cfg)
        record = Recorded() if return_info else None
        y = self._compute(x, attention_mask, routing, mask, record)
        if record is None:
            return y, None
        info = joined(record, settings) | self._scalars() | self._delta_norm(record)
        info |= {"routing_mode": routing_mode, "slot_mask_where": slot_mask_where, "slot_mask_scope": slot_mask_scope}
        if self.use_slotspace_refine:
            info["use_rope_slotspace"] = torch.tensor(self.use_rope_slotspace)
        if (bias := self._bias(x.shape[1])) is not None:
            info["alibi_bias_applied"] = (
                settings.kept("alibi_bias_applied", bias) if settings.wants("alibi_bias_applied") else None
            )
        return y, info | self._more_info(record)

    def _bias(self, length: int) -> torch.Tensor | None:
        positions = torch.arange(length, device=self.slot_keys.device).unsqueeze(0)
        dtype = torch.promote_types(self.slot_keys.dtype, torch.float32)
        bias = functional.alibi_bias(as_dtype(self.strength, dtype), self._alibi_slopes.to(dtype), positions)
        return None if bias is None else bias.detach()

    def _more_info(self, record: Recorded) -> Info:
        return {}


class AddressedStateAttentionOnline(AddressedStateLayer):
    """The layer whose calls take no controls (its attributes act as in the default class). It silences slotspace maps of masked tokens before their feature map, so with padding inside a text
    later positions differ from the default class; otherwise the two agree."""

    masks_before_features = True

    def forward(
        self,
        x: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        return_info: bool = False,
        *,
        return_light_stats: bool = False,
    ) -> tuple[torch.Tensor, Info | None]:
        """y [b, T, C], and with `return_info` a dict: empty, or scalar statistics with `return_light_stats`."""
        record = Recorded() if return_info and return_light_stats else None
        y = self._compute(x, attention_mask, self._routing(), self._slot_mask(None, "read", "all"), record)
        if record is None:
            return y, {} if return_info else None
        stats = {f"{name}_mean": value for name, value in self._scalars().items()} | self._delta_norm(record)
        return y, stats | light_stats(record.parts["read_weights"])


class AddressedStateAttentionIntervene(AddressedStateAttention):
    """Everything the default layer does, and interventions on the refinement delta (attributes `_intv_*`), logs of its geometry
    (`_log_refine_geom`), and `info_level` / `info_cfg`. The names are those of the original analysis class; see `asa.refine`."""

    _delta_norm_gated = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._intv_mode: str | None = "off"
        self._intv_beta = 1.0
        self._intv_par_beta = 1.0
        self._intv_score_kind = "orth_frac"
        self._intv_tau_kind = "pctl"
        self._intv_tau: float | torch.Tensor = 0.15
        self._intv_tau_pctl = 75.0
        self._intv_mask_mode = "soft"
        self._intv_soft_temp = 0.05
        self._intv_head_mask: torch.Tensor | None = None
        self._intv_score_clip_pctl: float | None = 99.0
        self._intv_tau_per_head = False
        self._log_refine_geom = False

    def _refine(self) -> Refine | None:
        how = Refine(
            self._intv_mode,
            self._intv_beta,
            self._intv_par_beta,
            self._intv_score_kind,
            self._intv_tau_kind,
            self._intv_tau,
            self._intv_tau_pctl,
            self._intv_mask_mode,
            self._intv_soft_temp,
            self._intv_head_mask,
            self._intv_score_clip_pctl,
            self._intv_tau_per_head,
        )
        if how.mode == "off" and not self._log_refine_geom:
            return None
        if not self.use_slotspace_refine:
            raise ValueError(
                f"_intv_mode={how.mode!r}, _log_refine_geom={self._log_refine_geom}: a layer with use_slotspace_refine=False has no refinement to split or log"
            )
        return how

    def _more_info(self, record: Recorded) -> Info:
        logged = (*INTERVENTION_LOGS, *GEOMETRY) if self._log_refine_geom else INTERVENTION_LOGS
        return {"intv_mode": self._intv_mode, **averaged(record, logged)}


VARIANTS: dict[str, type[AddressedStateLayer]] = {
    "baseline": AddressedStateAttention,
    "online": AddressedStateAttentionOnline,
    "intervene": AddressedStateAttentionIntervene,
}
