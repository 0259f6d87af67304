"""From texts to token ids, by the rules of lm-evaluation-harness, so that users can compare numbers.

Whitespace at the end of a context belongs to the continuation. Context and whole text are encoded; the continuation is what the whole has beyond
the context's length. A text without context follows the model's prefix token. What does not fit the window is cut off at the left.
Documents are scored in disjoint windows. No model is run here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trialplate.scoring.plan import Query
from trialplate.scoring.surface import ScorableModel

_WHITESPACE = re.compile(r"\s+")


class RequestError(ValueError):
    """A request that cannot be scored: nothing to score, or too long."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Tokens that are read, and tokens that are scored after them; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Encoder:
    """Encodes requests for one model. `add_bos` puts the beginning token before every text that does not start with it already; None does
    what the tokenizer asks for."""

    def __init__(self, model: ScorableModel, add_bos: bool | None = None) -> None:
        self.label, self.tokenizer, self.prefix_id = model.label, model.tokenizer, model.prefix_id
        bos_id: int | None = getattr(model.tokenizer, "bos_id", None)
        add_bos = bool(getattr(model.tokenizer, "adds_bos", False)) if add_bos is None else add_bos
        if add_bos and bos_id is None:
            raise RequestError(
                f"{self.label}: add_bos=True wants a tokenizer with a beginning-of-sequence token, this one has none"
            )
        self.lead = (bos_id,) if add_bos and bos_id is not None else ()

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[TokenPair]:
        """Token pairs of (context, continuation) texts. Raises RequestError for a continuation that adds no token."""
        moved = [_move_whitespace(context, continuation) for context, continuation in texts]
        ids = self._encode_unique(
            [text for context, continuation in moved for text in (context, context + continuation)]
        )
        return [self._pair(i, context, continuation, ids) for i, (context, continuation) in enumerate(moved)]

    def texts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of whole texts, each with the leading token if there is one. An empty text has no token of its own."""
        ids = self._encode_unique(texts)
        return [self._lead(text, ids[text]) for text in texts]

    def prompts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of prompts that are to be continued; an empty prompt is the prefix token."""
        return [ids or (self.require_prefix(),) for ids in self.texts(texts)]

    def require_prefix(self) -> int:
        """The prefix token. Raises RequestError for a model without one."""
        if self.prefix_id is None:
            raise RequestError(
                f"{self.label}: a text without context needs a prefix token, and the tokenizer has neither a beginning nor an end-of-sequence token. Give every request a context."
            )
        return self.prefix_id

    def _encode_unique(self, texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, map(tuple, self.tokenizer.encode_batch(unique)), strict=True))

    def _pair(self, index: int, context: str, continuation: str, ids: dict[str, tuple[int, ...]]) -> TokenPair:
        if context:
            before, whole = self._lead(context, ids[context]), self._lead(context, ids[context + continuation])
            scored = whole[len(before) :]
        else:
            scored = ids[continuation]
            before = (self.require_prefix(),)
            if scored[:1] == before:  # the text brings its own beginning
                scored = scored[1:]
        if not scored:
            raise RequestError(
                f"{self.label}: request {index}: continuation {continuation!r} after context {_end(context)!r} adds no token to the context's {len(before)}; wanted at least one. "
                f"Give a continuation that is not empty and does not merge into the last token of its context."
            )
        return TokenPair(before, scored)

    def _lead(self, text: str, ids: tuple[int, ...]) -> tuple[int, ...]:
        if not self.lead or ids[:1] == self.lead or not text:
            return ids
        return self.lead + ids


def scored_query(pair: TokenPair, max_length: int, label: str, index: int = 0) -> tuple[Query, int]:
    """What the model reads for a pair, and how many context tokens were cut off at the left.

    The last max_length + 1 tokens of context and continuation, without the last one. Raises RequestError where the continuation alone is longer than
    max_length."""
    context, continuation = pair.context, pair.continuation
    if not context or not continuation:
        raise RequestError(
            f"{label}: request {index} has {len(context)} context and {len(continuation)} scored tokens; wanted at least one of each"
        )
    if len(continuation) > max_length:
        raise RequestError(
            f"{label}: request {index}: a continuation of {len(continuation)} tokens does not fit the model's window of {max_length}. Shorten it, or score it as a document with rolling()."
        )
    whole = context + continuation
    cut = max(0, len(whole) - max_length - 1)
    return Query(whole[cut:-1], len(continuation)), cut


def rolling_windows(ids: Sequence[int], prefix_id: int, max_length: int) -> list[TokenPair]:
    """Disjoint windows that score every token once, each with at most max_length tokens read.

    The first follows the prefix token; the others the one token before them, the last one as many tokens as fill its window."""
    tokens = tuple(ids)
    pairs = []
    for start in range(0, len(tokens), max_length):
        scored = tokens[start : start + max_length]
        n_context = max_length - len(scored) + 1
        context = tokens[start - n_context : start] if start else (prefix_id,)
        pairs.append(TokenPair(context, scored))
    return pairs


def word_count(text: str) -> int:
    """Pieces between runs of whitespace. A run at either end counts an empty piece: the published word perplexities are counted like this."""
    return len(_WHITESPACE.split(text))


def _move_whitespace(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _end(text: str, n: int = 40) -> str:
    return text if len(text) <= n else f"…{text[-n:]}"
