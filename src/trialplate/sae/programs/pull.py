"""Pulling a decoder towards a reference while it is trained: the consistency objective. Symbols: d_i rows of W_dec [m, d], r_j rows of the reference
[m, d], P the one-to-one matching of largest sum of cosines.

    loss = E ||y' - y||^2 + strength * d * (1 - mean_i |cos(d_i, r_P(i))|)

E ||y||^2 = d in training's units (with scale "rms"), so a strength of 1 sets full agreement against the whole power of the activations. P is refreshed
every so many steps and kept in between; no gradient goes through it. A coder that was pulled resembles its reference because it was told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.metrics.cosines import Rows, hungarian, unit_rows
from trialplate.metrics.decoder_similarity import matched_cosine
from trialplate.sae.errors import StudyError
from trialplate.sae.learner import Learner


@dataclass(frozen=True)
class Pull:
    """Towards what, how strongly, and how often the matching is refreshed (in steps). absolute: opposite directions count as the same."""

    reference: Float[Tensor, "m d"]
    strength: float
    refresh: int = 20
    absolute: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf") or self.refresh < 1:
            raise StudyError(
                f"wanted a strength that is not negative and a refresh of at least 1 step, got {self.strength} and {self.refresh}"
            )

    def matched(self, dictionary: Rows) -> Float[Tensor, "m d"]:
        """The reference's unit rows in the order of the latents they are matched with. StudyError for dictionaries of other shapes."""
        if tuple(dictionary.shape) != tuple(self.reference.shape):
            raise StudyError(
                f"a decoder {list(dictionary.shape)} cannot be matched one to one with a reference {list(self.reference.shape)}; nothing is transposed"
            )
        pairs = hungarian(dictionary, self.reference, absolute=self.absolute)
        return unit_rows(self.reference, "the reference")[torch.from_numpy(pairs.b)]

    def alignment(self, dictionary: Rows) -> float:
        """mean_i |cos(d_i, r_P(i))| with P made anew."""
        return matched_cosine(dictionary, self.reference, self.absolute)

    def attach(self, learner: Learner) -> None:
        """Add the gradient of the pull to W_dec.grad before every step of the learner's optimizer."""
        learner.optimizer.register_step_pre_hook(self._hook(learner))

    def _hook(self, learner: Learner) -> Callable[..., None]:
        kept: list[Tensor] = []

        @torch.no_grad()
        def add(*_: object) -> None:
            dictionary = learner.coder.W_dec
            if not kept or learner.t % self.refresh == 0:
                kept[:] = [self.matched(dictionary).to(dictionary)]
            if dictionary.grad is not None:
                dictionary.grad.add_(
                    slope(dictionary, kept[0], self.absolute), alpha=self.strength * dictionary.shape[1]
                )

        return add


def slope(
    dictionary: Float[Tensor, "m d"], matched: Float[Tensor, "m d"], absolute: bool = True
) -> Float[Tensor, "m d"]:
    """The gradient of 1 - mean_i |cos(d_i, r_i)| in d_i: -(sign c_i / m) (r_i - c_i u_i) / ||d_i||, u_i = d_i / ||d_i||, c_i = u_i r_i, r_i unit.

    At right angles to d_i, so rows that are kept at norm 1 feel all of it; without `absolute` the sign is 1."""
    norm = dictionary.norm(dim=1, keepdim=True)
    unit = dictionary / norm
    cosine = (unit * matched).sum(1, keepdim=True)
    sign = cosine.sign() if absolute else torch.ones_like(cosine)
    return -(sign / len(dictionary)) * (matched - cosine * unit) / norm
