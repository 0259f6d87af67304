"""Decoding: from prompts to continuations, one token a step through the state, in time and memory that do not depend on the position.

A row is a prompt with its continuation. What a row becomes depends on its own prompt, the settings and the seed, not on its company: draws
come from a stream of the row's own (logits may differ by the rounding of sums, which grouping can change)."""

from __future__ import annotations

import hashlib
import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import nn

from asa.asm_lm import ASMLanguageModel
from asa.padding import align
from asa.state import ASMState

Strategy = Literal["greedy", "sample"]
Overflow = Literal["crop", "stop", "error"]
Finish = Literal["length", "eos", "stop", "full"]


@dataclass(frozen=True, slots=True)
class Generated:
    """`tokens`: each row's prompt and continuation, what ended it included; `n_prompt`: how many of them are the prompt.

    `finished`: "eos", "stop" (a stop sequence), "length" (`max_new_tokens`), "full" (`max_seq_len` tokens were read, with
    on_overflow="stop"). `seed`, given as `generator`, draws the same again; None for greedy decoding."""

    tokens: list[list[int]]
    n_prompt: list[int]
    finished: list[Finish]
    seed: int | None = None

    @property
    def new_tokens(self) -> list[list[int]]:
        """The continuations alone."""
        return [row[n:] for row, n in zip(self.tokens, self.n_prompt, strict=True)]


@dataclass(frozen=True, slots=True)
class _Settings:
    max_new_tokens: int
    strategy: Strategy
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    no_repeat_ngram_size: int
    eos: frozenset[int]
    stops: tuple[tuple[int, ...], ...]
    on_overflow: Overflow

    def __post_init__(self) -> None:
        for name, allowed in (("strategy", get_args(Strategy)), ("on_overflow", get_args(Overflow))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: wanted one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, is_right, wanted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "more than 0 (1 changes nothing)"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, "0 (off) or more"),
            ("stop", all(self.stops), "tokens, or sequences of at least one token"),
        ):
            if not is_right:
                raise ValueError(f"{name}: wanted {wanted}, got {getattr(self, name, self.stops)!r}")


@torch.no_grad()
def generate(
    model: ASMLanguageModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    max_new_tokens: int = 120,
    strategy: Strategy = "greedy",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.9,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    generator: torch.Generator | int | None = None,
    on_overflow: Overflow = "crop",
) -> Generated:
    """Continue prompts [b, T]; `attention_mask` [b, T] is 0 on padding, on either side. The model decodes in evaluation mode.

    Each step takes float32 logits; then the repetition penalty (of every distinct token of the row: times it below 0, else divided by it);
    then a ban on tokens that would repeat an n-gram of the row; then `greedy`: the largest; or `sample`: divided by `temperature` (at least
    1e-6), the `top_k` largest (0: all), the most likely tokens up to the first where the weight before it exceeds `top_p`, one draw.
    A row ends after `eos_id`, after a token or token sequence of `stop` (new tokens only), or after `max_new_tokens`.

    `on_overflow`, for texts of more than `max_seq_len` tokens: "crop" reads the last `max_seq_len` anew for each further token (slow, and
    chunk borders move along), "stop" ends the row, "error" raises before anything is generated. `generator`: a generator or a seed for
    draws (None: another seed each call). Raises ValueError for settings out of range, rows without tokens, prompts that do not fit, and
    logits that are not numbers."""
    how = _Settings(
        max_new_tokens,
        strategy,
        temperature,
        top_k,
        top_p,
        repetition_penalty,
        no_repeat_ngram_size,
        frozenset([eos_id] if isinstance(eos_id, int) else eos_id or ()),
        tuple((s,) if isinstance(s, int) else tuple(s) for s in stop),
        on_overflow,
    )
    prompts = _prompts(input_ids, attention_mask)
    _refuse_long(prompts, how, model.max_seq_len)
    seed = None if strategy == "greedy" else _seed(generator)
    draws = None if seed is None else _draws(prompts, max_new_tokens, seed)
    rows = [_Row(list(ids), len(ids), how, None if draws is None else draws[n]) for n, ids in enumerate(prompts)]
    with _evaluating(model):
        _decode(model, rows, how)
    return Generated([row.ids for row in rows], [row.n_prompt for row in rows], [row.finished for row in rows], seed)


