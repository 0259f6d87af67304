"""How much a score moves when nothing about the question moves: alone or among others, the first time or the second.

Floating-point sums depend on their grouping, and the grouping on what else is in the batch. The spread belongs into the report: a difference between
two models that is smaller than it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trialplate.scoring.results import ContinuationScore
from trialplate.scoring.scorer import Scorer


@dataclass(frozen=True, slots=True)
class NumericNoise:
    """Largest absolute differences of a request's log-probability in nats, over n requests; all >= 0, and 0 where arithmetic is exact.

    batch: scored alone against scored with all others (other padding, other neighbours, contexts shared or not)
    repeat: the whole set scored twice
    relative: the larger of both over the largest absolute log-probability
    n_flips: requests whose `is_greedy` differs between any two of the three"""

    n: int
    batch: float
    repeat: float
    relative: float
    n_flips: int

    @property
    def spread(self) -> float:
        """The larger of `batch` and `repeat`, in nats."""
        return max(self.batch, self.repeat)


def numeric_noise(scorer: Scorer, pairs: Sequence[tuple[str, str]]) -> NumericNoise:
    """Score (context, continuation) pairs alone, together, and together again; never from the cache. Raises ValueError for no pairs."""
    if not pairs:
        raise ValueError("numeric_noise wants at least one (context, continuation) pair, got none")
    fresh = Scorer(
        scorer.model, token_budget=scorer.token_budget, add_bos=scorer.add_bos, share_contexts=scorer.share_contexts
    )
    alone = [fresh.loglikelihood([pair])[0] for pair in pairs]
    first, second = fresh.loglikelihood(pairs), fresh.loglikelihood(pairs)
    batch, repeat = _gap(alone, first), _gap(first, second)
    scale = max(abs(score.logprob) for score in first)
    flips = sum(len({a.is_greedy, b.is_greedy, c.is_greedy}) > 1 for a, b, c in zip(alone, first, second, strict=True))
    return NumericNoise(len(pairs), batch, repeat, max(batch, repeat) / scale if scale else 0.0, flips)


def _gap(a: Sequence[ContinuationScore], b: Sequence[ContinuationScore]) -> float:
    # Equal first: the difference of two infinities is no number.
    return max(0.0 if x.logprob == y.logprob else abs(x.logprob - y.logprob) for x, y in zip(a, b, strict=True))
