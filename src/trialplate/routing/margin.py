"""Margins: logit of a target token minus logit of a rival, at the last valid token of each prompt. Higher means more of the target.

It equals log P(target) - log P(rival). Ids are one for all prompts, or one a prompt. Padding stands on the right."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from trialplate.routing.errors import ProbeError
from trialplate.routing.precision import at_least_float32

TokenIds = int | Int[Tensor, " batch"]


def margins(
    model: ASMLanguageModel,
    ids: Int[Tensor, "batch seq"],
    mask: Bool[Tensor, "batch seq"] | None,
    target_id: TokenIds,
    rival_id: TokenIds,
) -> Float[Tensor, " batch"]:
    """The margin of each prompt in logits, float32, without gradient. The output head is applied to the last tokens only."""
    mask = checked_mask(ids, mask)
    with torch.no_grad():
        hidden = model.hidden(ids, mask)
        logits = model.lm_head(hidden[_rows(ids), last_positions(mask)])
    return margin_of(logits, target_id, rival_id)


def margin_of(
    logits: Float[Tensor, "*variant batch vocab"], target_id: TokenIds, rival_id: TokenIds
) -> Float[Tensor, "*variant batch"]:
    """logit(target) - logit(rival) of logits that were taken at the last token, at least float32."""
    wide = at_least_float32(logits)
    return picked(wide, target_id) - picked(wide, rival_id)


def picked(values: Float[Tensor, "*variant batch vocab"], ids: TokenIds) -> Float[Tensor, "*variant batch"]:
    """The value of one token id for all prompts, or of each prompt's own id."""
    if isinstance(ids, int):
        return values[..., ids]
    index = ids.to(values.device).expand(values.shape[:-1]).unsqueeze(-1)
    return values.gather(-1, index).squeeze(-1)


def last_positions(mask: Bool[Tensor, "batch seq"]) -> Int[Tensor, " batch"]:
    """Column of each prompt's last valid token."""
    return mask.sum(1) - 1


def checked_mask(ids: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"] | None) -> Bool[Tensor, "batch seq"]:
    """The mask as booleans; all valid for None. Raises ProbeError for another shape, a prompt without a token, or padding that is not on the right."""
    if ids.ndim != 2:
        raise ProbeError(f"ids are [prompt, seq], got shape {tuple(ids.shape)}")
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.shape != ids.shape:
        raise ProbeError(f"the mask has one entry for each id, {tuple(ids.shape)}; got shape {tuple(mask.shape)}")
    valid = mask != 0
    wrong = ~valid[:, 0] | (valid[:, 1:] & ~valid[:, :-1]).any(1)
    if wrong.any():
        raise ProbeError(
            f"prompt {int(wrong.nonzero()[0])} has padding before a valid token, or no valid token; pad on the right"
        )
    return valid


def _rows(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[0], device=ids.device)
