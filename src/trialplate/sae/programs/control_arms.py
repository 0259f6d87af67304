"""The arms of a comparison of trained coders with controls: their decoders, what pairs of them have in common, and the gain of one arm over another.

All arms keep the latents that fire in the trained coders on held-out rows (a twin those that fire in it), so that random and untrained decoders have the
same number of directions as what they are compared with, and one chance level holds for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from trialplate.metrics.cosines import Rows
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.random_directions import gaussian_rows
from trialplate.metrics.seed_resampling import PermutationTest, permutation_test
from trialplate.metrics.seed_stability import Gain, Stability, compare, stability_of
from trialplate.metrics.seed_tables import CoderSet
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.errors import StudyError
from trialplate.sae.evaluate import CoreScores
from trialplate.sae.programs.conditions import Condition, Similarity, stability_record

ARMS = ("trained", "random", "untrained", "twin")
_FOREIGN = 1 << 40
"""Seeds of untrained coders beside trained ones whose seeds are not known: none that anybody trains with."""


def arms_of(
    similarity: Similarity, trained: Condition, twin: Condition | None, init_seeds: Mapping[int, int] | None
) -> tuple[dict[str, Stability], PermutationTest, list[int]]:
    """All arms, the test that exchanges trained and random coders, and the shape of all decoders."""
    coders, scores = list(trained.coders.values()), list(trained.scores.values())
    random, untrained = _random(similarity, coders), _untrained(trained, init_seeds)
    others = [] if twin is None else [coder.W_dec for coder in twin.coders.values()]
    shape = _one_shape([[coder.W_dec for coder in coders], random, untrained, others])
    arms, test = _with_random(similarity, coders, random, scores)
    arms["untrained"] = _masked(similarity, untrained, scores, arms["trained"].chance)
    if twin is not None:
        arms["twin"] = twin.stability(similarity)
    return arms, test, shape


def gains_of(similarity: Similarity, arms: Mapping[str, Stability], *, paired: bool) -> dict[str, Gain]:
    """The gain of the trained coders over every other arm. Twins share seeds with them, random directions none; untrained coders where `paired`."""
    shares_seeds = {"random": False, "untrained": paired, "twin": True}
    return {
        name: compare(
            arms["trained"], arms[name], paired=shares_seeds[name], rng=similarity.rng(), level=similarity.level
        )
        for name in ARMS[1:]
        if name in arms
    }


def by_frequency(similarity: Similarity, trained: Condition) -> dict[str, Any] | None:
    """Stability with latents weighted by how often they fire; None for a similarity that takes no weights."""
    if similarity.statistic not in ("matched_cosine", "mean_max_cosine"):
        return None
    scores = list(trained.scores.values())
    weights = [one.density for one in scores]
    return stability_record(similarity.of(list(trained.coders.values()), scores, weights=weights))


def _random(similarity: Similarity, coders: Sequence[Coder]) -> list[Rows]:
    """Gaussian decoders, one a trained coder and of its shape."""
    # chance is drawn from stream 0: an arm of the same directions would agree with it by construction
    rng = similarity.rng(stream=1)
    return [gaussian_rows(len(coder.W_dec), coder.config.d_out, rng) for coder in coders]


def _untrained(trained: Condition, init_seeds: Mapping[int, int] | None) -> list[Rows]:
    """Decoders after initialisation: of the seeds that the coders began with where they are known, otherwise of others."""
    found: list[Rows] = []
    for number, (seed, coder) in enumerate(trained.coders.items()):
        draw = torch.Generator().manual_seed(_FOREIGN + number if init_seeds is None else init_seeds[seed])
        found.append(initialise(Coder(coder.config), draw).W_dec.detach())
    return found


def _one_shape(arms: Sequence[Sequence[Rows]]) -> list[int]:
    """The shape [m, d] that all decoders of all arms have. StudyError otherwise: chance depends on it, so a control of another shape controls nothing."""
    shapes = {tuple(int(size) for size in decoder.shape) for arm in arms for decoder in arm}
    if len(shapes) != 1:
        raise StudyError(f"controls have the shape of what they control; got decoders of {sorted(shapes)}")
    return list(shapes.pop())


def _with_random(
    similarity: Similarity, coders: Sequence[Coder], random: Sequence[Rows], scores: Sequence[CoreScores]
) -> tuple[dict[str, Stability], PermutationTest]:
    """Trained and random arm from one table of all their pairs, and the test that exchanges coders between them."""
    masks, n = [one.firing.alive for one in scores], len(coders)
    decoders: list[Rows] = [
        *(coder.W_dec.detach().cpu().float() for coder in coders),
        *(torch.as_tensor(one) for one in random),
    ]
    both = CoderSet.of(decoders, masks + masks)
    table = both.table(similarity.statistic, absolute=similarity.absolute)
    chance = CoderSet.of(decoders[:n], masks).chance(
        similarity.statistic, similarity.rng(), absolute=similarity.absolute, draws=similarity.draws
    )
    sides = {"trained": table[:n, :n], "random": table[n:, n:]}
    arms = {
        name: stability_of(side, chance, rng=similarity.rng(), level=similarity.level) for name, side in sides.items()
    }
    return arms, permutation_test(table, np.arange(2 * n) < n, similarity.rng())


def _masked(
    similarity: Similarity, decoders: Sequence[Rows], scores: Sequence[CoreScores], chance: Estimate
) -> Stability:
    kept = CoderSet.of(decoders, [one.firing.alive for one in scores])
    table = kept.table(similarity.statistic, absolute=similarity.absolute)
    return stability_of(table, chance, rng=similarity.rng(), level=similarity.level)
