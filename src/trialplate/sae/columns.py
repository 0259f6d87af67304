"""Rows of one site by their numbers, in memory or in a folder of shards, whose files stay memory-mapped: only pages that are asked for are read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.activations.errors import StoreError
from trialplate.activations.shards import Store


class Columns(Protocol):
    """The rows of one site."""

    @property
    def width(self) -> int:
        """Channels."""

    def rows(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """The rows of these numbers, float32."""


@dataclass(frozen=True)
class MemoryRows:
    """Rows of one site in memory."""

    values: Float[Tensor, "n width"]

    @property
    def width(self) -> int:
        """Channels."""
        return self.values.shape[1]

    def rows(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """The rows of these numbers."""
        return self.values[index]


@dataclass(frozen=True)
class StoredRows:
    """The shards of a site.

    files      one memory-mapped array [rows, width] a shard
    begins     the number of every shard's first row, and of the first row after all
    bfloat16   whether what is stored is the bit pattern of bfloat16
    digest     sha256 (hex) of the hashes that the manifest has of the files"""

    files: tuple[np.ndarray, ...]
    begins: np.ndarray
    width: int
    bfloat16: bool
    digest: str

    @classmethod
    def of(cls, store: Store, site: str) -> StoredRows:
        """The rows of a site. StoreError for one that is not there, or a file of another shape than the manifest says."""
        if site not in store.manifest["sites"]:
            raise StoreError(f"{store.folder}: no rows of {site!r}; it has {', '.join(store.sites)}")
        entry = store.manifest["sites"][site]
        files = tuple(np.load(store.folder / s["file"], mmap_mode="r", allow_pickle=False) for s in entry["shards"])
        for found, shard in zip(files, entry["shards"], strict=True):
            if found.shape != (shard["rows"], entry["width"]):
                raise StoreError(
                    f"{store.folder / shard['file']}: wanted [{shard['rows']}, {entry['width']}], got {list(found.shape)}"
                )
        begins = np.cumsum([0, *(shard["rows"] for shard in entry["shards"])])
        digest = hashlib.sha256("".join(shard["sha256"] for shard in entry["shards"]).encode()).hexdigest()
        return cls(files, begins, int(entry["width"]), store.manifest["dtype"] == "bfloat16", digest)

    def rows(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """The rows of these numbers, float32."""
        numbers = index.numpy()
        shard = np.searchsorted(self.begins, numbers, side="right") - 1
        stored = np.empty((len(numbers), self.width), self.files[0].dtype)
        for one in np.unique(shard):
            here = np.flatnonzero(shard == one)
            here = here[np.argsort(numbers[here])]  # ascending, so that the disk is read in one direction
            stored[here] = self.files[one][numbers[here] - self.begins[one]]
        values = torch.from_numpy(stored)
        return values.view(torch.bfloat16).float() if self.bfloat16 else values
