"""A tokenizer without files: the bytes of UTF-8, and one id that ends a text. Any text can be trained on with it, and none is changed by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class TextTokenizer(Protocol):
    """What a trainer asks of a tokenizer."""

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of a text, no special tokens added."""


class ByteTokenizer:
    """Ids 0 to 255 are bytes, 256 ends a text; `vocab_size` is 257."""

    vocab_size = 257
    end_id = 256

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of a text."""
        return list(text.encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; the end is left out, and bytes that are no UTF-8 (a character cut in two) become U+FFFD.

        ValueError for an id outside 0..256."""
        if wrong := [i for i in ids if not 0 <= i < self.vocab_size]:
            raise ValueError(f"id {wrong[0]} is no byte: wanted 0 to 255, or {self.end_id} for the end of a text")
        return bytes(i for i in ids if i != self.end_id).decode("utf-8", errors="replace")


def token_stream(texts: Iterable[str], tokenizer: TextTokenizer, end_id: int) -> Tensor:
    """All texts one after the other, each closed by `end_id`: ids [N], int64."""
    ids: list[int] = []
    for text in texts:
        ids += tokenizer.encode(text)
        ids.append(end_id)
    return torch.tensor(ids, dtype=torch.int64)
