"""Faults of an Addressed State Model: of its files, of what they are taken to mean, and of the core that computes with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from tests.kill_matrix import sabotage
from tests.kill_matrix.sabotage import ASM, Sabotage, Scene, Tensors
from tests.kill_matrix.sabotages.loaded import mask_dropped

from asa.asa import AddressedStateAttentionIntervene
from asa.layer import AddressedStateLayer
from asa.rotary import Rotary
from asa.routing import Routing, SlotMask
from asa.scan import WriteState

on_stored = partial(sabotage.on_stored, subject=ASM)
on_config = partial(sabotage.on_json, file="config.json", subject=ASM)
on_module = partial(sabotage.on_module, subject=ASM)
on_code = partial(sabotage.on_code, subject=ASM)
LAYER = "blocks.{}.asa."


def rope_corrected() -> tuple[Any, str, Any]:
    def at(self: Rotary, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        angles = (positions.float().unsqueeze(-1) * self.inv_freq.float()).repeat_interleave(2, dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    return Rotary, "at", at


def chunk_doubled(config: dict[str, Any]) -> None:
    config["write_chunk_size"] *= 2


def exact_mode(config: dict[str, Any]) -> None:
    config["write_mode"] = "exact"


def gate_dropped() -> tuple[Any, str, Any]:
    return AddressedStateLayer, "gate", property(lambda self: torch.ones_like(self._slotspace_gate_raw))


def slots_permuted(tensors: Tensors, scene: Scene) -> None:
    name = LAYER.format(1) + "slot_keys"
    tensors[name] = tensors[name].roll(1, dims=1)


def slots_collapsed(tensors: Tensors, scene: Scene) -> None:
    for name in [n for n in tensors if n.endswith("slot_keys")]:
        tensors[name] = tensors[name][:, :1].expand_as(tensors[name]).clone()


def key_renamed(tensors: Tensors, scene: Scene) -> None:
    name = LAYER.format(0)
    tensors[name + "slot_key"] = tensors.pop(name + "slot_keys")


def alibi_flipped(module: Any) -> None:
    for layer in module.language_model.layers:
        layer._alibi_slopes.neg_()


def next_chunk_seen(module: Any) -> None:
    norm, chunk = module.norm, module.language_model.layers[0].write_chunk_size
    honest = norm.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        several = hidden.ndim == 3 and hidden.shape[1] > chunk
        return honest(hidden + 0.1 * hidden.roll(-chunk, 1) if several else hidden)

    norm.forward = forward


def never_folded() -> tuple[Any, str, Any]:
    return WriteState, "folded", lambda self, where: self


def mask_ignored() -> tuple[Any, str, Any]:
    return SlotMask, "checked", lambda self, num_slots: SlotMask()


def override_ignored() -> tuple[Any, str, Any]:
    return AddressedStateLayer, "_routing", lambda self, **settings: Routing(**settings)


def intervention_ignored() -> tuple[Any, str, Any]:
    return AddressedStateAttentionIntervene, "_refine", lambda self: None


SABOTAGES: tuple[Sabotage, ...] = (
    on_code("rope-corrected", "Position tables are the usual rotation, both members of a pair at one speed.", rope_corrected),
    on_config("chunk-doubled", "The configuration names twice the write chunk size of the training.", edit=chunk_doubled),
    on_config("exact-mode", "The configuration says that slots are written exactly, as papers describe it.", edit=exact_mode),
    on_code("gate-dropped", "The refinement is added without its gate.", gate_dropped),
    on_stored("slots-permuted", "Slot keys of one layer have changed places, and the slotspace maps have not.", slots_permuted),
    on_stored("slots-collapsed", "All slots of a head have the key of its first.", slots_collapsed),
    on_stored("slot-keys-renamed", "The slot keys of a layer have another name in the file.", key_renamed),
    on_module("alibi-flipped", "The recency bias has the other sign.", alibi_flipped),
    on_module("next-chunk-seen", "In texts of several chunks every token sees a little of the next chunk.", next_chunk_seen),
    on_code("never-folded", "Sums of a chunk are not folded into what is carried, where chunks are written one by one.", never_folded),
    on_code("asm-mask-dropped", "The attention mask is lost on its way to the model, so padding is read.", mask_dropped),
    on_code("slot-mask-ignored", "Slot masks are accepted and ignored.", mask_ignored),
    on_code("override-ignored", "Overrides of the read weights are accepted and ignored.", override_ignored),
    on_code("intervention-ignored", "Interventions on the refinement are accepted and ignored.", intervention_ignored),
)  # fmt: skip
