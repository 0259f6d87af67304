"""Code and dialogue of the corpus: text in which little is asked, so that the embedded model sees more than questions.

Both copy something from earlier in the text (an argument name, a speaker), which is what their `answer` is.
"""

from __future__ import annotations

from random import Random

from trialplate.tasks.document import Document, Split, split_of
from trialplate.tasks.lexicon import ADJECTIVES, HELPERS, NAMES, OBJECTS, PLACES

CODE_SHAPES = (
    ("def get_{a}({a}, {b}):\n    {b} = {b} + {n}\n    return", " {a}", "\n"),
    ("def add_{a}({b}, {a}):\n    return {b} +", " {a}", "\n"),
    ("for {a} in {b}:\n    print(", "{a}", ")\n"),
    ("if {a} > {n}:\n    {a} = {n}\nelse:\n    {b} =", " {a}", "\n"),
)
DIALOGUE_SHAPES = (
    ('"Where is the {adjective} {thing}?" said {a} to {b}. "It is in the {place}," said', " {b}", "."),
    ('"Thank you for the {thing}," said {a}. "You are welcome," said {b}. "Good night, {b}," said', " {a}", "."),
    ('"I lost my {adjective} {thing}," said {a}. "I found a {adjective}', " {thing}", ' in the {place}," said {b}.'),
)


def code(rng: Random, split: Split) -> Document:
    """One small piece of Python that uses a name it has introduced."""
    while True:
        shape = rng.randrange(len(CODE_SHAPES))
        a, b = rng.sample(HELPERS, 2)
        n = rng.randint(0, 99)
        document = Document("code", *(part.format(a=a, b=b, n=n) for part in CODE_SHAPES[shape]))
        if split_of(document.text) == split:
            return document


def dialogue(rng: Random, split: Split) -> Document:
    """Two people talk about a thing."""
    while True:
        shape = rng.randrange(len(DIALOGUE_SHAPES))
        a, b = rng.sample(NAMES, 2)
        words = {
            "a": a,
            "b": b,
            "thing": rng.choice(OBJECTS),
            "place": rng.choice(PLACES),
            "adjective": rng.choice(ADJECTIVES),
        }
        document = Document("dialogue", *(part.format(**words) for part in DIALOGUE_SHAPES[shape]))
        if split_of(document.text) == split:
            return document
