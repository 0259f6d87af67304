"""The rules by which texts become token ids, on values worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.scoring.plan import Query
from trialplate.scoring.requests import Encoder, RequestError, TokenPair, rolling_windows, scored_query, word_count


def split(model, context, continuation, **options):
    """Token texts of context and continuation."""
    pair = Encoder(model, **options).pairs([(context, continuation)])[0]
    decode = model.tokenizer.decode
    return [decode([i]) for i in pair.context], [decode([i]) for i in pair.continuation]


def test_whitespace_at_the_end_of_a_context_moves_to_the_continuation(neox):
    assert split(neox, "on the ", "Po") == split(neox, "on the", " Po") == (["on", " the"], [" P", "o"])


def test_every_kind_of_whitespace_moves(neox):
    assert split(neox, "on \t\n", "x") == (["on"], [" ", "\t", "\n", "x"])


def test_a_context_of_whitespace_counts_as_empty(neox):
    assert split(neox, " ", "Po") == (["<|end|>"], [" P", "o"])


def test_continuation_is_what_the_whole_has_beyond_the_contexts_length(neox):
    # "t" + "he" is one token "the": the context's own token is read, and nothing is left to score
    with pytest.raises(RequestError, match="adds no token to the context's 1"):
        split(neox, "t", "he")
    # "t" + "hex": the whole is "the", "x"; the context stays as it is encoded alone
    assert split(neox, "t", "hex") == (["t"], ["x"])


def test_empty_context_is_the_prefix_token(neox):
    assert split(neox, "", " the") == (["<|end|>"], [" the"])


def test_a_text_that_brings_its_prefix_is_not_given_a_second(neox):
    assert split(neox, "", "<|end|> the") == (["<|end|>"], [" the"])


def test_prefix_is_the_beginning_token_where_there_is_one(make_table):
    import torch

    model = make_table(torch.zeros(9, 9), prefix_id=7)
    assert Encoder(model).pairs([("", "1 2")]) == [TokenPair((7,), (1, 2))]


def test_unicode_is_scored_byte_by_byte_where_merges_lack(neox):
    context, continuation = (
        Encoder(neox).pairs([("Zürich ", "日本")])[0].context,
        Encoder(neox).pairs([("", "日本")])[0],
    )
    assert len(context) == 7  # ü is two bytes
    assert len(continuation.continuation) == 6


def test_beginning_token_is_added_once_and_only_on_request(make_table):
    import torch

    model = make_table(torch.zeros(9, 9), prefix_id=8)
    model.tokenizer = type("Bos", (type(model.tokenizer),), {"bos_id": 8})()
    assert Encoder(model).pairs([("1", " 2")]) == [TokenPair((1,), (2,))]
    with_bos = Encoder(model, add_bos=True)
    assert with_bos.pairs([("1", " 2"), ("8 1", " 2"), ("", "2")]) == [
        TokenPair((8, 1), (2,)),
        TokenPair((8, 1), (2,)),
        TokenPair((8,), (2,)),
    ]
    assert with_bos.texts(["1 2", "8 1", ""]) == [(8, 1, 2), (8, 1), ()]


@pytest.mark.parametrize("asks", [True, False])
def test_the_tokenizer_says_whether_it_wants_a_beginning_token(make_table, asks):
    import torch

    model = make_table(torch.zeros(9, 9), prefix_id=8)
    model.tokenizer = type("Bos", (type(model.tokenizer),), {"bos_id": 8, "adds_bos": asks})()
    lead = (8,) if asks else ()
    assert Encoder(model).pairs([("1", " 2")]) == [TokenPair((*lead, 1), (2,))]
    assert Encoder(model, add_bos=not asks).lead != lead


def test_add_bos_needs_a_beginning_token(neox):
    with pytest.raises(RequestError, match="wants a tokenizer with a beginning-of-sequence token"):
        Encoder(neox, add_bos=True)


def test_empty_context_needs_a_prefix_token(make_table):
    import torch

    model = make_table(torch.zeros(9, 9), prefix_id=None)
    with pytest.raises(
        RequestError, match=r"table: a text without context needs a prefix token.*Give every request a context"
    ):
        Encoder(model).pairs([("", "1")])


def test_error_for_an_empty_continuation_names_request_and_context(neox):
    with pytest.raises(RequestError, match=r"request 1: continuation '' after context 'and' adds no token"):
        Encoder(neox).pairs([("a", "b"), ("and", "")])


@pytest.mark.parametrize(
    ("n_context", "n_scored", "ids", "cut"),
    [
        (2, 2, (0, 1, 10), 0),
        (3, 2, (0, 1, 2, 10), 0),  # max_length + 1 tokens in all: the last is never read
        (4, 2, (1, 2, 3, 10), 1),
        (9, 4, (8, 10, 11, 12), 8),  # as long as the window: one context token is left
    ],
)
def test_left_truncation(n_context, n_scored, ids, cut):
    pair = TokenPair(tuple(range(n_context)), tuple(range(10, 10 + n_scored)))
    assert scored_query(pair, 4, "m") == (Query(ids, n_scored), cut)


def test_continuation_longer_than_the_window_is_an_error():
    with pytest.raises(
        RequestError, match=r"m: request 3: a continuation of 5 tokens does not fit the model's window of 4\. .*rolling"
    ):
        scored_query(TokenPair((0,), tuple(range(5))), 4, "m", 3)


def test_ids_without_context_are_an_error():
    with pytest.raises(RequestError, match="request 0 has 0 context and 2 scored tokens"):
        scored_query(TokenPair((), (1, 2)), 4, "m")


def test_rolling_windows_by_hand():
    # window 4, ten tokens: 4 after the prefix, 4 after one token, and the last 2 after the 3 that fill the window
    assert rolling_windows(range(10, 20), 0, 4) == [
        TokenPair((0,), (10, 11, 12, 13)),
        TokenPair((13,), (14, 15, 16, 17)),
        TokenPair((15, 16, 17), (18, 19)),
    ]


def test_a_text_that_fits_is_one_window():
    assert rolling_windows([5, 6], 0, 4) == [TokenPair((0,), (5, 6))]
    assert rolling_windows(range(4), 9, 4) == [TokenPair((9,), (0, 1, 2, 3))]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9))
def test_rolling_windows_score_every_token_once_and_fill_no_more_than_the_window(n, max_length):
    windows = rolling_windows(range(n), -1, max_length)
    assert [token for window in windows for token in window.continuation] == list(range(n))
    for window in windows:
        query, cut = scored_query(window, max_length, "m")
        assert cut == 0
        assert len(query.ids) <= max_length
        if window.context != (-1,):  # context and continuation are neighbours in the text
            joined = window.context + window.continuation
            assert joined == tuple(range(joined[0], joined[0] + len(joined)))


@pytest.mark.parametrize(("text", "n"), [("a b", 2), (" a  b\n", 4), ("a", 1), ("a\tb\nc", 3)])
def test_words_are_counted_as_published(text, n):
    assert word_count(text) == n
