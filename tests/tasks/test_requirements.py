"""Requirements: reasons in words for tokenizers that cannot serve a probe, silence for those that can."""

import re

import pytest

from trialplate.tasks.requirements import REQUIREMENTS, single_token_words, splits_as_pairs, unmet


class WordEncoder:
    """One id a word, with its space; numbers whole (`pairs=False`) or in pairs of digits aligned to the right."""

    def __init__(self, *, pairs: bool) -> None:
        digits = r" ?[0-9]{1,2}(?=(?:[0-9]{2})*(?![0-9]))" if pairs else " ?[0-9]+"
        self.pieces = re.compile(rf"{digits}| ?[A-Za-z]+|.", re.DOTALL)
        self.ids: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        return [self.ids.setdefault(piece, len(self.ids)) for piece in self.pieces.findall(text)]


def characters(text: str) -> list[int]:
    return [ord(character) for character in text]


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_a_word_tokenizer_meets_every_need(name):
    assert REQUIREMENTS[name](WordEncoder(pairs=True)) is None


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_a_character_tokenizer_meets_none(name):
    reason = REQUIREMENTS[name](characters)
    assert reason is not None
    assert reason.startswith("needs ")


def test_reasons_name_the_pieces():
    assert REQUIREMENTS["two_digit_years"](characters) == (
        "needs two-digit year tokens: '00'/'01' and 98 more are not single tokens"
    )
    assert REQUIREMENTS["single_token_names"](characters) == (
        "needs at least 20 single-token names: 0 of 111 are single tokens"
    )
    assert REQUIREMENTS["single_token_verbs"](characters) == (
        "needs single-token verbs: ' is'/' are' and 2 more are not single tokens"
    )


def test_whole_year_tokens_do_not_serve_greater_than():
    encode = WordEncoder(pairs=False)
    assert not splits_as_pairs(encode, 17, 32)
    assert REQUIREMENTS["two_digit_years"](encode) == (
        "needs two-digit year tokens: no year such as ' 1732' is cut into ' 17' and '32'"
    )


def test_unmet_collects_reasons_in_order():
    assert unmet(WordEncoder(pairs=True), ["two_digit_years", "single_token_names"]) == []
    reasons = unmet(characters, ["single_token_names", "two_digit_numbers"])
    assert [reason.split(":")[0] for reason in reasons] == [
        "needs at least 20 single-token names",
        "needs two-digit number tokens",
    ]
    with pytest.raises(KeyError, match="unknown requirement 'nope'; known: single_token_capitals"):
        unmet(characters, ["nope"])


def test_single_token_words_keeps_order():
    assert single_token_words(lambda text: [0] * (len(text) - 1), ["b", "ab", "a"]) == ["b", "a"]
