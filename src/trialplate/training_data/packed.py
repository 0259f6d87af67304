"""Rows of whole corpus documents with weighted targets, as the embedded GPT-NeoX reads them, in the form that the core's trainer wants.

The packer draws as it goes. Its place in the stream is the number of batches that were taken: to go back there, a new packer of the same
settings is asked for as many, which costs seconds and cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asa.train import Batch
from trialplate.models.embedded_training.batches import Packer
from trialplate.models.tokenizers import TokenizerAdapter
from trialplate.tasks.document import Document


class PackedCorpus:
    """An endless source of batches of `batch_size` rows of `seq_len + 1` ids; an epoch is one pass over the tokens of the documents."""

    def __init__(
        self,
        tokenizer: TokenizerAdapter,
        documents: Sequence[Document],
        *,
        seq_len: int,
        batch_size: int,
        seed: int,
        induction_share: float,
        n_tokens: int,
    ) -> None:
        self._new = lambda: Packer(
            tokenizer.backend, documents, rows=batch_size, row_length=seq_len, seed=seed
        ).batches(induction_share)
        self._batches, self._taken = self._new(), 0
        self._about = {"packing": "weighted", "tokens": n_tokens, "induction_share": induction_share, "seed": seed}
        self.rows_per_epoch = max(1, round(n_tokens / (1 - induction_share) / seq_len))

    def next_batch(self) -> Batch:
        """The next rows."""
        self._taken += 1
        return Batch(*next(self._batches))

    def state_dict(self) -> dict[str, Any]:
        """How many batches were taken."""
        return {"batches": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Draw as many batches as the state says from the beginning."""
        self._batches, self._taken = self._new(), 0
        while self._taken < state["batches"]:
            self.next_batch()

    def checksums(self) -> dict[str, Any]:
        """How the documents are packed; their digest stands beside it."""
        return dict(self._about)
