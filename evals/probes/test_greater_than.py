"""Greater-than (Hanna et al. 2023, arXiv:2305.00586): "The war lasted from the year 1732 to the year 17" is continued by a later year.

Budget: 2 CPU seconds.
"""

import numpy as np
import pytest

from trialplate.tasks.probes.greater_than import greater_than_items, year_token_ids


@pytest.mark.requires_tokens("two_digit_years", "single_token_nouns")
@pytest.mark.parametrize("task", ["greater_than"])
def test_greater_than(task, scorer, control_scorer, measure, uses, limit):
    """prob_diff = P(YY' > YY) - P(YY' <= YY) over the hundred two-digit tokens; sharpness = P(YY + 1) - P(YY - 1)."""
    encode = scorer.model.tokenizer.encode
    items = uses(task, greater_than_items(encode, limit(200), seed=1000), seed=1000)
    years = np.array([i.meta["year"] for i in items])
    ours, twins = (probabilities(s, items, year_token_ids(encode)) for s in (scorer, control_scorer))
    measure("prob_diff", prob_diff(ours, years), items, prob_diff(twins, years), task=task)
    measure("sharpness", sharpness(ours, years), items, sharpness(twins, years), task=task)
    assert len(items) == limit(200)
    assert (ours.sum(1) <= 1 + 1e-5).all()


def probabilities(scorer, items, candidates):
    """[n, 100]: probability of each two-digit year after each prompt."""
    return np.exp(scorer.next_token_logprobs([i.prompt for i in items], candidates=candidates).double().numpy())


def prob_diff(p, years):
    later = np.arange(100)[None] > years[:, None]
    return (p * later).sum(1) - (p * ~later).sum(1)


def sharpness(p, years):
    rows = np.arange(len(years))
    return p[rows, years + 1] - p[rows, years - 1]
