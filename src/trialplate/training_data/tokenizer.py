"""A tokenizer by name: bytes, a file, or that of a model; with the id that closes a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asa.utils.tokenization import ByteTokenizer
from trialplate.models.errors import ModelNotFound, TokenizerError
from trialplate.models.resolve import resolve
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import TokenizerAdapter, load_tokenizer
from trialplate.training_data.settings import DataError, DataSettings

BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Text to ids. `end_id` closes a document; `adapter` is None for bytes."""

    name: str
    vocab_size: int
    end_id: int
    adapter: TokenizerAdapter | None

    @property
    def checksum(self) -> dict[str, Any]:
        """Name and digest of the tokenizer, and the end of a document."""
        return {
            "name": self.name,
            "sha256": self.adapter.digest if self.adapter else None,
            "vocab_size": self.vocab_size,
            "end_id": self.end_id,
        }

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, no special tokens."""
        if self.adapter is None:
            return [ByteTokenizer().encode(text) for text in texts]
        return self.adapter.encode_batch(texts)

    def stream(self, texts: Sequence[str]) -> Tensor:
        """All texts one after the other, each closed by `end_id`: ids [N], int64."""
        return torch.tensor([i for ids in self.encode(texts) for i in (*ids, self.end_id)], dtype=torch.int64)


def find_tokens(settings: DataSettings, *, online: bool) -> Tokens:
    """The tokenizer that the settings name. DataError if it is not there, or has nothing to close a document with."""
    if settings.tokenizer == BYTES:
        if settings.end_token:
            raise DataError(
                f"end_token {settings.end_token!r}: the byte tokenizer has an end of its own; leave it empty"
            )
        return Tokens(BYTES, ByteTokenizer.vocab_size, ByteTokenizer.end_id, None)
    try:
        adapter = load_tokenizer(_folder(settings.tokenizer, online))
    except (ModelNotFound, TokenizerError) as error:
        raise DataError(f"tokenizer {settings.tokenizer!r}: {error}") from error
    return Tokens(settings.tokenizer, adapter.vocab_size, _end_id(adapter, settings), adapter)


def _folder(name: str, online: bool) -> Path:
    """The folder that holds the tokenizer's files. A folder may have nothing else in it."""
    path = Path(name).expanduser()
    if path.name == "tokenizer.json" and path.is_file():
        return path.parent
    if (path / "tokenizer.json").is_file():
        return path
    if path.suffix == ".json":
        raise DataError(f"tokenizer: wanted a file named tokenizer.json, got {name!r}, which is {'another name' if path.is_file() else 'not there'}")  # fmt: skip
    return resolve(ModelSpec(name), online, weights=False).path


def _end_id(adapter: TokenizerAdapter, settings: DataSettings) -> int:
    if settings.end_token:
        found = adapter.vocab.get(settings.end_token)
        if found is None:
            raise DataError(f"end_token {settings.end_token!r} is not in the vocabulary of {settings.tokenizer}")
        return found
    if adapter.eos_id is None:
        raise DataError(
            f"tokenizer {settings.tokenizer!r} names no end-of-text token, so documents would run into each other; set data.end_token"
        )
    return adapter.eos_id
