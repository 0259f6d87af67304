"""Rows and batches: one task a batch, everything read once, nothing padded is handed on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trialplate.activations.batches import make_plan
from trialplate.activations.errors import CaptureError

TEXTS = {"a": [[1, 2, 3], [4], [5, 6, 7, 8]], "b": [[9, 10]]}


def test_every_token_is_in_one_cell():
    plan = make_plan(TEXTS, max_length=8, positions=8)
    assert plan.n_tokens == {"a": 8, "b": 2}
    assert plan.total == 10
    found = [(b.task, d, p, t) for b in plan for d, p, t in zip(*(x.tolist() for x in (b.tokens().document, b.tokens().position, b.tokens().token)), strict=True)]  # fmt: skip
    wanted = [("a", 0, 0, 1), ("a", 0, 1, 2), ("a", 0, 2, 3), ("a", 1, 0, 4), ("a", 2, 0, 5), ("a", 2, 1, 6), ("a", 2, 2, 7), ("a", 2, 3, 8), ("b", 3, 0, 9), ("b", 3, 1, 10)]  # fmt: skip
    assert sorted(found) == sorted(wanted)


def test_the_first_token_of_every_row_stands_in_front():
    batch = make_plan({"a": [[1, 2], [3, 4, 5]]}, max_length=8, positions=64).batches[0]
    assert batch.ids().tolist() == [[3, 4, 5], [1, 2, 0]]
    tokens = batch.tokens()
    assert tokens.token.tolist() == [3, 1, 4, 5, 2]
    assert tokens.position.tolist() == [0, 0, 1, 2, 1]
    assert tokens.n_first == 2
    assert torch.equal(batch.ids().flatten()[tokens.cell], tokens.token)


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=12), min_size=1, max_size=30), st.integers(1, 40))
def test_batches_keep_their_budget_and_lose_nothing(texts, positions):
    plan = make_plan({"a": texts}, max_length=10, positions=positions)
    for batch in plan:
        assert batch.ids().numel() <= positions or len(batch.rows) == 1
    read = {(d, p): t for b in plan for d, p, t in zip(b.tokens().document.tolist(), b.tokens().position.tolist(), b.tokens().token.tolist(), strict=True)}  # fmt: skip
    assert read == {(d, p): t for d, text in enumerate(texts) for p, t in enumerate(text[:10])}
    assert plan.total == len(read)


def test_many_documents_share_a_bounded_number_of_clusters():
    plan = make_plan({"a": [[1]] * 1000, "b": [[2]] * 3}, max_length=4, positions=100, max_clusters=16)
    assert plan.n_clusters == {"a": 16, "b": 3}
    sizes = torch.cat([b.tokens().cluster for b in plan if b.task == "a"]).bincount()
    assert sizes.min() >= 62
    assert sizes.max() <= 63


def test_the_digest_names_what_is_read():
    digests = {
        make_plan(texts, max_length=8, positions=p).digest
        for texts, p in ((TEXTS, 8), (TEXTS, 4), ({**TEXTS, "b": [[9, 11]]}, 8), ({"a": TEXTS["a"], "c": [[9, 10]]}, 8))
    }
    assert len(digests) == 4
    assert make_plan(TEXTS, max_length=8, positions=8).digest == make_plan(TEXTS, max_length=8, positions=8).digest


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({}, "no task was given"),
        ({"a": []}, "task 'a' has no documents"),
        ({"a": [[1], []]}, "document 1 has no tokens"),
    ],
)
def test_nothing_to_read_is_an_error(texts, says):
    with pytest.raises(CaptureError, match=says):
        make_plan(texts, max_length=8, positions=8)


def test_separators_are_read_and_not_handed_on():
    plan = make_plan({"a": [[7, 1, 0, 2], [0, 3]]}, max_length=8, positions=64, skip=[0])
    tokens = plan.batches[0].tokens()
    assert plan.n_tokens == {"a": 4}
    assert plan.batches[0].ids().tolist() == [[7, 1, 0, 2], [0, 3, 0, 0]]
    assert (tokens.token.tolist(), tokens.position.tolist(), tokens.n_first) == ([7, 1, 2, 3], [0, 1, 3, 1], 1)
    with pytest.raises(CaptureError, match="every token of its 1 documents is one of the ids to skip"):
        make_plan({"a": [[0, 0]]}, max_length=8, positions=64, skip=[0])
