"""Families of coders: members that are pulled to one reference, and what they have in common with each other and with members of other families.

A family is one observation: what its members share they may owe to their reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trialplate.metrics.decoder_similarity import named_statistic
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.seed_stability import Stability
from trialplate.metrics.statistics import mean
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.evaluate import core_scores
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.learner import Learner
from trialplate.sae.programs.arms import Arm, over_seeds
from trialplate.sae.programs.conditions import Similarity
from trialplate.sae.programs.pull import Pull
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source

PULLED = "pulled"
"""The entry of a coder's `about` that names what it was pulled to, so that it is not taken for one that was not."""
Families = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Pulls:
    """Every family's reference, by the family's seed, and how members are pulled to it."""

    references: Mapping[int, Coder]
    strength: float
    refresh: int
    absolute: bool

    def of(self, family: int) -> Pull:
        """The pull of a family."""
        return Pull(self.references[family].W_dec.detach(), self.strength, self.refresh, self.absolute)

    def arms(self, coder: CoderConfig, settings: TrainingSettings, families: Families) -> list[Arm]:
        """The members of all families; at strength 0 they are coders like any other."""
        found: list[Arm] = []
        for family, members in families.items():
            mark = {} if self.strength == 0 else {PULLED: self._mark(family)}
            found += over_seeds(coder.with_(about={**coder.about, **mark}), settings, members, family=family)
        return found

    def prepare(self, learner: Learner) -> None:
        """Attach the pull that a learner's description names; none where it names none."""
        mark = learner.coder.config.about.get(PULLED)
        if mark is not None:
            self.of(mark["family"]).attach(learner)

    def _mark(self, family: int) -> dict[str, object]:
        return {
            "family": family,
            "reference": coder_digest(self.references[family]),
            "strength": self.strength,
            "refresh": self.refresh,
            "absolute": self.absolute,
        }


@dataclass(frozen=True)
class Measured:
    """Members of all families, measured; numbers are means of a family, by family.

    between     stability over families: pairs within one are not looked at
    alignment   mean matched cosine with the own reference
    within      mean similarity of members of one family; None where it has one"""

    coders: Mapping[int, Coder]
    between: Stability
    ev: Mapping[int, float]
    l0: Mapping[int, float]
    alignment: Mapping[int, float]
    within: Estimate | None


def measure_families(
    coders: Mapping[int, Coder], families: Families, pulls: Pulls, held_out: Source, similarity: Similarity
) -> Measured:
    """Measure members (by seed) on held-out rows. StudyError for one of which no latent fires there."""
    scores = {seed: core_scores(coder, held_out) for seed, coder in coders.items()}
    if silent := [seed for seed, one in scores.items() if not one.firing.alive.any()]:
        raise StudyError(f"no latent of the coder of seed {silent[0]} fires on the held-out rows")
    order = [seed for members in families.values() for seed in members]
    labels = [family for family, members in families.items() for _ in members]
    between = similarity.of([coders[seed] for seed in order], [scores[seed] for seed in order], families=labels)

    def by_family(values: Mapping[int, float]) -> dict[int, float]:
        return {family: float(np.mean([values[seed] for seed in members])) for family, members in families.items()}

    aligned = {
        seed: pulls.of(family).alignment(coders[seed].W_dec) for family, members in families.items() for seed in members
    }
    return Measured(
        coders,
        between,
        by_family({seed: one.ev.value for seed, one in scores.items()}),
        by_family({seed: one.l0.value for seed, one in scores.items()}),
        by_family(aligned),
        _within(coders, families, similarity),
    )


def _within(coders: Mapping[int, Coder], families: Families, similarity: Similarity) -> Estimate | None:
    """Mean over families of the mean similarity of their members' pairs, all latents of them."""
    measure = named_statistic(similarity.statistic, similarity.absolute)
    pairs = [list(combinations(members, 2)) for members in families.values()]
    if not all(pairs):
        return None
    return mean([np.mean([measure(coders[i].W_dec, coders[j].W_dec) for i, j in of]) for of in pairs])
