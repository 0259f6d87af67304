"""The scorer against the slow twin, by value, and its errors. Tolerance: float32 forward passes that differ in grouping, so 1e-4 nats a request."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.scoring import RequestError, Scorer, ScoringError

TOLERANCE = 1e-4
PAIRS = [
    ("on the hill and ", "in the sand"),
    ("on the hill and ", "er"),
    ("on the hill and ", "in an islland"),
    ("", "the end"),
    ("a", "Zürich 日本"),
    ("a very long context that has to be cut off at the left, ", "then this"),
    ("and", " " + "x" * 23),  # as long as the window
    ("on the", " P"),
    ("on the", " P"),
    ("", "<|end|>the"),
]
FAMILIES = ["gpt_neox", "gpt2", "llama", "gemma2"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [True, False])
def test_loglikelihood_equals_the_slow_form(build, slow, family, share):
    model = build(family)
    scores = Scorer(model, share_contexts=share).loglikelihood(PAIRS)
    for (context, continuation), score in zip(PAIRS, scores, strict=True):
        wanted, is_greedy = slow.slow_loglikelihood(model, context, continuation)
        assert score.logprob == pytest.approx(wanted, abs=TOLERANCE)
        assert score.is_greedy == is_greedy
        assert score.n_tokens == len(slow.slow_pair(model, context, continuation)[1])


def test_greedy_continuations_are_recognised(neox, slow):
    ids = neox.tokenizer.encode("on the hill")
    best = []
    for _ in range(3):
        best.append(slow.next_token_table(neox, ids + best)[-1].argmax().item())
    off = [*best[:2], (best[2] + 1) % 270]
    scores = Scorer(neox).loglikelihood_ids([(ids, best), (ids, off), (ids, best[:1])])
    assert [score.is_greedy for score in scores] == [True, False, True]


def test_truncation_is_counted(neox):
    long, short = Scorer(neox).loglikelihood([PAIRS[5], PAIRS[0]])
    n_whole = len(neox.tokenizer.encode("".join(PAIRS[5])))
    assert (long.n_truncated, short.n_truncated) == (n_whole - 25, 0)


texts = st.text(st.sampled_from("the and\nP日"), max_size=12)
pairs = st.tuples(texts, texts).filter(lambda pair: "".join(pair).strip() and pair[1].strip())


@given(st.lists(pairs, min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(1, 200), st.booleans())
@settings(max_examples=40, deadline=None)
def test_scores_do_not_depend_on_order_budget_or_sharing(neox, requests, rng, token_budget, share):
    try:
        reference = [Scorer(neox).loglikelihood([pair])[0] for pair in requests]
    except RequestError:  # a continuation that merges into its context
        return
    order = rng.sample(range(len(requests)), len(requests))
    scorer = Scorer(neox, token_budget=token_budget, share_contexts=share)
    scores = scorer.loglikelihood([requests[i] for i in order])
    for i, score in zip(order, scores, strict=True):
        assert score.logprob == pytest.approx(reference[i].logprob, abs=TOLERANCE)
        assert score.n_tokens == reference[i].n_tokens


def test_order_of_requests_changes_no_bit(neox):
    scorer = Scorer(neox, token_budget=64)
    assert scorer.loglikelihood(PAIRS[::-1])[::-1] == scorer.loglikelihood(PAIRS)


@pytest.mark.parametrize("token_budget", [1, 40, 4096])
def test_picks_do_not_depend_on_the_budget(neox, token_budget):
    questions = [("on the hill and ", ["in", "the sand", "er"]), ("a", ["b", "c d e"]), ("", ["x", "yz"])] * 3
    reference = [(score.pick, score.pick_norm) for score in Scorer(neox).multiple_choice(questions)]
    scores = Scorer(neox, token_budget=token_budget).multiple_choice(questions)
    assert [(score.pick, score.pick_norm) for score in scores] == reference


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2"])
def test_rolling_equals_the_slow_form(build, slow, family):
    model = build(family)
    documents = ["the end", "x" * 24, "y" * 25, "on the hill and in the sand, " * 5, "日本 and Zürich " * 4]
    for text, score in zip(documents, Scorer(model, token_budget=50).rolling(documents), strict=True):
        logprob, n_tokens = slow.slow_rolling(model, text)
        assert score.logprob == pytest.approx(logprob, abs=TOLERANCE * 5)
        assert (score.n_tokens, score.n_bytes) == (n_tokens, len(text.encode()))


def test_rolling_by_hand(successor):
    # window 4, after the prefix 0: 1 2 3 4 | 5 6 7 8 | 9 0, every step the likely one but the last
    (score,) = Scorer(successor).rolling(["1 2 3 4 5 6 7 8 9 9"])
    assert score.logprob == pytest.approx(9 * np.log(0.91) + np.log(0.01), rel=1e-6)
    assert (score.n_tokens, score.n_bytes, score.n_words) == (10, 19, 10)


def test_multiple_choice_by_hand(make_table):
    table = torch.full((4, 4), 0.1)
    table[0] = torch.tensor([0.1, 0.2, 0.4, 0.3])
    table[2] = torch.tensor([0.1, 0.5, 0.2, 0.2])
    (scores,) = Scorer(make_table(table.log())).multiple_choice([("0", ["1", "2 1", "3"])], delimiter=" ")
    assert np.exp(scores.logprobs) == pytest.approx([0.2, 0.2, 0.3])
    assert scores.n_tokens == (1, 2, 1)
    assert scores.lengths_chars == scores.lengths_bytes == (1, 3, 1)  # the delimiter does not count
    assert scores.pick == 2
    assert scores.pick_norm == 1  # log 0.2 / 3 characters
    assert scores.is_greedy == (False, True, False)


def test_first_of_equal_choices_is_picked(make_table):
    (scores,) = Scorer(make_table(torch.zeros(5, 5))).multiple_choice([("0", [" 3", " 1", " 2"])])
    assert (scores.pick, scores.pick_norm, scores.pick_bytes) == (0, 0, 0)


def test_length_in_characters_and_in_bytes_can_pick_differently(neox):
    from trialplate.scoring import ChoiceScores

    scores = ChoiceScores((-6.0, -4.0), (False, False), (3, 2), (2, 1), (2, 3))
    assert (scores.pick, scores.pick_norm, scores.pick_bytes) == (1, 0, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_logprobs_equal_the_slow_form(build, slow, family):
    model = build(family)
    sequences = [[5, 6, 7, 5, 6, 7], [9], [0, 1], list(range(1, 26))]
    for ids, scores in zip(sequences, Scorer(model, token_budget=30).token_logprobs(sequences), strict=True):
        logprobs, is_argmax = slow.slow_token_logprobs(model, ids) if len(ids) > 1 else ([], [])
        assert scores.logprobs == pytest.approx(np.array(logprobs), abs=TOLERANCE)
        assert scores.is_argmax.tolist() == is_argmax
        assert scores.logprobs.dtype == np.float64


@pytest.mark.parametrize("share", [True, False])
def test_next_token_logprobs_equal_the_slow_form(neox, slow, share):
    prompts = ["on the hill", "", "a", "on the hill", "longer than the window of twenty-four"]
    table = Scorer(neox, share_contexts=share).next_token_logprobs(prompts)
    assert table.shape == (5, 270)
    assert table.dtype == torch.float32
    for prompt, row in zip(prompts, table, strict=True):
        ids = (neox.tokenizer.encode(prompt) or [0])[-24:]
        torch.testing.assert_close(row.double(), slow.next_token_table(neox, ids)[-1], rtol=0, atol=TOLERANCE)


def test_next_token_at_positions_and_candidates(neox, slow):
    ids = [3, 1, 4, 1, 5]
    whole = slow.next_token_table(neox, ids)
    scorer = Scorer(neox)
    at = scorer.next_token_logprobs([ids, ids, ids], positions=[0, 2, -1])
    torch.testing.assert_close(at.double(), whole[[0, 2, 4]], rtol=0, atol=TOLERANCE)
    same = scorer.next_token_logprobs([ids, ids], positions=[1, 3], candidates=[7, 9])
    torch.testing.assert_close(same.double(), whole[[1, 3]][:, [7, 9]], rtol=0, atol=TOLERANCE)
    own = scorer.next_token_logprobs([ids, ids], positions=[1, 3], candidates=[[7], [9]])
    torch.testing.assert_close(own, same[[0, 1], [0, 1]][:, None])


def test_logit_differences_are_differences_of_log_probabilities(neox):
    scorer = Scorer(neox)
    logits = scorer.next_token_logits(["on the", "hill"], candidates=[[5, 6], [7, 8]])
    logprobs = scorer.next_token_logprobs(["on the", "hill"], candidates=[[5, 6], [7, 8]])
    torch.testing.assert_close(logits.diff(), logprobs.diff(), rtol=0, atol=TOLERANCE)
    assert (logits - logprobs).abs().min() > 0.1


def test_nothing_asked_is_nothing_answered(neox):
    scorer = Scorer(neox)
    assert scorer.loglikelihood([]) == scorer.rolling([]) == scorer.multiple_choice([]) == []
    assert scorer.token_logprobs([]) == scorer.generate([], max_new_tokens=2) == []
    assert scorer.next_token_logprobs([]).shape == (0, 270)
    assert scorer.next_token_logprobs([], candidates=[1, 2]).shape == (0, 2)


def test_progress_counts_requests(neox):
    seen = []
    Scorer(neox, token_budget=30, progress=lambda done, total: seen.append((done, total))).loglikelihood(PAIRS)
    assert seen[-1] == (len(PAIRS), len(PAIRS))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 3


def test_the_head_reads_the_wanted_positions_only(neox, monkeypatch):
    rows = []
    head = type(neox).head
    monkeypatch.setattr(type(neox), "head", lambda self, hidden: rows.append(len(hidden)) or head(self, hidden))
    Scorer(neox).loglikelihood([("on the hill and ", "in"), ("on the hill and ", "er")])
    # " in" and " er" are two tokens each, the first the same: after the context, and after the blank that both share
    assert sum(rows) == 2


def test_logits_come_in_slices(neox, monkeypatch):
    import trialplate.scoring.forward as forward

    whole = Scorer(neox).loglikelihood(PAIRS)
    monkeypatch.setattr(forward, "HEAD_FLOATS", 3 * 270)
    rows = []
    head = type(neox).head
    monkeypatch.setattr(type(neox), "head", lambda self, hidden: rows.append(len(hidden)) or head(self, hidden))
    sliced = Scorer(neox).loglikelihood(PAIRS)
    assert max(rows) == 3
    for a, b in zip(whole, sliced, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=TOLERANCE)


def test_nan_is_an_error_and_never_an_answer(build):
    model = build("gpt_neox", seed=5)
    with torch.no_grad():
        model.module.get_output_embeddings().weight[3] = torch.nan
    scorer = Scorer(model)
    for call in (
        lambda: scorer.loglikelihood([("a", "b")]),
        lambda: scorer.multiple_choice([("a", ["b", "c"])]),
        lambda: scorer.next_token_logprobs(["a"]),
        lambda: scorer.token_logprobs([[1, 2, 3]]),
        lambda: scorer.generate(["a"], max_new_tokens=1),
    ):
        with pytest.raises(ScoringError, match="NaN"):
            call()


def test_minus_infinity_is_an_answer(make_table):
    table = torch.zeros(3, 3)
    table[0, 1] = -torch.inf
    (score,) = Scorer(make_table(table)).loglikelihood([("0", " 1")])
    assert score.logprob == -np.inf
    assert not score.is_greedy


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: s.rolling(["a", ""]), r"tiny-gpt_neox-0: text 1 is empty; wanted at least one token"),
        (lambda s: s.multiple_choice([("a", ["b"]), ("a", [])]), r"question 1 has choices \[\]; wanted at least one"),
        (lambda s: s.multiple_choice([("a", ["b", ""])]), r"question 0 has choices \['b', ''\].*none of them empty"),
        (lambda s: s.multiple_choice([("a", "bc")]), r"question 0 has choices 'bc'"),
        (lambda s: s.rolling("abc"), r"texts wants a sequence of texts, got one text 'abc'\. Put it into a list"),
        (lambda s: s.generate("abc", max_new_tokens=1), r"prompts wants a sequence of texts"),
        (lambda s: s.generate(["abc"], max_new_tokens=1, stop="ab"), r"stop wants a sequence of texts"),
        (lambda s: s.next_token_logprobs("abc"), r"prompts wants a sequence of texts"),
        (lambda s: s.token_logprobs([[1], list(range(26))]), r"sequence 1 has 26 tokens; wanted 1 to 25"),
        (lambda s: s.token_logprobs([[]]), r"sequence 0 has 0 tokens"),
        (lambda s: s.loglikelihood_ids([([1], [270])]), r"token 270 is none of the model's 270 tokens \(0 to 269\)"),
        (lambda s: s.loglikelihood_ids([([999], [1])]), r"token 999 is none of the model's.*Does the tokenizer belong"),
        (lambda s: s.next_token_logprobs(["a"], positions="first"), r'positions wants "last" or one index a prompt'),
        (lambda s: s.next_token_logprobs(["a"], positions=[1, 2]), r"one index for each of 1 prompts, got 2"),
        (lambda s: s.next_token_logprobs([[1, 2]], positions=[2]), r"position 2 of prompt 0 \(2 tokens\) is outside"),
        (lambda s: s.next_token_logprobs([[1, 2]], positions=[-3]), r"position -3 of prompt 0"),
        (lambda s: s.next_token_logprobs([[1], "a"]), r"not both kinds"),
        (lambda s: s.next_token_logprobs([[]]), r"no empty sequence"),
        (lambda s: s.next_token_logprobs(["a"], candidates=[[1], [2]]), r"\[c\] or \[1, c\], got shape \[2, 1\]"),
        (lambda s: s.next_token_logprobs(["a", "b"], candidates=[[1], [2, 3]]), r"the same number for each prompt"),
        (lambda s: s.next_token_logprobs(["a"], candidates=[-1]), r"token -1 is none of"),
    ],
)
def test_error_texts(neox, call, text):
    with pytest.raises(RequestError, match=text):
        call(Scorer(neox))


def test_budget_must_be_positive(neox):
    with pytest.raises(ValueError, match="token_budget must be at least 1 position a batch, got 0"):
        Scorer(neox, token_budget=0)


def test_global_generators_are_left_alone(neox):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Scorer(neox).loglikelihood(PAIRS)
    assert torch.equal(before, torch.get_rng_state())
