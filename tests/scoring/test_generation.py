"""Greedy generation against the slow twin, and where it stops."""

import pytest
import torch

from trialplate.scoring import RequestError, Scorer

PROMPTS = ["on the hill", "", "a", "and then the end of this", "longer than the window of twenty-four tokens"]


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "llama"])
@pytest.mark.parametrize("token_budget", [1, 4096])
def test_generation_equals_the_slow_form(build, slow, family, token_budget):
    model = build(family)
    texts = Scorer(model, token_budget=token_budget).generate(PROMPTS, max_new_tokens=8)
    assert texts == [slow.slow_generate(model, prompt, 8) for prompt in PROMPTS]
    assert len(set(texts)) > 2


def test_stop_strings_equal_the_slow_form(neox, slow):
    free = Scorer(neox).generate(PROMPTS, max_new_tokens=8)
    stops = [free[0][3:5], free[3][-2:]]
    texts = Scorer(neox).generate(PROMPTS, max_new_tokens=8, stop=stops)
    assert texts == [slow.slow_generate(neox, prompt, 8, stops) for prompt in PROMPTS]
    assert [len(text) < len(whole) for text, whole in zip(texts, free, strict=True)].count(True) >= 2


@pytest.fixture
def spelling(make_table, tokenizer):
    """A table model over the byte-level tokenizer that spells ` Paris and the end` token by token, then ends; and the tokens it spells."""
    ids = tokenizer.encode(" Paris and the end")
    table = torch.zeros(270, 270)
    for before, after in zip([1, *ids], [*ids, 0], strict=True):
        table[before, after] = 5.0
    return make_table(table, tokenizer=tokenizer), [tokenizer.decode([i]) for i in ids]


def generate(model, **options):
    return Scorer(model).generate([model.tokenizer.decode([1])], **{"max_new_tokens": 20, **options})[0]


def test_the_end_token_stops_and_is_left_out(spelling):
    assert generate(spelling[0]) == " Paris and the end"


def test_no_more_than_max_new_tokens(spelling):
    model, tokens = spelling
    assert generate(model, max_new_tokens=1) == tokens[0]
    assert generate(model, max_new_tokens=3) == "".join(tokens[:3])


def test_a_stop_string_may_cross_token_borders(spelling):
    model, tokens = spelling
    assert "s and" not in tokens  # it begins inside one token and ends inside another
    assert not any(token.endswith("s") and token == "s" for token in tokens)
    assert generate(model, stop=["s and"]) == " Pari"


def test_text_is_cut_before_the_first_of_several_stop_strings(spelling):
    assert generate(spelling[0], stop=["the", "and", "zzz"]) == " Paris "


def test_a_stop_string_at_the_start_leaves_nothing(spelling):
    assert generate(spelling[0], stop=[" "]) == ""


def test_a_row_that_is_done_does_not_stop_the_others(spelling):
    model = spelling[0]
    first, second = Scorer(model).generate([model.tokenizer.decode([1]), " the"], max_new_tokens=20, stop=["Paris"])
    assert (first, second) == (" ", " end")


def test_characters_of_several_bytes_come_out_whole(make_table, tokenizer):
    ids = tokenizer.encode("日é")
    table = torch.zeros(270, 270)
    for before, after in zip([1, *ids], [*ids, 0], strict=True):
        table[before, after] = 5.0
    model = make_table(table, tokenizer=tokenizer)
    assert generate(model) == "日é"
    assert generate(model, stop=["é"]) == "日"


@pytest.mark.parametrize("n", [0, 24])
def test_bounds_without_room_are_an_error(neox, n):
    with pytest.raises(
        RequestError,
        match=rf"max_new_tokens={n} in a window of 24 tokens; wanted at least 1, and at least one token of room",
    ):
        Scorer(neox).generate(["a"], max_new_tokens=n)


def test_an_empty_stop_string_is_an_error(neox):
    with pytest.raises(RequestError, match="a stop string is empty"):
        Scorer(neox).generate(["a"], max_new_tokens=2, stop=["x", ""])


def test_progress_counts_prompts(neox):
    seen = []
    Scorer(neox, token_budget=1, progress=lambda done, total: seen.append((done, total))).generate(
        PROMPTS, max_new_tokens=2
    )
    assert seen == [(k, 5) for k in range(1, 6)]
