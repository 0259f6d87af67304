"""What scoring returns: plain frozen values. Log-probabilities are natural logarithms (nats), summed in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """One continuation after its context. `logprob` <= 0 is the sum over `n_tokens` >= 1 tokens; `is_greedy` says that each of them is the most likely one;
    `n_truncated` is the number of context tokens that did not fit the window and were left out at the left."""

    logprob: float
    is_greedy: bool
    n_tokens: int
    n_truncated: int = 0


@dataclass(frozen=True, slots=True)
class RollingScore:
    """A whole text, every token scored once. `n_words` counts as lm-evaluation-harness does: runs of whitespace plus one."""

    logprob: float
    n_tokens: int
    n_bytes: int
    n_words: int


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """The choices of one question, in the order given. Lengths are those of the choice without the delimiter, each at least 1."""

    logprobs: tuple[float, ...]
    is_greedy: tuple[bool, ...]
    n_tokens: tuple[int, ...]
    lengths_chars: tuple[int, ...]
    lengths_bytes: tuple[int, ...]

    @property
    def pick(self) -> int:
        """Index of the most likely choice, the first of equals (`acc`)."""
        return int(np.argmax(self.logprobs))

    @property
    def pick_norm(self) -> int:
        """Index of the largest log-likelihood per character, the first of equals (`acc_norm`)."""
        return int(np.argmax(np.divide(self.logprobs, self.lengths_chars)))

    @property
    def pick_bytes(self) -> int:
        """Index of the largest log-likelihood per UTF-8 byte, the first of equals (`acc_bytes`)."""
        return int(np.argmax(np.divide(self.logprobs, self.lengths_bytes)))


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """A token sequence of length n scored from its second token on: entry t - 1 of both arrays [n - 1] belongs to token t given those before it."""

    logprobs: NDArray[np.float64]
    is_argmax: NDArray[np.bool_]