@dataclass(slots=True, eq=False)
class _Row:
    """A text as it grows. `draws` are its uniform numbers, one a new token; `ngrams` maps what stood before to the tokens that followed it."""

    ids: list[int]
    n_prompt: int
    how: _Settings
    draws: list[float] | None
    finished: Finish = "length"
    is_done: bool = False
    ngrams: dict[tuple[int, ...], set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for end in range(1, self.n_prompt + 1):
            self._remember(end)

    def add(self, token: int) -> None:
        """One more token; the row is done if it ends it."""
        self.ids.append(token)
        self._remember(len(self.ids))
        new = self.ids[self.n_prompt :]
        if token in self.how.eos:
            self.finish("eos")
        elif any(tuple(new[-len(stop) :]) == stop for stop in self.how.stops):
            self.finish("stop")

    def finish(self, why: Finish) -> None:
        """No more tokens."""
        self.finished, self.is_done = why, True

    def banned(self) -> list[int]:
        """Tokens that would complete an n-gram that the row has already."""
        size = self.how.no_repeat_ngram_size
        return sorted(self.ngrams.get(tuple(self.ids[len(self.ids) - size + 1 :]), ())) if size else []

    def _remember(self, end: int) -> None:
        size = self.how.no_repeat_ngram_size
        if size and end >= size:
            *before, token = self.ids[end - size : end]
            self.ngrams.setdefault(tuple(before), set()).add(token)


def _decode(model: ASMLanguageModel, rows: list[_Row], how: _Settings) -> None:
    """Grow every row until it is done. Rows that fit the window go on from a state; longer ones are read anew for each token."""
    growing = [row for row in rows if len(row.ids) <= model.max_seq_len]
    cropped = [row for row in rows if len(row.ids) > model.max_seq_len]
    hidden, state = _read(model, growing) if growing else (None, None)
    for step in range(how.max_new_tokens):
        parts = [hidden] if hidden is not None else []
        parts += [_read(model, cropped)[0]] if cropped else []
        logits = model.lm_head(torch.cat(parts)).float()
        for row, token in zip(growing + cropped, _choose(logits, growing + cropped, how, step), strict=True):
            row.add(token)
        if step + 1 == how.max_new_tokens:
            return
        full = [row for row in growing if not row.is_done and len(row.ids) > model.max_seq_len]
        if how.on_overflow == "stop":
            for row in full:
                row.finish("full")
        keep = [n for n, row in enumerate(growing) if not row.is_done and row not in full]
        cropped = [row for row in cropped + full if not row.is_done]
        if not (keep or cropped):
            return
        if state is not None and len(keep) < len(growing):
            growing, state = (
                [growing[n] for n in keep],
                state.select(torch.tensor(keep, dtype=torch.long, device=logits.device)),
            )
        if state is not None and growing:
            last = torch.tensor([[row.ids[-1]] for row in growing], device=logits.device)
            hidden, state = model.extend(last, state)
            hidden = hidden[:, -1]
        else:
            hidden = state = None


def _read(model: ASMLanguageModel, rows: list[_Row]) -> tuple[torch.Tensor, ASMState]:
    """Hidden state [b, C] at the last token of each row, at most `max_seq_len` of them read, and the state there."""
    texts = [row.ids[-model.max_seq_len :] for row in rows]
    width = max(map(len, texts))
    device = model.lm_head.weight.device
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts], device=device)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    inside = torch.arange(width, device=device) < lengths.unsqueeze(1)
    hidden, state = model.prefill(ids, None if bool(inside.all()) else inside.long())
    return hidden[torch.arange(len(rows), device=device), lengths - 1], state


