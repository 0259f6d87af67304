"""Greedy generation with cached decoding. Prompts of a batch end together (padding on the left, masked, positions counted over real tokens).

Stop strings are looked for in the decoded text, not among tokens: a stop string may begin inside one token and end inside another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch

from trialplate.scoring.forward import Forward, is_out_of_memory
from trialplate.scoring.requests import RequestError
from trialplate.scoring.sinks import ScoringError
from trialplate.scoring.surface import ScorableModel


def generate(
    forward: Forward,
    prompts: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    stop: Sequence[str],
    report: Callable[[int], None],
) -> list[str]:
    """The most likely next token again and again, until a stop string, the end token, or `max_new_tokens`; text before the stop string.

    A prompt too long for the window is cut at the left so that the new tokens fit. Raises RequestError for bounds that leave no room."""
    model = forward.model
    room = model.max_length - max_new_tokens
    if max_new_tokens < 1 or room < 1:
        raise RequestError(
            f"{model.label}: max_new_tokens={max_new_tokens} in a window of {model.max_length} tokens; wanted at least 1, and at least one token of room for the prompt"
        )
    if any(not text for text in stop):
        raise RequestError("a stop string is empty: it would stop every text before its first token. Leave it out.")
    texts = [""] * len(prompts)
    cut = [ids[-room:] for ids in prompts]
    waiting = deque(_groups(cut, max_new_tokens, forward.token_budget))
    while waiting:
        group = waiting.popleft()
        n_positions = len(group) * (len(cut[group[0]]) + max_new_tokens)
        if n_positions > forward.token_budget and len(group) > 1:
            waiting.extendleft([group[len(group) // 2 :], group[: len(group) // 2]])
            continue
        try:
            found = _decode(model, [cut[i] for i in group], max_new_tokens, stop)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            forward.shrink(n_positions, len(group), error)
            waiting.appendleft(group)
        else:
            for i, text in zip(group, found, strict=True):
                texts[i] = text
            report(len(group))
    return texts


def _groups(prompts: Sequence[tuple[int, ...]], max_new_tokens: int, token_budget: int) -> list[list[int]]:
    """Indices of prompts that are decoded together, longest first; what is cached at the end counts against the budget."""
    groups: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i])):
        if groups and (len(groups[-1]) + 1) * (len(prompts[groups[-1][0]]) + max_new_tokens) <= token_budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


@torch.inference_mode()
def _decode(
    model: ScorableModel, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, stop: Sequence[str]
) -> list[str]:
    width = max(map(len, prompts))
    ids = torch.tensor([(0,) * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    logits, state = model.start(ids, mask)
    rows = [_Row(model, stop) for _ in prompts]
    for left in range(max_new_tokens - 1, -1, -1):
        tokens = _most_likely(logits, model)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.add(token)
        if left == 0 or all(row.is_done for row in rows):
            break
        # Rows that are done go on until the last one is: what they say then is not kept.
        logits, state = model.step(state, tokens[:, None])
    return [row.text() for row in rows]


def _most_likely(logits: torch.Tensor, model: ScorableModel) -> torch.Tensor:
    if logits.isnan().any():
        raise ScoringError(
            f"{model.label}: the logits of a next token hold NaN; wanted numbers. Look for NaN or infinite weights."
        )
    return logits.argmax(-1)


class _Row:
    """One text as it grows."""

    def __init__(self, model: ScorableModel, stop: Sequence[str]) -> None:
        self.model, self.stop = model, stop
        self.ids: list[int] = []
        self.is_done = False

    def add(self, token: int) -> None:
        if self.is_done:
            return
        if token == self.model.tokenizer.eos_id:
            self.is_done = True
            return
        self.ids.append(token)
        if self.stop:
            text = self.model.tokenizer.decode(self.ids)
            self.is_done = any(string in text for string in self.stop)

    def text(self) -> str:
        """The decoded text up to the first stop string."""
        text = self.model.tokenizer.decode(self.ids)
        return text[: min((at for string in self.stop if (at := text.find(string)) >= 0), default=len(text))]
