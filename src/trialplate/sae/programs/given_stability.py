"""Stability of coders that are there already: every similarity that is known of them, each with its chance level and its score above chance.

    matched_cosine, mean_max_cosine, mutual_nearest    of decoders; latents that fire on held-out rows, where there are rows
    matched_cosine_all_latents                         the same, dead latents included
    matched_cosine_by_frequency                        latents weighted by how often they fire
    shared_fraction                                    of latents whose encoder and decoder both match at a cosine of 0.7
    function_correlation                               of matched latents' activations on common tokens; chance: partners dealt at random

Coders that were begun with one seed, or trained in different ways, are refused where their files say so. Coders that were pulled to one reference are
not independent either: nothing in their files shows it, so whoever names them vouches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trialplate.metrics.cosines import hungarian
from trialplate.metrics.decoder_similarity import shared_fraction
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.latent_correlation import function_correlation, mismatched_correlation
from trialplate.metrics.random_directions import gaussian_rows
from trialplate.metrics.seed_stability import Stability, stability, stability_of
from trialplate.metrics.statistics import mean
from trialplate.sae.coder import Coder, initialise
from trialplate.sae.evaluate import CoreScores
from trialplate.sae.formats import coder_digest
from trialplate.sae.latents import Latents
from trialplate.sae.programs.conditions import Similarity, place, shown, stability_record
from trialplate.sae.programs.control import check_alike, given_coders
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.source import Source, spread_rows

Matrix = NDArray[np.float64]
_DECODERS = ("matched_cosine", "mean_max_cosine", "mutual_nearest")
_FUNCTION_ROWS = 8192
"""Rows on which functions are correlated, at most, evenly spread."""


@dataclass(frozen=True)
class StabilityOptions:
    """similarity: its statistic is replaced by each in turn. shared_at: the cosine of a shared latent."""

    similarity: Similarity = field(default_factory=Similarity)
    shared_at: float = 0.7


def run_stability(options: StabilityOptions, coders: Mapping[str, Coder], rows: Source | None = None) -> dict[str, Any]:
    """The result of `stability.json`: `statistics` by name (see above), `n_coders`, `shape`, `quality` of each coder where there are rows.

    StudyError for fewer than 3 coders, or some that differ by more than a seed; ValueError for a decoder that is there twice."""
    names = dict(enumerate(coders))
    measured = dict(enumerate(coders.values()))
    check_seeds(list(measured), "coders")
    check_alike(list(measured.values()))
    first = next(iter(coders.values()))
    found = _of_decoders(options, list(measured.values()), None)
    scores: list[CoreScores] = []
    if rows is not None:
        scores = list(given_coders(measured, rows).scores.values())
        alive = _of_decoders(options, list(measured.values()), scores)
        found = {**alive, "matched_cosine_all_latents": found["matched_cosine"]}
        found |= _of_functions(options, list(measured.values()), scores, rows)
    result: dict[str, Any] = plain(
        {
            "subject": {
                "coders": {names[i]: coder_digest(coder) for i, coder in measured.items()},
                "rows": "" if rows is None else rows.digest,
                **place(first.config),
            },
            "n_coders": len(coders),
            "shape": list(first.W_dec.shape),
            "architecture": first.config.architecture,
            "k": first.config.k,
            "latents": "all" if rows is None else "those that fire on the rows",
            "statistics": {name: stability_record(one) for name, one in found.items()},
            "quality": {names[i]: _quality(one) for i, one in enumerate(scores)},
        }
    )
    return result


def stability_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Stability over seeds",
        "",
        f"{result['n_coders']} {result['architecture']} coders, {' x '.join(map(str, result['shape']))}; latents: {result['latents']}.",
        "",
        "| similarity | over seeds | chance | above chance |",
        "|---|---|---|---|",
    ]
    for name, one in result["statistics"].items():
        lines.append(f"| {name} | {shown(one['raw'])} | {one['chance']['value']:.3f} | {shown(one['adjusted'])} |")
    return "\n".join(lines)


def _of_decoders(
    options: StabilityOptions, coders: list[Coder], scores: list[CoreScores] | None
) -> dict[str, Stability]:
    """Similarities of decoders, of all latents or of those that fire."""
    similarity, rng = options.similarity, options.similarity.rng
    decoders = [coder.W_dec.detach().cpu() for coder in coders]
    alive = None if scores is None else [one.firing.alive for one in scores]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(len(coders))]
    untrained = [initialise(Coder(c.config), draw).W_dec.detach() for c, draw in zip(coders, seeds, strict=True)]
    how: dict[str, Any] = {"absolute": similarity.absolute, "draws": similarity.draws, "level": similarity.level}
    return {
        name: stability(decoders, statistic=name, alive=alive, untrained=untrained, rng=rng(), **how)
        for name in _DECODERS
    }


def _of_functions(
    options: StabilityOptions, coders: list[Coder], scores: list[CoreScores], rows: Source
) -> dict[str, Stability]:
    """What needs rows: the form weighted by frequency, shared latents, and functions."""
    similarity = options.similarity
    kept = [torch.from_numpy(np.flatnonzero(one.firing.alive)) for one in scores]
    weighted = Similarity("matched_cosine", similarity.absolute, similarity.draws, similarity.level, similarity.seed)
    return {
        "matched_cosine_by_frequency": weighted.of(coders, scores, weights=[one.density for one in scores]),
        "shared_fraction": _shared(options, coders, kept),
        "function_correlation": _functions(options, coders, kept, rows),
    }


def _shared(options: StabilityOptions, coders: list[Coder], kept: list[torch.Tensor]) -> Stability:
    sides = [
        (coder.encoder.detach().cpu()[alive], coder.W_dec.detach().cpu()[alive])
        for coder, alive in zip(coders, kept, strict=True)
    ]
    at, rng = options.shared_at, options.similarity.rng()
    table = _table(len(coders), lambda i, j: shared_fraction(*sides[i], *sides[j], at=at))
    sizes = [(len(alive), coder.config) for alive, coder in zip(kept, coders, strict=True)]
    drawn = []
    for one in range(options.similarity.draws):
        pair = [sizes[(one + side) % len(sizes)] for side in range(2)]
        enc_a, dec_a, enc_b, dec_b = (gaussian_rows(m, d, rng) for m, c in pair for d in (c.d_in, c.d_out))
        drawn.append(shared_fraction(enc_a, dec_a, enc_b, dec_b, at))
    chance = mean(drawn)
    return stability_of(table, chance, rng=options.similarity.rng(), level=options.similarity.level)


@torch.no_grad()
def _functions(options: StabilityOptions, coders: list[Coder], kept: list[torch.Tensor], rows: Source) -> Stability:
    x = rows.rows(spread_rows(rows, _FUNCTION_ROWS))[0]
    codes: list[Latents] = [coder.encode(x.to(coder.W_dec)) for coder in coders]
    decoders = [coder.W_dec.detach().cpu()[alive] for coder, alive in zip(coders, kept, strict=True)]
    chances: list[float] = []

    def correlation(i: int, j: int) -> float:
        found = hungarian(decoders[i], decoders[j], absolute=options.similarity.absolute)
        pairs = np.column_stack([kept[i].numpy()[found.a], kept[j].numpy()[found.b]])
        dealt = mismatched_correlation(
            codes[i], codes[j], pairs, options.similarity.rng(), draws=options.similarity.draws
        )
        chances.append(dealt.value)
        return function_correlation(codes[i], codes[j], pairs).mean

    table = _table(len(coders), correlation)
    level = float(np.mean(chances))
    chance = Estimate(
        level, len(chances), 0.0, (level, level), method="partners dealt at random, mean over pairs of coders"
    )
    return stability_of(table, chance, rng=options.similarity.rng(), level=options.similarity.level)


def _table(n: int, measure: Callable[[int, int], float]) -> Matrix:
    """Every pair, symmetric, 1 on the diagonal."""
    table = np.eye(n)
    for i, j in combinations(range(n), 2):
        table[i, j] = table[j, i] = measure(i, j)
    return table


def _quality(one: CoreScores) -> dict[str, Any]:
    return {"ev": one.ev, "l0": one.l0, "dead_frac": one.dead_frac}
