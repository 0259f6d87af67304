"""Prefix matching on heads made by hand, and against the definition written as loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trialplate.metrics.attention import prefix_matching_scores, uniform_prefix_matching

LENGTH = 6
BLOCK = list(range(10, 10 + LENGTH))
IDS = torch.tensor([[0, *BLOCK, *BLOCK]])
SEQ = IDS.shape[1]


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def uniform_head(seq):
    return torch.tril(torch.ones(seq, seq)) / torch.arange(1, seq + 1).unsqueeze(1)


def induction_head():
    """From the second block to the successor of the first occurrence, LENGTH - 1 places back; elsewhere to position 0."""
    head = torch.zeros(SEQ, SEQ)
    for position in range(SEQ):
        head[position, position - LENGTH + 1 if position > LENGTH else 0] = 1
    return head


def duplicate_head():
    """From the second block to the first occurrence itself: one place off."""
    head = torch.zeros(SEQ, SEQ)
    for position in range(SEQ):
        head[position, position - LENGTH if position > LENGTH else 0] = 1
    return head


def by_definition(attention, ids):
    scores, n = 0.0, 0
    for dst in range(len(ids)):
        sources = [src for src in range(1, dst) if ids[src - 1] == ids[dst]]
        if sources:
            scores += sum(float(attention[dst, src]) for src in sources)
            n += 1
    return scores / n


def test_an_induction_head_scores_one_and_its_neighbours_nothing():
    attention = torch.stack([induction_head(), duplicate_head(), uniform_head(SEQ)]).unsqueeze(0)
    scores = prefix_matching_scores(attention, IDS)
    assert scores.shape == (1, 3)
    assert scores[0, 0] == 1
    assert scores[0, 1] == 0
    assert scores[0, 2] == pytest.approx(uniform_prefix_matching(IDS)[0])


def test_it_is_the_mean_over_the_second_block_at_one_offset():
    attention = noise(1, 1, SEQ, SEQ).tril()
    attention /= attention.sum(-1, keepdim=True)
    offset = [float(attention[0, 0, dst, dst - LENGTH + 1]) for dst in range(LENGTH + 1, SEQ)]
    assert prefix_matching_scores(attention, IDS)[0, 0] == pytest.approx(sum(offset) / LENGTH)


def test_sequences_of_a_batch_are_scored_apart():
    other = torch.tensor([[0, *BLOCK[:4], *BLOCK[:4], 50, 51, 52, 53]])
    ids = torch.cat([IDS, other])
    scores = prefix_matching_scores(induction_head().expand(2, 1, SEQ, SEQ), ids)
    assert scores[0, 0] == 1
    assert scores[1, 0] < 1


@given(st.lists(st.integers(0, 3), min_size=4, max_size=12), st.integers(0, 100))
def test_the_fast_form_equals_the_definition(tokens, seed):
    ids, seq = torch.tensor([tokens]), len(tokens)
    attention = noise(1, 2, seq, seq, seed=seed).tril() + 1e-3 * torch.eye(seq)
    attention /= attention.sum(-1, keepdim=True)
    try:
        expected = [by_definition(attention[0, head], tokens) for head in range(2)]
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="repeats no token"):
            prefix_matching_scores(attention, ids)
        return
    assert prefix_matching_scores(attention, ids)[0].tolist() == pytest.approx(expected)


def test_a_token_that_follows_itself_is_no_source():
    ids = torch.tensor([[7, 7, 8]])  # position 1 repeats position 0, whose successor is position 1 itself
    with pytest.raises(ValueError, match="repeats no token"):
        uniform_prefix_matching(ids)


@pytest.mark.parametrize(
    ("attention", "ids", "text"),
    [
        (uniform_head(4).expand(1, 1, 4, 4), torch.tensor([[1, 2, 3, 4]]), "sequence 0 repeats no token"),
        (uniform_head(4).expand(1, 1, 4, 4), torch.tensor([[1, 2, 1]]), r"\[batch, head, dst, src\] over the ids"),
        (uniform_head(3)[None], torch.tensor([[1, 2, 1]]), r"got shape \(1, 3, 3\)"),
        (noise(1, 1, 3, 3), torch.tensor([[1, 2, 1]]), "values after softmax"),
        (torch.full((1, 1, 1, 1), 1.0), torch.tensor([[1]]), "at least 2 tokens"),
    ],
)
def test_misuse_is_told(attention, ids, text):
    with pytest.raises(ValueError, match=text):
        prefix_matching_scores(attention, ids)


def test_half_precision_probabilities_are_accepted():
    attention = torch.softmax(noise(1, 2, SEQ, SEQ), dim=-1).bfloat16()
    assert prefix_matching_scores(attention, IDS).shape == (1, 2)
