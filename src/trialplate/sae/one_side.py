"""One side of paired rows as a source of its own: what an autoencoder of that side is trained on, token by token what a transcoder saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor

from trialplate.sae.source import Pair, Source

Side = Literal["input", "target"]


@dataclass(frozen=True)
class OneSide:
    """The inputs or the targets of a source, in its order."""

    whole: Source
    side: Side

    @property
    def d_in(self) -> int:
        """Channels of the side."""
        return self.whole.d_in if self.side == "input" else self.whole.d_out

    @property
    def d_out(self) -> int:
        """The same."""
        return self.d_in

    @property
    def n_rows(self) -> int:
        """Rows there are."""
        return self.whole.n_rows

    @property
    def is_paired(self) -> bool:
        """Never."""
        return False

    @cached_property
    def digest(self) -> str:
        """The whole's digest, and which side of it."""
        return hashlib.sha256(f"{self.whole.digest} {self.side}".encode()).hexdigest()

    @property
    def about(self) -> Mapping[str, Any]:
        """What the whole says of itself, and which side this is."""
        return {**self.whole.about, "side": self.side}

    @property
    def documents(self) -> Int[Tensor, " n_rows"] | None:
        """The document of every row, where it is known."""
        return self.whole.documents

    def rows(self, index: Int[Tensor, " n"]) -> Pair:
        """The rows of these numbers, as their own targets."""
        found = self.whole.rows(index)[0 if self.side == "input" else 1]
        return found, found
