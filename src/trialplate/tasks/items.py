"""An item is one question put to a model: a prompt, the continuation that is right, and those that are not.

Everything that scores (probes, manifests, file formats) speaks in items, so that a digest of them says exactly what was asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

Encode = Callable[[str], list[int]]
"""Text to token ids, without special tokens."""

MetaValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Item:
    """One scored question.

    id       stable across runs and machines: ``task/`` and twelve hexadecimal digits of a hash of the content
    prompt   what the model reads
    answer   the right continuation, with its leading space where it has one (`` Paris``)
    foils    wrong continuations of the same type
    group    template or cluster, for clustered standard errors and for breakdowns
    meta     plain facts about the item (never tensors), for breakdowns
    """

    id: str
    prompt: str
    answer: str
    foils: tuple[str, ...] = ()
    group: str = ""
    meta: Mapping[str, MetaValue] = field(default_factory=dict, hash=False)


def make_item(
    task: str, prompt: str, answer: str, foils: Iterable[str] = (), group: str = "", **meta: MetaValue
) -> Item:
    """An item whose id follows from task, prompt, answer and foils; `meta` and `group` describe and do not identify."""
    foils = tuple(foils)
    content = _canonical([prompt, answer, list(foils)])
    return Item(f"{task}/{hashlib.sha256(content).hexdigest()[:12]}", prompt, answer, foils, group, dict(meta))


def items_digest(items: Iterable[Item]) -> str:
    """SHA-256 (hexadecimal) of the items in their order, over canonical JSON: two runs that share it asked the same questions."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(_canonical(asdict(item)) + b"\n")
    return digest.hexdigest()


def take(items: list[Item], n: int | None, what: str) -> list[Item]:
    """The first n items, or all of them for n = None. ValueError when there are fewer than n, or none: fewer is never silent."""
    if n is not None and n < 1:
        raise ValueError(f"{what}: asked for n = {n} items, n must be at least 1 (or None for all)")
    if not items or (n is not None and len(items) < n):
        raise ValueError(
            f"{what}: asked for {n or 'all'} items, only {len(items)} exist; ask for fewer, or pass n=None for all"
        )
    return items if n is None else items[:n]


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
