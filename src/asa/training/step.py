"""One update from one or several batches, as if they were one: every token weighs the same, whichever batch it is in.

The loss of a step is sum(weight * nats) / sum(weight) over all of its batches. Each batch therefore contributes its sum over the weight
of the whole step, which is known beforehand; a mean of batch means would weigh the tokens of a short batch more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asa.training.batches import Batch
from asa.training.precision import Precision


@dataclass(frozen=True, slots=True)
class StepLoss:
    """What a step saw: the weighted sum of nats, the sum of weights, and the number of tokens that were read."""

    nats: float
    weight: float
    tokens: int


def token_nats(model: nn.Module, rows: Tensor, precision: Precision) -> Tensor:
    """Cross-entropy [rows, T] (nats, float32) of predicting rows[:, 1:] from rows[:, :-1]; rows [rows, T + 1]."""
    with precision.forward():
        logits: Tensor = model(rows[:, :-1])
    each = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    return each.view(len(rows), -1)


def accumulate(model: nn.Module, batches: Sequence[Batch], precision: Precision) -> StepLoss:
    """Add to the gradients those of the token-weighted mean loss of all batches. ValueError if no target counts."""
    total = sum(batch.total_weight for batch in batches)
    if not total > 0:
        raise ValueError("a step without a token to predict: all targets have weight 0")
    nats = torch.zeros((), dtype=torch.float64, device=precision.device if precision.device.type != "mps" else "cpu")
    for batch in batches:
        each = token_nats(model, batch.ids.to(precision.device), precision)
        weighted = each if batch.weights is None else each * batch.weights.to(precision.device)
        precision.scaler.scale(weighted.sum() / total).backward()
        nats += weighted.detach().to(nats.device).sum(dtype=torch.float64)
    return StepLoss(nats.item(), total, sum(batch.ids[:, 1:].numel() for batch in batches))


def update(model: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, clip: float) -> tuple[float, bool]:
    """Clip and step with the gradients at hand, then drop them: (norm of the gradient before clipping, whether the step was taken).

    A gradient that is not finite is refused: parameters and moments stay as they were."""
    scaler = precision.scaler
    scaler.unscale_(optimizer)
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    taken = bool(torch.isfinite(norm))
    if taken:
        if clip > 0:
            nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
        scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return norm.item(), taken
