"""Probe items scored: an answer against its foils, as the next token or as whole continuations. What the numbers mean is the caller's.

Prompt and continuation are encoded together: encoded apart they can be cut differently, and the wrong tokens would be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trialplate.scoring.requests import RequestError
from trialplate.scoring.scorer import Scorer


class ProbeItem(Protocol):
    """A prompt, the continuation that is right, and continuations that are wrong; leading spaces included."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def foils(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class AnswerScores:
    """Arrays [n]. `answer` and `foil` are logits or log-probabilities, `foil` that of the best foil; `is_top1`: nothing in the vocabulary beats the
    answer (every token of it, for a continuation)."""

    answer: NDArray[np.float64]
    foil: NDArray[np.float64]
    is_top1: NDArray[np.bool_]

    @property
    def difference(self) -> NDArray[np.float64]:
        """answer - foil: a logit difference or a margin."""
        return self.answer - self.foil

    @property
    def beats_foil(self) -> NDArray[np.float64]:
        """1 where the answer outscores its best foil, 0.5 for a tie (a constant model must not score above chance)."""
        return np.where(self.difference > 0, 1.0, np.where(self.difference == 0, 0.5, 0.0))


def next_token_scores(scorer: Scorer, items: Sequence[ProbeItem]) -> AnswerScores:
    """Logits of answer and best foil at the last prompt position. Raises RequestError where one of them is not a single token there."""
    logits = scorer.next_token_logits([item.prompt for item in items]).double().numpy()
    columns = [_single_tokens(scorer, item, [item.answer, *_foils(item)]) for item in items]
    answer = np.array([row[ids[0]] for row, ids in zip(logits, columns, strict=True)])
    foil = np.array([row[ids[1:]].max() for row, ids in zip(logits, columns, strict=True)])
    return AnswerScores(answer, foil, answer >= logits.max(axis=1))


def continuation_scores(scorer: Scorer, items: Sequence[ProbeItem]) -> AnswerScores:
    """Log-probabilities (nats) of the whole answer and of the likeliest foil after the prompt."""
    pairs = [(item.prompt, text) for item in items for text in (item.answer, *_foils(item))]
    found = iter(scorer.loglikelihood(pairs))
    answer, foil, top = [], [], []
    for item in items:
        right = next(found)
        answer.append(right.logprob)
        top.append(right.is_greedy)
        foil.append(max(next(found).logprob for _ in item.foils))
    return AnswerScores(np.array(answer), np.array(foil), np.array(top))


def _foils(item: ProbeItem) -> tuple[str, ...]:
    if not item.foils:
        raise RequestError(f"item {item.id} has no foil; wanted at least one wrong continuation to compare with")
    return item.foils


def _single_tokens(scorer: Scorer, item: ProbeItem, texts: list[str]) -> list[int]:
    prompt, *whole = scorer.model.tokenizer.encode_batch([item.prompt, *(item.prompt + text for text in texts)])
    for text, ids in zip(texts, whole, strict=True):
        if ids[:-1] != prompt:
            raise RequestError(
                f"{scorer.model.label}: {text!r} after {item.prompt[-30:]!r} is {len(ids) - len(prompt)} tokens; wanted exactly one. "
                f"Use continuation_scores, or a requires_tokens mark"
            )
    return [ids[-1] for ids in whole]
