"""One pass of a model over prompts with nothing changed: what each block received, what each layer read and with which logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asa.asa import AddressedStateAttentionOnline
from asa.asm_lm import ASMLanguageModel
from asa.state import ASMState
from trialplate.routing.errors import ProbeError
from trialplate.routing.margin import TokenIds, checked_mask, last_positions, margin_of
from trialplate.routing.precision import at_least_float32


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """`stream[i]` enters block i; `stream[-1]` leaves the last one. `before` is the decoding state just before each prompt's last token,
    `logits` are those at it, at least float32."""

    mask: Bool[Tensor, "batch seq"]
    last: Int[Tensor, " batch"]
    stream: list[Float[Tensor, "batch seq d_model"]]
    read_logits: list[Float[Tensor, "batch head seq slot"]]
    read_weights: list[Float[Tensor, "batch head seq slot"]]
    before: ASMState
    logits: Float[Tensor, "batch vocab"]

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.read_logits)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.mask.shape[0]

    @property
    def rows(self) -> Int[Tensor, " batch"]:
        """0 .. prompts - 1, for indexing beside `last`."""
        return torch.arange(self.n_prompts, device=self.mask.device)

    def mean_read_logits(self, layer: int) -> Float[Tensor, "batch seq slot"]:
        """Z: the read logits of a layer averaged over its heads."""
        return self.read_logits[layer].mean(1)

    def margins(self, target_id: TokenIds, rival_id: TokenIds) -> Float[Tensor, " batch"]:
        """The margin of each prompt."""
        return margin_of(self.logits, target_id, rival_id)

    def at_last(self, values: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch dim"]:
        """The values at each prompt's last token."""
        return values[self.rows, self.last]


@torch.no_grad()
def observe(
    model: ASMLanguageModel, ids: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"] | None = None
) -> Undisturbed:
    """Run the model once and keep what the probes need. The model must be in eval mode and carry no override or slot mask of its own.

    Raises ProbeError where it does, or for the online class, which records no read logits."""
    _check(model)
    mask = checked_mask(ids, mask)
    with _stream(model) as stream:
        logits, infos = model(ids, mask, return_info=True, info_level="logits")
    last, rows = last_positions(mask), torch.arange(len(ids), device=ids.device)
    kept = logits[rows, last]
    _, before = model.prefill(ids, mask.index_put((rows, last), mask.new_tensor(False)))
    return Undisturbed(
        mask,
        last,
        stream,
        [at_least_float32(info["read_logits"]) for info in infos],
        [info["read_weights"] for info in infos],
        before,
        at_least_float32(kept),
    )


def logit_lens_margins(
    model: ASMLanguageModel, seen: Undisturbed, target_id: TokenIds, rival_id: TokenIds
) -> Float[Tensor, "layer batch"]:
    """The margin if the model ended after each block: final norm and head applied to the block's output at the last token.

    Not part of the published probe, whose margin is always that of the final logits; the last row equals it."""
    with torch.no_grad():
        ends = torch.stack([seen.at_last(x) for x in seen.stream[1:]])
        return margin_of(model.lm_head(model.norm(ends)), target_id, rival_id)


@contextmanager
def _stream(model: ASMLanguageModel) -> Iterator[list[Tensor]]:
    """Collect the input of every block and of the final norm during one call."""
    found: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, args: found.append(args[0]))
        for module in (*model.blocks, model.norm)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _check(model: ASMLanguageModel) -> None:
    if model.training:
        raise ProbeError("the model is in training mode, so dropout would disturb every run; call model.eval() first")
    for index, layer in enumerate(model.layers):
        if isinstance(layer, AddressedStateAttentionOnline):
            raise ProbeError(
                "the online class records no read logits; load the same weights with variant='baseline' or 'intervene'"
            )
        if getattr(layer, "_intv_mode", "off") == "orth_gate":
            raise ProbeError(
                f"layer {index} has _intv_mode 'orth_gate', whose thresholds depend on the whole batch: variants would change each other; "
                "probe the model without it"
            )
        for name in ("routing_override", "slot_mask"):
            if getattr(layer, name) is not None:
                raise ProbeError(
                    f"layer {index} carries its own {name}, which the probe would replace; probe the model without it"
                )
