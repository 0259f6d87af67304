"""Probe items scored: against the slow obvious way, and at the edges where a wrong token would be compared."""

import numpy as np
import pytest
import torch

from trialplate.models.load import load
from trialplate.models.spec import ModelSpec
from trialplate.scoring import Scorer
from trialplate.scoring.probing import AnswerScores, continuation_scores, next_token_scores
from trialplate.scoring.requests import RequestError
from trialplate.tasks.items import make_item

ITEMS = [
    make_item("t", "The capital of France is", " Paris", (" Rome", " Berlin")),
    make_item("t", "The capital of Italy is", " Rome", (" Paris",)),
]


@pytest.fixture(scope="module")
def scorer():
    return Scorer(load(ModelSpec("embedded:neox-tiny")))


def logits_after(scorer, prompt):
    ids = torch.tensor([scorer.model.tokenizer.encode(prompt)])
    return scorer.model.logits(ids)[0, -1].double()


def test_next_token_scores_are_the_logits_of_answer_and_best_foil(scorer):
    found = next_token_scores(scorer, ITEMS)
    encode = scorer.model.tokenizer.encode
    for row, item in enumerate(ITEMS):
        logits = logits_after(scorer, item.prompt)
        assert found.answer[row] == pytest.approx(logits[encode(item.answer)[0]].item(), abs=1e-4)
        assert found.foil[row] == pytest.approx(max(logits[encode(f)[0]].item() for f in item.foils), abs=1e-4)
        assert found.is_top1[row] == (logits.argmax().item() == encode(item.answer)[0])


def test_continuation_scores_sum_over_tokens(scorer):
    items = [make_item("t", "12 + 30 =", " 1234567", (" 7654321",))]
    found = continuation_scores(scorer, items)
    assert found.answer[0] == pytest.approx(scorer.loglikelihood([(items[0].prompt, " 1234567")])[0].logprob, abs=1e-4)
    assert found.difference[0] == found.answer[0] - found.foil[0]


def test_a_foil_of_several_tokens_is_refused_by_name(scorer):
    item = make_item("t", "The capital of France is", " Paris", (" Constantinople by the sea",))
    with pytest.raises(RequestError, match=r"Constantinople by the sea.*wanted exactly one"):
        next_token_scores(scorer, [item])


def test_an_item_without_foils_is_refused(scorer):
    with pytest.raises(RequestError, match="has no foil"):
        continuation_scores(scorer, [make_item("t", "a", " b", ())])


def test_ties_count_half():
    scores = AnswerScores(np.array([1.0, 2.0, 0.0]), np.array([1.0, 1.0, 1.0]), np.array([True, True, False]))
    assert scores.beats_foil.tolist() == [0.5, 1.0, 0.0]
