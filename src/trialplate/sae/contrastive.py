"""CE-Bench of a coder at a site: pairs of stories through the model, its latents averaged by story, and the scores beside what keeps them honest:
the bound of the width, the null of stories paired across subjects, and a baseline coder of the same width. See `metrics.contrastive`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trialplate.activations.sites import Point
from trialplate.metrics.contrastive import (
    MEASURES,
    Contrastive,
    Measure,
    Mode,
    Responsible,
    Stories,
    bound,
    contrastive,
    difference,
    permuted_null,
    responsible,
)
from trialplate.metrics.estimate import Estimate
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError
from trialplate.sae.pooled import pool, text_ids
from trialplate.tasks.contrastive_pairs import ContrastivePair, pairs_digest

_CODER, _BASELINE = "coder", "baseline"


@dataclass(frozen=True, eq=False)
class CeBench:
    """Scores of a coder, the null of the same latents, the scores of the baseline on the same pairs, and which latent responds to which subject."""

    coder: Contrastive
    null: Mapping[Measure, Estimate]
    baseline: Contrastive
    responsible: Responsible
    pairs: str

    def minus_baseline(self, measure: Measure) -> Estimate:
        """The coder minus the baseline, paired; both have the same width."""
        return difference(self.coder, self.baseline, measure)

    def result(self) -> dict[str, Any]:
        """Everything as plain data with estimates, by measure; with mode, width, bound and the digest of the pairs."""
        measures = {
            name: {
                "score": self.coder.score(name),
                "per_root": self.coder.per_root(name),
                "null": self.null[name],
                "baseline": self.baseline.score(name),
                "minus_baseline": self.minus_baseline(name),
            }
            for name in MEASURES
        }
        about = {"mode": self.coder.mode, "n_latents": self.coder.n_latents, "bound": bound(self.coder.n_latents)}
        return {**about, "pairs": self.pairs, "n_pairs": len(self.coder.subjects), "measures": measures}

    def released_results(self, coder: Coder, release: str, sae_id: str) -> dict[str, Any]:
        """The content of CE-Bench's results.json."""
        return self.coder.results({**asdict(coder.config), "about": dict(coder.config.about)}, release, sae_id)


def story_means(
    model: CausalLM,
    point: Point,
    coders: Mapping[str, Coder],
    pairs: Sequence[ContrastivePair],
    skip: Iterable[int] | None = None,
) -> dict[str, Stories]:
    """Means over the kept tokens of both stories of every pair, for each coder, from one pass."""
    documents = text_ids(model, [*(pair.first for pair in pairs), *(pair.second for pair in pairs)])
    pooled = pool(model, point, coders, documents, skip)
    n, subjects = len(pairs), tuple(pair.subject for pair in pairs)
    tokens = pooled.n_tokens
    return {
        name: Stories(m[:n], m[n:], tokens[:n], tokens[n:], subjects)
        for name, m in pooled.means.items()
        if name in coders
    }


def cebench(
    model: CausalLM,
    point: Point,
    coder: Coder,
    pairs: Sequence[ContrastivePair],
    rng: np.random.Generator,
    *,
    baseline: Coder,
    mode: Mode = "paper",
    permutations: int = 20,
    skip: Iterable[int] | None = None,
) -> CeBench:
    """Score a coder on pairs of stories, beside a baseline of the same width (`random_twin`, or a published coder) and the null of the same latents.

    CoderError for a baseline of another width: the score grows with width alone. ValueError as `metrics.contrastive`."""
    if baseline.config.d_sae != coder.config.d_sae:
        raise CoderError(
            f"the baseline has {baseline.config.d_sae} latents, the coder {coder.config.d_sae}; the score grows with width, so give one of the same"
        )
    found = story_means(model, point, {_CODER: coder, _BASELINE: baseline}, pairs, skip)
    mine = found[_CODER]
    return CeBench(
        contrastive(mine, mode),
        permuted_null(mine, rng, mode, permutations),
        contrastive(found[_BASELINE], mode),
        responsible(mine, mode),
        pairs_digest(pairs),
    )
