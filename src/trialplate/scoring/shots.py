"""Few-shot prompts: k solved examples before each question, drawn with a seed of their own, per item, never the item itself."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Protocol

SEPARATOR = "\n\n"


class Question(Protocol):
    """What a few-shot prompt needs of an item; `tasks.items.Item` has it. `answer` brings its own leading space."""

    @property
    def id(self) -> str:
        """Stable across runs."""

    @property
    def prompt(self) -> str:
        """What the model reads."""

    @property
    def answer(self) -> str:
        """The right continuation."""


def few_shot(items: Sequence[Question], shots: Sequence[Question], k: int, seed: int) -> list[str]:
    """One prompt an item: k examples (prompt and answer), then the item's prompt, separated by an empty line.

    The draw depends on the seed and the item's id only, not on other items, on a limit, or on the order of `shots`. An example with the id or the
    prompt of the item is left out. Raises ValueError where fewer than k examples remain."""
    if k < 0:
        raise ValueError(f"few_shot wants k >= 0 examples, got {k}")
    pool = list({shot.id: shot for shot in sorted(shots, key=lambda shot: shot.id)}.values())
    return [_prompt(item, pool, k, seed) for item in items]


def _prompt(item: Question, pool: list[Question], k: int, seed: int) -> str:
    others = [shot for shot in pool if shot.id != item.id and shot.prompt != item.prompt]
    if len(others) < k:
        raise ValueError(
            f"few_shot: item {item.id!r} wants {k} examples, {len(others)} of {len(pool)} are not the item itself. Give more examples or a smaller k."
        )
    own_seed = hashlib.sha256(f"{seed}\0{item.id}".encode()).digest()
    drawn = random.Random(own_seed).sample(others, k)
    return SEPARATOR.join([*(shot.prompt + shot.answer for shot in drawn), item.prompt])
