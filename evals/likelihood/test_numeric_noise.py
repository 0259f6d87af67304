"""How far a score moves when nothing about the question does. A difference between two models below this spread says nothing.

Budget: 2 CPU seconds.
"""

import pytest

from trialplate.scoring import Scorer
from trialplate.scoring.cache import ResponseCache
from trialplate.scoring.noise import numeric_noise
from trialplate.tasks.corpus import heldout_documents


@pytest.fixture
def pairs(limit):
    """Contexts and continuations of mixed length."""
    words = [d.split() for d in heldout_documents(limit(24), seed=1001)]
    return [(" ".join(w[: len(w) // 2]), " " + " ".join(w[len(w) // 2 :])) for w in words if len(w) > 3]


@pytest.mark.parametrize("source", ["batch", "repeat"])
def test_numeric_noise(source, scorer, record, pairs):
    """Alone against in a full batch (other padding, other neighbours), and the whole set twice."""
    noise = numeric_noise(scorer, pairs)
    record("numeric_noise", getattr(noise, source), n=noise.n, source=source)
    assert noise.n_flips == 0


def test_cache_is_honest(scorer, record, pairs, tmp_path):
    """Scores out of the cache equal scores that are computed, and the second time all come out of the cache."""
    cached = Scorer(scorer.model, cache=ResponseCache(tmp_path / "responses.sqlite"))
    first, second, fresh = (
        cached.loglikelihood(pairs),
        cached.loglikelihood(pairs),
        Scorer(scorer.model).loglikelihood(pairs),
    )
    gap = max(abs(a.logprob - b.logprob) for a, b in zip(second, fresh, strict=True))
    record("numeric_noise", gap, n=len(pairs), source="cache")
    assert [s.logprob for s in first] == [s.logprob for s in second]
    assert cached.cache_hits >= len({*pairs})


def test_next_token_shift(scorer, record, pairs):
    """The score of a continuation is the sum of what the model itself says at each position, read off its logits one row at a time."""
    import torch

    from trialplate.scoring.requests import Encoder

    scores, gap = scorer.loglikelihood(pairs), 0.0
    for (context, continuation), score in zip(pairs, scores, strict=True):
        pair = Encoder(scorer.model).pairs([(context, continuation)])[0]
        ids = [*pair.context, *pair.continuation]
        logits = scorer.model.logits(torch.tensor([ids], device=scorer.model.device))[0].float()
        expected = (
            torch.log_softmax(logits, -1)[range(len(pair.context) - 1, len(ids) - 1), list(pair.continuation)]
            .double()
            .sum()
        )
        gap = max(gap, abs(score.logprob - expected.item()))
    record("numeric_noise", gap, n=len(pairs), source="shift")
