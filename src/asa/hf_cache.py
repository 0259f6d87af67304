"""What an ASM carries from step to step, in the form of a cache of the transformers library. Its size does not grow with the text."""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache

from asa.state import ASMState


class ASMCache(Cache):
    """Holds an `ASMState`, and how many columns were read, padding included (`get_seq_length`). A forward call puts its result in place of
    what was there; `copy.deepcopy` keeps a point to come back to. Tokens cannot be taken back: there is no cropping."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.state: ASMState | None = None
        self.n_columns = 0

    def advance(self, state: ASMState, n_columns: int) -> None:
        """Take the state after `n_columns` more columns."""
        self.state, self.n_columns = state, self.n_columns + n_columns

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns read so far."""
        return self.n_columns

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Row i becomes a copy of row beam_idx[i]."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        if self.state is not None:
            self.state = self.state.select(indices.to(self.state.position.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times, copies beside each other."""
        if self.state is not None:
            rows = torch.arange(self.batch_size, device=self.state.position.device)
            self.batch_select_indices(rows.repeat_interleave(repeats))

    def reset(self) -> None:
        """Nothing read yet."""
        self.state, self.n_columns = None, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ValueError: sums of the past cannot be taken apart again."""
        if tokens_to_remove:
            raise ValueError(
                f"an ASMCache cannot forget its last {tokens_to_remove} tokens: keep a copy from before them (copy.deepcopy)"
            )

    @property
    def batch_size(self) -> int:
        """Rows, -1 before the first call."""
        return -1 if self.state is None else len(self.state.position)

    @property
    def is_compileable(self) -> bool:
        """Never: a state is replaced, not written in place."""
        return False

    @property
    def is_croppable(self) -> bool:
        """Never."""
        return False

    @property
    def is_initialized(self) -> bool:
        """Whether anything was read."""
        return self.state is not None

    def __repr__(self) -> str:
        return f"ASMCache(rows={max(self.batch_size, 0)}, columns={self.n_columns})"