def _choose(logits: torch.Tensor, rows: list[_Row], how: _Settings, step: int) -> list[int]:
    """The next token of each row, from logits [b, v] in the rows' order; the logits are changed."""
    if bool(logits.isnan().any()):
        raise ValueError(
            "the logits of a next token hold NaN: wanted numbers. Look for NaN or infinite weights, or a dtype that is too narrow"
        )
    for n, row in enumerate(rows):
        if how.repetition_penalty != 1:
            seen = torch.tensor(sorted(set(row.ids)), device=logits.device)
            found = logits[n, seen]
            logits[n, seen] = torch.where(found < 0, found * how.repetition_penalty, found / how.repetition_penalty)
        if banned := row.banned():
            logits[n, banned] = -torch.inf
    if bool((logits == -torch.inf).all(1).any()):
        raise ValueError(
            f"no_repeat_ngram_size={how.no_repeat_ngram_size} leaves no token to go on with: every one is banned. Give a larger one, or 0"
        )
    if how.strategy == "greedy":
        greedy: list[int] = logits.argmax(-1).tolist()
        return greedy
    return _sampled(logits, [row.draws[step] for row in rows if row.draws is not None], how)


def _sampled(logits: torch.Tensor, draws: list[float], how: _Settings) -> list[int]:
    """One draw a row: the token where the sorted weights, summed up, pass the row's number."""
    sorted_logits, order = (logits / max(1e-6, how.temperature)).sort(dim=-1, descending=True, stable=True)
    if how.top_k:
        least = sorted_logits[:, min(how.top_k, logits.shape[1]) - 1].unsqueeze(1)
        sorted_logits = sorted_logits.masked_fill(sorted_logits < least, -torch.inf)
    weights = sorted_logits.softmax(-1).double()
    if how.top_p < 1:
        weights = weights.masked_fill(weights.cumsum(-1) - weights > how.top_p, 0.0)
    sums = weights.cumsum(-1)
    target = torch.tensor(draws, dtype=torch.float64, device=logits.device).unsqueeze(1) * sums[:, -1:]
    place = torch.searchsorted(sums, target, right=True).minimum((weights > 0).sum(-1, keepdim=True) - 1)
    tokens: list[int] = order.gather(1, place).squeeze(1).tolist()
    return tokens


def _prompts(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> list[list[int]]:
    if input_ids.ndim != 2 or len(input_ids) == 0:
        raise ValueError(f"input_ids: wanted [batch, time] with at least one row, got {list(input_ids.shape)}")
    ids, alignment = align(input_ids, attention_mask)
    lengths = alignment.n_real.tolist()
    if not all(lengths):
        raise ValueError(f"prompt {lengths.index(0)} of {len(lengths)} has no token: wanted at least one to go on from")
    return [row[:n] for row, n in zip(ids.tolist(), lengths, strict=True)]


def _refuse_long(prompts: list[list[int]], how: _Settings, max_seq_len: int) -> None:
    longest = max(map(len, prompts))
    reads = longest + how.max_new_tokens - 1  # the last new token is not read
    if how.on_overflow == "error" and reads > max_seq_len:
        raise ValueError(
            f"a prompt of {longest} tokens with max_new_tokens={how.max_new_tokens} reads {reads} tokens, more than max_seq_len {max_seq_len}. "
            'Shorten either, or choose on_overflow="crop" or "stop"'
        )
    if how.on_overflow == "stop" and longest > max_seq_len:
        raise ValueError(
            f'a prompt has {longest} tokens, more than max_seq_len {max_seq_len}: there is nothing to go on from. Shorten it, or choose on_overflow="crop"'
        )


def _seed(generator: torch.Generator | int | None) -> int:
    if isinstance(generator, int):
        return generator % 2**63
    if generator is None:
        return int.from_bytes(os.urandom(7), "little")
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _draws(prompts: list[list[int]], n: int, seed: int) -> list[list[float]]:
    """Uniform numbers in [0, 1), n a row. A row's stream follows from the seed, its prompt, and how many equal prompts stand before it."""
    before: Counter[tuple[int, ...]] = Counter()
    found = []
    for ids in map(tuple, prompts):
        digest = hashlib.sha256(struct.pack(f"<qq{len(ids)}q", seed, before[ids], *ids)).digest()
        own = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        row: list[float] = torch.rand(n, generator=own, dtype=torch.float64).tolist()
        found.append(row)
        before[ids] += 1
    return found


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, every part put back as it was."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
