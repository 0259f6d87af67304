"""How far a score moves when nothing about the question does. A difference between two models below this spread says nothing.

Budget: 3 CPU seconds.
"""

from itertools import cycle, islice

import pytest
import torch

from trialplate.scoring import Scorer
from trialplate.scoring.cache import ResponseCache
from trialplate.scoring.noise import numeric_noise
from trialplate.scoring.requests import Encoder
from trialplate.tasks.corpus import heldout_documents


@pytest.fixture
def pairs(limit, scorer):
    """Contexts of mixed length, each with three continuations (the rest of the document, its first word, another's first word), and one
    context that does not fit the window (of 4096 tokens at most)."""
    documents = [words for d in heldout_documents(limit(16), seed=1001) if len(words := d.split()) > 3]
    found, other = [], documents[-1][-1]
    for words in documents:
        context, rest = " ".join(words[: len(words) // 2]), words[len(words) // 2 :]
        found += [(context, " " + text) for text in (" ".join(rest), rest[0], other)]
        other = rest[0]
    window = min(scorer.model.max_length, 4096)
    too_long = " ".join(islice(cycle(word for words in documents for word in words), window))
    return [*found, (too_long, " " + other)]


@pytest.mark.parametrize("against", ["batch", "repeat"])
def test_numeric_noise(against, scorer, record, pairs):
    """Alone against in a full batch (other padding, other neighbours, shared contexts), and the whole set twice."""
    noise = numeric_noise(scorer, pairs)
    record("numeric_noise", getattr(noise, against), n=noise.n, source=against)
    assert noise.n_flips == 0


def test_cache_is_honest(scorer, control, record, pairs, tmp_path):
    """Scores out of the cache equal scores that are computed, although another model filled it before; the second time all come out of it."""
    cache = ResponseCache(tmp_path / "responses.sqlite")
    Scorer(control, cache=cache).loglikelihood(pairs)
    cached = Scorer(scorer.model, cache=cache)
    first, second = cached.loglikelihood(pairs), cached.loglikelihood(pairs)
    fresh = Scorer(scorer.model).loglikelihood(pairs)
    gap = max(abs(a.logprob - b.logprob) for a, b in zip(second, fresh, strict=True))
    record("numeric_noise", gap, n=len(pairs), source="cache")
    assert [s.logprob for s in first] == [s.logprob for s in second]
    assert cached.cache_hits >= len({*pairs})


def test_next_token_shift(scorer, record, pairs):
    """The score of a continuation is the sum of what the model itself says at each position, read off its logits one row at a time; of what
    does not fit the window, the end is read."""
    scores, gap = scorer.loglikelihood(pairs), 0.0
    for pair, score in zip(Encoder(scorer.model).pairs(pairs), scores, strict=True):
        ids = [*pair.context, *pair.continuation][-scorer.model.max_length - 1 :]
        logits = scorer.model.logits(torch.tensor([ids[:-1]], device=scorer.model.device))[0].float()
        n = len(pair.continuation)
        said = torch.log_softmax(logits[-n:], -1)[range(n), list(pair.continuation)]
        gap = max(gap, abs(score.logprob - said.double().sum().item()))
    record("numeric_noise", gap, n=len(pairs), source="shift")
    assert any(s.n_truncated for s in scores) or scorer.model.max_length > 4096
