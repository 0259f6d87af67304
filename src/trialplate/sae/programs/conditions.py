"""What one condition shows: the quality of its coders on held-out rows, over seeds, and their stability above chance.

A condition of which a seed is missing, or a coder is silent, has a reason in place of numbers: a mean over what is left would answer another question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.seed_stability import Stability, stability
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.evaluate import EV_DEFINITION, CoreScores, core_scores
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.programs.arms import Arm, Grid
from trialplate.sae.programs.seeds import over_seeds
from trialplate.sae.source import Source


@dataclass(frozen=True)
class Similarity:
    """How coders are compared over seeds; see `metrics.seed_stability`.

    statistic, absolute   the similarity of two decoders; `absolute` counts opposite directions as the same
    draws                 pairs of random dictionaries that the chance level is drawn from
    level                 of intervals;  seed: of what is drawn"""

    statistic: str = "matched_cosine"
    absolute: bool = False
    draws: int = 10
    level: float = 0.95
    seed: int = 0

    def rng(self, stream: int = 0) -> np.random.Generator:
        """A fresh generator: every stability of a study is drawn alike, whatever was measured before it. What must not share its draws takes
        another stream."""
        return np.random.default_rng([self.seed, stream])

    def of(self, coders: Sequence[Coder], scores: Sequence[CoreScores], **more: Any) -> Stability:
        """Stability of the latents that fire on held-out rows; `more` as `seed_stability.stability` takes it."""
        return stability(
            [coder.W_dec for coder in coders],
            alive=[one.firing.alive for one in scores],
            statistic=self.statistic,
            absolute=self.absolute,
            draws=self.draws,
            level=self.level,
            rng=self.rng(),
            **more,
        )


@dataclass(frozen=True)
class Condition:
    """Coders that differ by seed alone, measured.

    key, about    hash of the configuration, and what of it varies in the grid
    coders, scores   by seed; empty where the condition is missing
    missing       {seed: reason}; a condition with any is not measured"""

    key: str
    about: Mapping[str, Any]
    seeds: tuple[int, ...]
    coders: Mapping[int, Coder]
    scores: Mapping[int, CoreScores]
    cells: Mapping[int, str]
    missing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def absent(cls, arms: Sequence[Arm], why: str) -> Condition:
        """A condition that was never trained."""
        cells = {arm.seed: arm.cell for arm in arms}
        missing = {str(arm.seed): why for arm in arms}
        return cls(arms[0].condition, arms[0].about, tuple(cells), {}, {}, cells, missing)

    @property
    def is_whole(self) -> bool:
        """Whether every seed is there."""
        return not self.missing

    def values(self, name: str) -> dict[int, float]:
        """{seed: value} of "ev", "l0", "mse" (means over held-out rows) or "dead_frac"."""
        found = {seed: getattr(score, name) for seed, score in self.scores.items()}
        return {seed: one.value if isinstance(one, Estimate) else one for seed, one in found.items()}

    def mean(self, name: str) -> Estimate:
        """Mean over seeds, interval by Student t."""
        return over_seeds(self.values(name))

    def stability(self, similarity: Similarity) -> Stability:
        """Stability over its seeds."""
        return similarity.of(list(self.coders.values()), list(self.scores.values()))

    def record(self, found: Stability | None = None) -> dict[str, Any]:
        """The condition as a result holds it."""
        about = {"key": self.key, **self.about, "seeds": self.seeds, "missing": self.missing}
        if not self.is_whole:
            return {**about, "status": "missing"}
        measured = {name: self.mean(name) for name in ("ev", "l0", "mse", "dead_frac")}
        shape = list(next(iter(self.coders.values())).W_dec.shape)
        cells = [self._cell(seed) for seed in self.seeds]
        shown = {} if found is None else {"stability": stability_record(found)}
        return {
            **about, "status": "measured", "shape": shape, "ev_definition": EV_DEFINITION, **measured, **shown, "cells": cells,
        }  # fmt: skip

    def _cell(self, seed: int) -> dict[str, Any]:
        score = self.scores[seed]
        return {
            "seed": seed,
            "cell": self.cells[seed],
            "digest": coder_digest(self.coders[seed]),
            "ev": score.ev,
            "l0": score.l0,
            "mse": score.mse,
            "dead_frac": score.dead_frac,
        }


def measure(grid: Grid, arms: Sequence[Arm], held_out: Source) -> Condition:
    """Measure the coders of one condition on held-out rows. A coder of which no latent fires there is missing, like one that was not trained."""
    lost = grid.lost(arms)
    scores: dict[int, CoreScores] = {}
    for arm in arms:
        if arm.cell in grid.trained:
            found = core_scores(grid.trained[arm.cell].coder, held_out)
            scores[arm.seed] = found
            if not found.firing.alive.any():
                lost[str(arm.seed)] = f"none of its {arm.coder.d_sae} latents fires on the held-out rows"
    coders = {arm.seed: grid.trained[arm.cell].coder for arm in arms if arm.cell in grid.trained}
    return Condition(
        arms[0].condition,
        arms[0].about,
        tuple(arm.seed for arm in arms),
        {} if lost else coders,
        {} if lost else scores,
        {arm.seed: arm.cell for arm in arms},
        lost,
    )


def stability_record(found: Stability) -> dict[str, Any]:
    """A stability as a result holds it; its table is in `pairs`, of seeds (0, 1), (0, 2) ..."""
    names = ("raw", "chance", "adjusted", "pairs", "n_seeds", "untrained", "above_untrained")
    return {name: getattr(found, name) for name in names}


def subject(rows: Source, held_out: Source, conditions: Iterable[Condition]) -> dict[str, Any]:
    """What a result is about: rows, held-out rows and the coders of every condition by seed, all by digest; and the model and sites that coders name."""
    conditions = list(conditions)
    coders: dict[str, dict[str, str]] = {}
    for one in conditions:  # a search and its confirmation are one condition with other seeds
        coders.setdefault(one.key, {}).update({str(seed): coder_digest(coder) for seed, coder in one.coders.items()})
    configs = [coder.config for one in conditions for coder in one.coders.values()]
    named = place(configs[0]) if configs else {}
    return {"rows": rows.digest, "held_out": held_out.digest, "about_rows": rows.about, **named, "coders": coders}


def place(coder: CoderConfig) -> dict[str, str]:
    """Where a coder reads and writes."""
    return {"model": coder.model, "site_in": coder.site_in, "site_out": coder.site_out}


def lower(found: Estimate) -> float:
    """The lower end of its interval. An estimate without one has no bound, and the ValueError says so."""
    if found.ci is None:
        raise ValueError(f"{found.value} rests on {found.n} observation(s) and has no interval, so no lower bound")
    return found.ci[0]


def shown(found: Estimate | Mapping[str, Any], digits: int = 3) -> str:
    """value [low, high], for a table; an estimate, or one as results hold it."""
    value, ci = (found.value, found.ci) if isinstance(found, Estimate) else (found["value"], found["ci"])
    if ci is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{ci[0]:.{digits}f}, {ci[1]:.{digits}f}]"
