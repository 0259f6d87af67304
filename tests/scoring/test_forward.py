"""Running plans: out of memory, models that cannot share contexts, packed rows against plain ones."""

import pytest
import torch

from trialplate.scoring import Scorer, ScoringError
from trialplate.scoring.forward import is_out_of_memory, packing_is_exact

CHOICES = [("on the hill and in ", ["the end", "an islland", "er", "the end of it"]), ("and then", [" a", " and a"])]


def limit_memory(model, n_positions, error="CUDA out of memory"):
    """Make a model fail for batches of more than n_positions."""
    logits = model.logits

    def limited(ids, *args):
        if ids.numel() > n_positions:
            raise RuntimeError(error)
        return logits(ids, *args)

    model.logits = limited
    return model


def test_budget_is_halved_until_it_fits_and_scores_are_the_same(make_table):
    table = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    pairs = [([t % 10] * (1 + t % 7), [3, t % 5]) for t in range(50)]
    wanted = Scorer(make_table(table)).loglikelihood_ids(pairs)
    model = limit_memory(make_table(table), 40)
    seen = []
    scorer = Scorer(model, token_budget=400, progress=lambda done, total: seen.append(done))
    assert scorer.loglikelihood_ids(pairs) == wanted
    assert scorer.token_budget <= 40
    assert seen[-1] == len(pairs)
    model.shapes.clear()
    scorer.loglikelihood_ids(pairs)  # what was found out is remembered
    assert max(rows * width for rows, width in model.shapes) <= 40


def test_generation_halves_too(make_table, successor):
    wanted = Scorer(successor).generate(["1", "2", "3", "4"], max_new_tokens=2)
    start = successor.start

    def limited(ids, mask):
        if len(ids) > 1:
            raise torch.OutOfMemoryError("no more")
        return start(ids, mask)

    successor.start = limited
    assert Scorer(successor).generate(["1", "2", "3", "4"], max_new_tokens=2) == wanted


def test_a_row_that_does_not_fit_is_an_error_with_its_length(make_table):
    scorer = Scorer(limit_memory(make_table(torch.zeros(9, 9)), 3))
    with pytest.raises(
        ScoringError, match=r"table: one row of 5 tokens does not fit the memory of cpu: CUDA out of memory\. Shorten"
    ):
        scorer.loglikelihood_ids([([1], [2]), ([1, 2, 3, 4, 5], [6])])


def test_other_errors_of_a_model_are_not_swallowed(make_table):
    scorer = Scorer(limit_memory(make_table(torch.zeros(9, 9)), 3, error="size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        scorer.loglikelihood_ids([([1, 2, 3, 4, 5], [6])])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("family", "expected"), [("gpt_neox", True), ("gpt2", True), ("llama", True), ("gemma2", True)]
)
def test_usual_architectures_share_contexts(build, family, expected):
    assert packing_is_exact(build(family)) is expected


def test_a_model_that_takes_no_such_mask_does_not_share_and_scores_right(build, slow):
    model = build("bloom")
    scorer = Scorer(model)
    assert not scorer.shares_contexts
    for (context, choices), scores in zip(CHOICES, scorer.multiple_choice(CHOICES), strict=True):
        for choice, logprob in zip(choices, scores.logprobs, strict=True):
            assert logprob == pytest.approx(slow.slow_loglikelihood(model, context, choice)[0], abs=1e-4)


def test_a_model_that_ignores_masks_does_not_share(build, monkeypatch):
    model = build("gpt_neox", seed=3)
    logits = type(model).logits
    monkeypatch.setattr(type(model), "logits", lambda self, ids, mask=None, positions=None: logits(self, ids))
    assert not packing_is_exact(model)


def test_a_model_that_ignores_positions_does_not_share(build, monkeypatch):
    model = build("gpt_neox", seed=3)
    logits = type(model).logits
    ordinary = torch.arange(64)

    def without_positions(self, ids, mask=None, positions=None):
        return logits(self, ids, mask, None if mask is None else ordinary[None, : ids.shape[1]])

    monkeypatch.setattr(type(model), "logits", without_positions)
    assert not packing_is_exact(model)


def test_a_window_too_short_for_the_check_means_no_sharing(make_table):
    assert not packing_is_exact(make_table(torch.zeros(9, 9), max_length=8))


def test_shared_contexts_are_computed_once(neox, monkeypatch):
    def n_positions(share):
        scorer, total = Scorer(neox, share_contexts=share), []
        assert scorer.shares_contexts == share  # the check itself runs the model
        hidden = type(neox).hidden
        with monkeypatch.context() as patch:
            patch.setattr(
                type(neox), "hidden", lambda self, ids, *rest: total.append(ids.numel()) or hidden(self, ids, *rest)
            )
            scorer.multiple_choice([("on the hill", [" and", " and er", "in", "er and"])])
        return sum(total)

    assert n_positions(True) < n_positions(False) * 0.6


def test_half_precision_is_scored_in_float32_softmax(build, slow):
    model = build("gpt_neox", dtype="bfloat16")
    for (context, choices), scores in zip(CHOICES, Scorer(model).multiple_choice(CHOICES), strict=True):
        for choice, logprob in zip(choices, scores.logprobs, strict=True):
            # bfloat16 keeps eight bits: logits near 10 are good to about 0.05 a token
            assert logprob == pytest.approx(slow.slow_loglikelihood(model, context, choice)[0], rel=0.02)
