"""A language model that is a lookup table: its accuracy is 1 if and only if a token is scored by what was said one position earlier."""

import numpy as np
import pytest
import torch

from trialplate.scoring import Scorer

TEXT = [3, 4, 5, 6, 7, 8]


def test_accuracy_is_one_with_the_right_shift(successor):
    (scores,) = Scorer(successor).token_logprobs([TEXT[:5]])
    assert scores.is_argmax.mean() == 1.0
    np.testing.assert_allclose(scores.logprobs, np.log(0.91), rtol=1e-5)


@pytest.mark.parametrize("shift", [-1, 1])
def test_accuracy_is_zero_with_a_wrong_shift(successor, monkeypatch, shift):
    honest = Scorer._score
    # Tokens one place off: what is scored after t is t itself, or t + 2.
    monkeypatch.setattr(
        Scorer,
        "_score",
        lambda self, queries, targets, report: honest(self, queries, [t + shift for t in targets], report),
    )
    (scores,) = Scorer(successor).token_logprobs([TEXT[:5]])
    assert scores.is_argmax.mean() == 0.0


def test_uniform_table_has_a_perplexity_of_its_vocabulary(make_table):
    model = make_table(torch.zeros(7, 7))
    (score,) = Scorer(model).rolling(["3 1 4 1 5 2 6 " * 9])
    assert np.exp(-score.logprob / score.n_tokens) == pytest.approx(7, rel=1e-6)


def test_cyclic_sequence_is_known_in_every_window(successor):
    (score,) = Scorer(successor).rolling([" ".join(str(t % 10) for t in range(1, 60))])
    assert score.logprob / score.n_tokens == pytest.approx(np.log(0.91), rel=1e-5)


def test_next_token_and_generation_follow_the_table(successor):
    scorer = Scorer(successor)
    assert scorer.next_token_logprobs(["1 2", "5"]).argmax(-1).tolist() == [3, 6]
    assert scorer.generate(["1 2", "8"], max_new_tokens=3) == ["3 4 5", "9 0 1"]
