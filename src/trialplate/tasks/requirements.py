"""What a probe needs from a tokenizer: a name of the need -> the reason why a tokenizer cannot serve it, or None.

A probe whose need is not met is not collected for that model, and the reason goes into the report. Only `encode` is
looked at, so that no model has to be loaded to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from trialplate.tasks import lexicon
from trialplate.tasks.items import Encode

MIN_NAMES = 20
MIN_WORDS = 100
MIN_NOUNS = 10
MIN_CAPITALS = 20
CENTURIES = tuple(range(11, 20))


def is_single_token(encode: Encode, text: str) -> bool:
    """Whether `text`, leading space included, is exactly one token."""
    return len(encode(text)) == 1


def single_token_words(encode: Encode, words: Iterable[str]) -> list[str]:
    """The words that are one token behind a space (`` word``), in their order."""
    return [word for word in words if is_single_token(encode, f" {word}")]


def splits_as_pairs(encode: Encode, century: int, year: int) -> bool:
    """Whether " XXYY" is the two tokens " XX" and "YY" in the tokenizer's own cut, the form that greater-than needs."""
    prefix, ending = encode(f" {century}"), encode(f"{year:02d}")
    return len(prefix) == 1 and len(ending) == 1 and encode(f" {century}{year:02d}") == prefix + ending


def two_digit_years(encode: Encode) -> str | None:
    """Needs every year ending 00..99 as one token, and centuries that are cut off in front of it."""
    split = [f"{year:02d}" for year in range(100) if not is_single_token(encode, f"{year:02d}")]
    if split:
        return f"needs two-digit year tokens: {_some(split)} are not single tokens"
    if not any(splits_as_pairs(encode, century, year) for century in CENTURIES for year in range(10, 90)):
        return "needs two-digit year tokens: no year such as ' 1732' is cut into ' 17' and '32'"
    return None


def two_digit_numbers(encode: Encode) -> str | None:
    """Needs the answers 0..99 as one token behind a space."""
    split = [f" {number}" for number in range(100) if not is_single_token(encode, f" {number}")]
    return f"needs two-digit number tokens: {_some(split)} are not single tokens" if split else None


def single_token_verbs(encode: Encode) -> str | None:
    """Needs the forms of be, which every agreement probe uses, as one token behind a space."""
    split = [f" {form}" for form in ("is", "are", "was", "were") if not is_single_token(encode, f" {form}")]
    return f"needs single-token verbs: {_some(split)} are not single tokens" if split else None


def _enough(what: str, words: Iterable[str], least: int) -> Callable[[Encode], str | None]:
    words = tuple(words)

    def reason(encode: Encode) -> str | None:
        n = len(single_token_words(encode, words))
        if n >= least:
            return None
        return f"needs at least {least} single-token {what}: {n} of {len(words)} are single tokens"

    return reason


def _some(texts: list[str]) -> str:
    shown = "/".join(repr(text) for text in texts[:2])
    return shown if len(texts) <= 2 else f"{shown} and {len(texts) - 2} more"


REQUIREMENTS: Mapping[str, Callable[[Encode], str | None]] = {
    "single_token_names": _enough("names", lexicon.NAMES, MIN_NAMES),
    "single_token_words": _enough("words", lexicon.words(), MIN_WORDS),
    "single_token_nouns": _enough("duration nouns", lexicon.DURATION_NOUNS, MIN_NOUNS),
    "single_token_capitals": _enough("capitals", lexicon.CAPITALS, MIN_CAPITALS),
    "single_token_verbs": single_token_verbs,
    "two_digit_years": two_digit_years,
    "two_digit_numbers": two_digit_numbers,
}


def unmet(encode: Encode, names: Iterable[str]) -> list[str]:
    """The reasons why this tokenizer cannot serve a probe with the needs `names`; empty when it can. KeyError for an unknown need."""
    reasons = []
    for name in names:
        if name not in REQUIREMENTS:
            raise KeyError(f"unknown requirement {name!r}; known: {', '.join(sorted(REQUIREMENTS))}")
        if (reason := REQUIREMENTS[name](encode)) is not None:
            reasons.append(reason)
    return reasons
