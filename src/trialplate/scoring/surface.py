"""What scoring asks of a model: the few methods that any architecture can offer. `models.causal_lm.CausalLM` has them.

Symbols: b = batch, s = sequence length, d = width of the hidden state, v = rows of the output head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class ScorableTokenizer(Protocol):
    """Text to ids and back; no special tokens are added."""

    @property
    def eos_id(self) -> int | None:
        """End of sequence, or None."""

    @property
    def digest(self) -> str:
        """Names the content of the tokenizer."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


class ScorableModel(Protocol):
    """A causal language model in evaluation mode: what it says at a position depends on the tokens up to there only."""

    device: torch.device
    dtype: torch.dtype
    max_length: int
    vocab_rows: int
    module: Any

    @property
    def label(self) -> str:
        """The name people read."""

    @property
    def tokenizer(self) -> ScorableTokenizer:
        """Its tokenizer."""

    @property
    def prefix_id(self) -> int | None:
        """The token that stands before a text without context."""

    @property
    def splits_head(self) -> bool:
        """Whether `head(hidden(ids))` are the logits."""

    @property
    def weights_digest(self) -> str:
        """Names the weights as stored."""

    @property
    def config_digest(self) -> str:
        """Names what is computed with them."""

    def hidden(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Final hidden state [b, s, d], without the head."""

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., v] of hidden states [..., d]."""

    def logits(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits [b, s, v]."""

    def start(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Any]:
        """Logits [b, v] after the last real token of each prompt, and the state of cached decoding."""

    def step(self, state: Any, ids: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Logits [b, v] after one more token a row [b, 1], and the new state."""
