"""A training document in three parts, and the one rule that keeps some of them out of training.

The loss of the embedded model weighs the three parts differently, which is why they stay apart. What is held out is decided
by a hash of a key that names the content (`add:3:4`), not by a list: generators and probes need to share only the rule.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]

HELD_OUT_SHARE = 10
"""One key in so many is held out."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: `prompt` sets the question, `answer` is what a probe asks for, `rest` closes the text."""

    domain: str
    prompt: str
    answer: str
    rest: str

    @property
    def text(self) -> str:
        return self.prompt + self.answer + self.rest


def split_of(key: str) -> Split:
    """The split that a content key belongs to; the same on every machine and Python (no use of the built-in hash)."""
    first = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    return "heldout" if first % HELD_OUT_SHARE == 0 else "train"
