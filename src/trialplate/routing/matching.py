"""What one unit of step is, so that slopes in K read logits and in a stream of d_model channels can be compared.

relative_norm   as long as what is moved (for read logits: as their part that differs between slots)
late_window_sd  one standard deviation of the late window along the step's direction
output_kl       the length at which the next token's distribution would be shifted by half a nat if the shift grew with the square of the
                length as it does up to the largest step taken: size s is then worth about s^2 / 2 nats in either arm
The first two ask for leverage: what a step of a given size does. The third asks for selectivity: how much of all that a step changes is in
the margin, however little that is. An answer that depends on the choice should be told with it.
The steps that are run are the same for all three, a few per cent of the norm, so that slopes stay local; only their unit differs."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Match = Literal["relative_norm", "late_window_sd", "output_kl"]


MATCHES: tuple[Match, ...] = get_args(Match)


def unit_lengths(
    norms: Float[Tensor, " prompt"],
    spread: Float[Tensor, " prompt"],
    largest: float,
    shifted: Float[Tensor, " prompt"],
) -> dict[Match, Float[Tensor, " prompt"]]:
    """Length of one unit of each kind for each prompt, in the coordinates of the arm.

    norms: of what is moved; spread: standard deviation along the direction; `shifted`: the divergence, in nats, of the largest step that
    was run, of length largest * norm. output_kl is left out where that is 0: a step that no next token notices has no such size."""
    units: dict[Match, Tensor] = {"relative_norm": norms, "late_window_sd": spread}
    if bool((shifted > 0).all()):
        units["output_kl"] = largest * norms / (2 * shifted).sqrt().to(norms)
    return units


def divergence(logits: Float[Tensor, "size prompt vocab"]) -> Float[Tensor, "size prompt"]:
    """KL(first row || each row) of the next-token distributions, in nats, float64; 0 for the first row."""
    log_p = torch.log_softmax(logits.double(), dim=-1)  # float32 would lose a divergence of 1e-7 in rounding
    return (log_p[0].exp() * (log_p[0] - log_p)).sum(-1).clamp_min(0)
