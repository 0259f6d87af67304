"""Factual recall: the "Paris margin" for every capital, and three cheaper relations. One prompt is an anecdote; these are paraphrases of 61.

Budget: 6 CPU seconds.
"""

import pytest

from trialplate.metrics import choices
from trialplate.scoring.probing import continuation_scores
from trialplate.tasks.probes.facts import fact_items

RELATION = {
    "capitals": "capital",
    "capitals_held_out": "capital",
    "languages": "language",
    "continents": "continent",
}


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("capitals", marks=pytest.mark.requires_tokens("single_token_capitals")),
        pytest.param("capitals_held_out", marks=pytest.mark.requires_tokens("single_token_capitals")),
        "languages",
        "continents",
    ],
)
def test_facts(task, scorer, control_scorer, measure, uses, limit):
    """margin = log P(true) - max log P(other values of the relation with as many tokens); a country's paraphrases are one cluster.

    In `capitals_held_out` every country is asked in the one phrasing that training never showed for it.
    """
    split = "heldout" if task == "capitals_held_out" else "train"
    available = fact_items(scorer.model.tokenizer.encode, None, 1000, relation=RELATION[task], split=split)
    items = uses(task, available[: limit(244)], seed=1000)
    ours, twins = continuation_scores(scorer, items), continuation_scores(control_scorer, items)
    countries = [i.group for i in items]
    chance = choices.chance([1 + len(i.foils) for i in items])
    measure("margin", ours.difference, items, twins.difference, clusters=countries, task=task)
    measure("acc_gt", ours.beats_foil, items, chance, kind="chance", clusters=countries, task=task)
    measure("acc_top1", ours.is_top1, items, twins.is_top1, clusters=countries, task=task)
    assert all(len(i.foils) >= 3 for i in items)
