"""Units set to their mean, and what that does to the loss of every task: whether units that fire for a task matter for it.

The mean, not zero: a unit that is always on would otherwise be punished for being on (Chan et al. 2022, causal scrubbing). Means are those of a
study over all its tasks, each task weighing the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trialplate.activations.likelihood import likelihoods, texts_of
from trialplate.activations.sites import down_projection
from trialplate.activations.study import Study
from trialplate.metrics.causal import (
    AgainstRandom,
    matched_sets,
    relative_increase,
    selectivity_effect,
    top_units,
    z_against,
)
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.selectivity import task_contrasts
from trialplate.metrics.statistics import ratio_of_sums
from trialplate.models.causal_lm import CausalLM


@dataclass(frozen=True)
class Ablated:
    """A model with some hidden units of one layer held at given values. `running` is the block in which they are."""

    model: CausalLM
    layer: int
    units: NDArray[np.intp]
    values: NDArray[np.float64]

    @property
    def label(self) -> str:
        """For messages."""
        return f"the ablation of {len(self.units)} units of L{self.layer}"

    @contextmanager
    def running(self, counted: Tensor | None = None) -> Iterator[None]:
        """The units are held within the block; the hook is removed at its end. `counted` is taken and ignored: every cell is ablated."""
        down = down_projection(self.model, self.layer)
        units = torch.as_tensor(self.units, device=self.model.device)
        held = torch.from_numpy(np.asarray(self.values)).to(down.rows.dtype).to(self.model.device)

        def hold(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = args[0].clone()
            hidden[..., units] = held
            return (hidden, *args[1:])

        handle = down.module.register_forward_pre_hook(hold)
        try:
            yield
        finally:
            handle.remove()


class Ablation(NamedTuple):
    """What happens when the units of one task are held at their mean.

    units      [m] the ablated units
    rates      [m] their firing rates; matched_rates: mean rate of the stand-ins of each
    base       {task: nats a token without ablation};  loss: {task: with it}
    own        relative loss increase on the task whose units they are, an estimate over its texts
    other      mean of the same over the other tasks
    effect     own - other, beside the same of random sets"""

    units: NDArray[np.intp]
    rates: NDArray[np.float64]
    matched_rates: NDArray[np.float64]
    base: Mapping[str, float]
    loss: Mapping[str, float]
    own: Estimate
    other: float
    effect: float
    against: AgainstRandom


def ablation(
    study: Study,
    layer: int,
    task: str,
    held_out: Mapping[str, Sequence[Sequence[int]]],
    rng: np.random.Generator,
    *,
    share: float = 0.01,
    n_sets: int = 20,
) -> Ablation:
    """Hold the `share` of units most selective for a task at their mean, and as many random ones of the same firing rates, `n_sets` times.

    Units are chosen on the texts of the study; losses are those of `held_out`, other texts of the same tasks (token ids; the first token is
    given). Raises ValueError where units of like rate are too few, or no ablation reaches the model (all random effects are equal)."""
    site = f"L{layer}.mlp_act"
    table = study.firings(site, study.wanted.positions[0])
    number = table.tasks.index(task)
    units = top_units(task_contrasts(table.fires, table.tokens, table.task)[number], share)
    rates = table.fires.sum(0) / table.tokens.sum()
    sets = matched_sets(rates, units, n_sets, rng)
    positions = study.wanted.positions[0]
    means = np.mean([study.watched[t, site].moments.result(positions).mean for t in study.tasks], axis=0)
    subjects = [None, *(Ablated(study.model, layer, chosen, means[chosen]) for chosen in (units, *sets))]
    losses = {t: _losses(study.model, texts, subjects) for t, texts in held_out.items()}
    totals = {t: found.sum(1) / sizes.sum() for t, (found, sizes) in losses.items()}  # [subjects] nats a token
    others = [t for t in held_out if t != task]
    base_other = np.array([totals[t][0] for t in others])

    def effect(subject: int) -> float:
        return selectivity_effect(
            totals[task][subject], np.array([totals[t][subject] for t in others]), totals[task][0], base_other
        )

    found, sizes = losses[task]
    own = ratio_of_sums(found[1] - found[0], sizes, scale=1 / totals[task][0])
    return Ablation(
        units=units,
        rates=rates[units],
        matched_rates=rates[sets].mean(0),
        base={t: float(v[0]) for t, v in totals.items()},
        loss={t: float(v[1]) for t, v in totals.items()},
        own=own,
        other=float(relative_increase(np.array([totals[t][1] for t in others]), base_other).mean()),
        effect=effect(1),
        against=z_against(np.array([effect(i) for i in range(2, len(subjects))]), effect(1)),
    )


def _losses(
    model: CausalLM, documents: Sequence[Sequence[int]], subjects: Sequence[Ablated | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(nats [subjects, documents], scored tokens [documents])."""
    texts = texts_of(model, documents)
    found = likelihoods(model, texts, subjects)
    return np.stack([sums.nats for sums in found]), texts.n_tokens
