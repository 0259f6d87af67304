"""Minimal pairs: two sentences that differ in one word, one of them ungrammatical. Agreement of verb and of determiner.

The shape follows BLiMP (Warstadt et al. 2020, arXiv:1912.00582): score both sentences, the good one must be more likely; a tie
counts one half.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from trialplate.tasks.document import Document, Split, split_of
from trialplate.tasks.lexicon import DETERMINERS, ENDINGS, NOUNS
from trialplate.tasks.probes import agreement


class MinimalPair(NamedTuple):
    """`uid` names the phenomenon; both sentences have the same number of words."""

    uid: str
    good: str
    bad: str


DETERMINER_TEMPLATES = ("We saw {determiner} {noun} in the park.", "They know {determiner} {noun} very well.")
_SINGULARS = tuple(DETERMINERS)
_NOUNS = tuple(NOUNS)


def determiner_document(rng: Random, split: Split) -> Document:
    """One document of the corpus: a determiner (`this`, `many`) with a noun in its number as the answer."""
    while True:
        template, determiner, noun = (
            rng.randrange(len(DETERMINER_TEMPLATES)),
            rng.choice(_SINGULARS),
            rng.choice(_NOUNS),
        )
        if _split(determiner, noun) == split:
            plural = rng.random() < 0.5
            before, after = DETERMINER_TEMPLATES[template].split(" {noun}")
            prompt = before.format(determiner=agreement.number(DETERMINERS, determiner, plural))
            return Document("grammar", prompt, f" {agreement.number(NOUNS, noun, plural)}", after)


def minimal_pairs(n_each: int, seed: int) -> list[MinimalPair]:
    """n_each different pairs of each of three phenomena, none of which the embedded model was trained on.

    uids: agreement_plain, agreement_attractor, determiner_noun. ValueError if fewer than n_each exist (about 80 plain ones do)."""
    if n_each < 1:
        raise ValueError(f"minimal_pairs: n_each = {n_each}, wanted at least 1")
    makers = (("agreement_plain", _plain), ("agreement_attractor", _attractor), ("determiner_noun", _determiner))
    return [pair for uid, draw in makers for pair in _different(uid, draw, n_each, seed)]


def _different(uid: str, draw: Callable[[Random], MinimalPair], n: int, seed: int) -> list[MinimalPair]:
    """n different pairs; a thousand draws that bring nothing new mean that there are no more."""
    rng = Random(f"minimal_pairs:{uid}:{seed}")
    found: dict[MinimalPair, None] = {}
    in_vain = 0
    while len(found) < n:
        before = len(found)
        found.setdefault(draw(rng))
        in_vain = 0 if len(found) > before else in_vain + 1
        if in_vain == 1000:
            raise ValueError(f"minimal_pairs: wanted n_each = {n} of {uid}, got {before} different ones; ask for fewer")
    return list(found)


def _plain(rng: Random) -> MinimalPair:
    return _sentences("agreement_plain", agreement.clause(rng, "heldout", attractor=False), rng)


def _attractor(rng: Random) -> MinimalPair:
    return _sentences("agreement_attractor", agreement.clause(rng, "heldout", attractor=True, opposite=True), rng)


def _sentences(uid: str, clause: agreement.Clause, rng: Random) -> MinimalPair:
    ending = rng.choice(ENDINGS[clause.verb])
    return MinimalPair(uid, f"{clause.prompt} {clause.right} {ending}.", f"{clause.prompt} {clause.wrong} {ending}.")


def _determiner(rng: Random) -> MinimalPair:
    while True:
        template, determiner, noun = rng.choice(DETERMINER_TEMPLATES), rng.choice(_SINGULARS), rng.choice(_NOUNS)
        if _split(determiner, noun) == "heldout":
            plural = rng.random() < 0.5
            form = agreement.number(DETERMINERS, determiner, plural)
            good, bad = (
                template.format(determiner=form, noun=agreement.number(NOUNS, noun, p)) for p in (plural, not plural)
            )
            return MinimalPair("determiner_noun", good, bad)


def _split(determiner: str, noun: str) -> Split:
    return split_of(f"determiner:{determiner}:{noun}")
