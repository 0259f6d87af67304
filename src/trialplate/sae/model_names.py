"""Whether two names are of one model: files of coders name it with or without its owner, in any case, and as TransformerLens calls it."""

from __future__ import annotations

from pathlib import PurePath

_OF_TRANSFORMER_LENS = {"gpt2-small": "gpt2", "mistral-7b": "mistral-7b-v0.1"}
"""Names that are not the last part of a hub id in small letters; coders of SAELens carry them."""


def same_model(one: str, other: str) -> bool:
    """Whether the last parts of two names are the same: `EleutherAI/pythia-70m` is `pythia-70m`, and a folder of that name. Nothing is looked up."""
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    last = PurePath(name.removeprefix("embedded:")).name.lower()
    return _OF_TRANSFORMER_LENS.get(last, last)
