"""Pairs of stories about one subject, framed the opposite way: what a latent of framing should tell apart, everything else being equal.

A story is a few short sentences of the corpus about one kind of person, animal or thing: `story1` is bright (young, in the park, with a new plan), `story2`
gloomy (tired, late, in the rain), and both share a neutral sentence. Subjects and sentences are words of the corpus, so that a model that was trained
on it is at home in both. Local JSON Lines with the fields of CE-Bench's set, {"subject", "story1", "story2"}, are read by `read_pairs`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from trialplate.tasks.formats import FormatError
from trialplate.tasks.jsonl import Record, read_records
from trialplate.tasks.lexicon import DETERMINERS, NOUNS, VERBS
from trialplate.tasks.probes.agreement import ATTRACTOR_LINKS, number
from trialplate.tasks.probes.minimal_pairs import DETERMINER_TEMPLATES

FRAMED = 4
"""Framed sentences in a story; a neutral one comes with them."""

_Ending = tuple[str, str]
_BRIGHT: tuple[_Ending, ...] = (
    ("is", "very young"),
    ("is", "here now"),
    ("was", "at home"),
    ("has", "a new plan"),
    ("has", "two bags"),
    ("sleeps", "in the sun"),
    ("runs", "in the park"),
    ("runs", "very fast"),
    ("sings", "every morning"),
    ("sings", "very well"),
)
_GLOOMY: tuple[_Ending, ...] = (
    ("is", "very old"),
    ("is", "not happy"),
    ("was", "late again"),
    ("was", "very tired"),
    ("was", "not there"),
    ("has", "no time"),
    ("has", "a long road"),
    ("sleeps", "all day"),
    ("waits", "at the door"),
    ("waits", "in the rain"),
)


@dataclass(frozen=True, slots=True)
class ContrastivePair:
    """Two stories about a subject. id: twelve hexadecimal digits of a hash of all three; parts: the sentences of each story.

    Who encodes a story puts the end-of-text token between its sentences, as between documents in training; a story of a file is one part."""

    id: str
    subject: str
    first: tuple[str, ...]
    second: tuple[str, ...]

    @property
    def story1(self) -> str:
        """The first story as one text."""
        return " ".join(self.first)

    @property
    def story2(self) -> str:
        """The second story as one text."""
        return " ".join(self.second)


def contrastive_pairs(n: int = 112, seed: int = 0) -> list[ContrastivePair]:
    """n pairs, the same for the same seed on every machine. Subjects come in turn, so that 56 pairs have 56 subjects, and 112 each of them twice.

    Bright stories come first. ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"contrastive_pairs: n = {n}, wanted at least 1")
    subjects = list(NOUNS)
    Random(f"contrastive:subjects:{seed}").shuffle(subjects)
    found: dict[str, ContrastivePair] = {}
    turn = 0
    while len(found) < n:
        subject = subjects[len(found) % len(subjects)]
        drawn = _pair(subject, Random(f"contrastive:{seed}:{turn}"))
        found.setdefault(drawn.id, drawn)
        turn += 1
    return list(found.values())


def read_pairs(path: Path | str) -> list[ContrastivePair]:
    """The pairs of a JSON Lines file with `subject`, `story1` and `story2`, in order; other fields are ignored, a repeated pair counts once.

    FormatError, with line and key, for a row without them, for two stories that are the same, and for a file without rows."""
    found: dict[str, ContrastivePair] = {}
    for record in read_records(path, FormatError):
        pair = _read(record)
        found.setdefault(pair.id, pair)
    if not found:
        raise FormatError(path, 0, "", "no pair in it; there is nothing to contrast")
    return list(found.values())


def pairs_digest(pairs: Iterable[ContrastivePair]) -> str:
    """SHA-256 (hexadecimal) of the pairs in their order: two scores that share it rest on the same stories."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(_canonical(pair.subject, pair.first, pair.second) + b"\n")
    return digest.hexdigest()


def _pair(subject: str, rng: Random) -> ContrastivePair:
    plural = rng.random() < 0.5
    neutral = _neutral(subject, plural, rng)
    stories = []
    for endings in (_BRIGHT, _GLOOMY):
        sentences = [_sentence(subject, plural, ending, rng) for ending in rng.sample(endings, FRAMED)]
        stories.append((neutral, *sentences))
    return _made(subject, *stories)


def _sentence(subject: str, plural: bool, ending: _Ending, rng: Random) -> str:
    """In the form of the corpus: "The nurses near the door run very fast."; what is near differs and has no framing."""
    verb, end = ending
    noun = number(NOUNS, subject, plural)
    if rng.random() < 0.5:
        other = rng.choice([name for name in NOUNS if name != subject])
        noun = f"{noun} {rng.choice(ATTRACTOR_LINKS)} the {number(NOUNS, other, rng.random() < 0.5)}"
    return f"The {noun} {number(VERBS, verb, plural)} {end}."


def _neutral(subject: str, plural: bool, rng: Random) -> str:
    determiner = number(DETERMINERS, rng.choice(tuple(DETERMINERS)), plural)
    return rng.choice(DETERMINER_TEMPLATES).format(determiner=determiner, noun=number(NOUNS, subject, plural))


def _read(record: Record) -> ContrastivePair:
    subject, first, second = (record.text(key) for key in ("subject", "story1", "story2"))
    for key, story in (("story1", first), ("story2", second)):
        if not story.strip():
            record.fail(key, "wanted a story, got white space only: there are no activations without tokens")
    if first == second:
        record.fail("story2", "wanted another story than story1, got the same")
    return _made(subject, (first,), (second,))


def _made(subject: str, first: tuple[str, ...], second: tuple[str, ...]) -> ContrastivePair:
    key = hashlib.sha256(_canonical(subject, first, second)).hexdigest()[:12]
    return ContrastivePair(key, subject, first, second)


def _canonical(subject: str, first: tuple[str, ...], second: tuple[str, ...]) -> bytes:
    return json.dumps([subject, first, second], ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogatepass"
    )
