"""Subject-verb agreement in number, plain ("The keys") or across a noun of another number ("The keys near the door").

After Linzen et al. 2016 (arXiv:1611.01368). The verb is compared with its own other form only, so that the choice of the verb
does not matter.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from trialplate.tasks.document import Document, Split, split_of
from trialplate.tasks.items import Encode, Item, MetaValue, make_item, take
from trialplate.tasks.lexicon import ATTRACTOR_LINKS, ENDINGS, NOUNS, VERBS
from trialplate.tasks.requirements import single_token_words


class Clause(NamedTuple):
    """A subject, a verb and perhaps an attractor; words are kept in the singular, number apart."""

    noun: str
    plural: bool
    verb: str
    attractor: str = ""
    attractor_plural: bool = False
    link: str = ""

    @property
    def split(self) -> Split:
        """By subject and attractor, or, without one, by subject and verb: each word is trained, the combination is not."""
        return split_of(f"agreement:{self.noun}:{self.attractor or self.verb}")

    @property
    def prompt(self) -> str:
        subject = f"The {number(NOUNS, self.noun, self.plural)}"
        if not self.attractor:
            return subject
        return f"{subject} {self.link} the {number(NOUNS, self.attractor, self.attractor_plural)}"

    @property
    def right(self) -> str:
        return number(VERBS, self.verb, self.plural)

    @property
    def wrong(self) -> str:
        return number(VERBS, self.verb, not self.plural)


def number(forms: dict[str, str], singular: str, plural: bool) -> str:
    """The form of a word in the number asked for."""
    return forms[singular] if plural else singular


def clause(
    rng: Random, split: Split, *, attractor: bool, opposite: bool = False, verbs: tuple[str, ...] = tuple(VERBS)
) -> Clause:
    """One clause of a split; with `opposite` the attractor always has the other number."""
    nouns = tuple(NOUNS)
    while True:
        noun, other = rng.sample(nouns, 2)
        plural = rng.random() < 0.5
        drawn = Clause(noun, plural, rng.choice(verbs))
        if attractor:
            other_plural = not plural if opposite else rng.random() < 0.5
            drawn = drawn._replace(attractor=other, attractor_plural=other_plural, link=rng.choice(ATTRACTOR_LINKS))
        if drawn.split == split:
            return drawn


def document(rng: Random, split: Split) -> Document:
    """One document of the corpus, with an attractor in six of ten."""
    drawn = clause(rng, split, attractor=rng.random() < 0.6)
    return Document("agreement", drawn.prompt, f" {drawn.right}", f" {rng.choice(ENDINGS[drawn.verb])}.")


def agreement_items(encode: Encode, n: int | None, seed: int, *, attractor: bool) -> list[Item]:
    """n clauses that the embedded model was not trained on (n=None: 200, or every one of the plain clauses if fewer).

    answer: the verb in the subject's number; foils: the same verb in the other. Half of the subjects are plural on average; an
    attractor always has the other number. Only verbs whose two forms are single tokens here; ValueError if there is none."""
    verbs = tuple(verb for verb in VERBS if len(single_token_words(encode, (verb, VERBS[verb]))) == 2)
    if not verbs:
        raise ValueError("agreement: wanted verbs whose two forms are single tokens, got none in this tokenizer")
    kind = "attractor" if attractor else "plain"
    rng = Random(f"agreement:{kind}:{seed}")
    if attractor:
        wanted = 200 if n is None else n
        clauses = list(
            dict.fromkeys(clause(rng, "heldout", attractor=True, opposite=True, verbs=verbs) for _ in range(2 * wanted))
        )
    else:
        every = [Clause(noun, plural, verb) for noun in NOUNS for plural in (False, True) for verb in verbs]
        clauses = [drawn for drawn in every if drawn.split == "heldout"]
        rng.shuffle(clauses)
        wanted = min(200, len(clauses)) if n is None else n
    return take([_item(kind, drawn) for drawn in clauses], wanted, f"agreement {kind}")


def _item(kind: str, drawn: Clause) -> Item:
    facts: dict[str, MetaValue] = {
        "kind": kind,
        "noun": drawn.noun,
        "plural": drawn.plural,
        "verb": drawn.verb,
        "attractor": drawn.attractor,
    }
    return make_item(
        "agreement", drawn.prompt, f" {drawn.right}", (f" {drawn.wrong}",), group=f"{kind}/{drawn.verb}", **facts
    )
