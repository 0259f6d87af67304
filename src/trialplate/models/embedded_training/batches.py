"""Rows of packed documents with a loss weight for every token.

Three kinds of token in text (prompt .2, answer 1, rest .2) and two in random sequences (first block .01: nothing can be learnt
there; repeats .8). A row holds documents one after the other, each closed by the end-of-text token; half of the rows also begin
with it, so that prompts with and without a start token are both familiar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer

from trialplate.models.embedded_training.tokenizer import END_OF_TEXT_ID
from trialplate.tasks.document import Document
from trialplate.tasks.probes.induction import word_ids

PROMPT, ANSWER, REST = 0.2, 1.0, 0.2
RANDOM, REPEAT = 0.01, 0.8
WORD_SHARE = 0.75  # of the random sequences; the others draw from the whole vocabulary
MIN_BLOCK, MAX_BLOCK, MAX_REPEATS = 3, 50, 3


@dataclass(frozen=True, slots=True)
class Piece:
    """Token ids of one document and the loss weight of each as a target."""

    ids: list[int]
    weights: list[float]


def encode_document(tokenizer: Tokenizer, document: Document) -> Piece:
    """Encodes the whole text at once (parts alone could be cut differently) and weighs tokens by the part in which they begin."""
    encoding = tokenizer.encode(document.text)
    answer_at = len(document.prompt)
    rest_at = answer_at + len(document.answer)
    weights = [PROMPT if start < answer_at else ANSWER if start < rest_at else REST for start, _ in encoding.offsets]
    return Piece([*encoding.ids, END_OF_TEXT_ID], [*weights, REST])


def induction_piece(rng: Random, words: list[int], vocab_size: int) -> Piece:
    """A block of 3 to 50 random tokens and one to three repeats of it."""
    length = rng.randint(MIN_BLOCK, MAX_BLOCK)
    pool: list[int] | range = words if rng.random() < WORD_SHARE else range(END_OF_TEXT_ID + 1, vocab_size)
    block, repeats = rng.sample(pool, length), rng.randint(1, MAX_REPEATS)
    ids = block * (1 + repeats)
    return Piece([*ids, END_OF_TEXT_ID], [RANDOM] * length + [REPEAT] * (length * repeats) + [RANDOM])


class Packer:
    """An endless source of batches: corpus documents in order (again from the start when they are used up), with random sequences among them."""

    def __init__(
        self, tokenizer: Tokenizer, documents: Iterable[Document], *, rows: int, row_length: int, seed: int
    ) -> None:
        self._pieces = [encode_document(tokenizer, document) for document in documents]
        self._words = word_ids(lambda text: list(tokenizer.encode(text).ids))
        self._vocab_size = tokenizer.get_vocab_size()
        self._rows, self._row_length = rows, row_length
        self._rng = Random(f"packer:{seed}")
        self._next = 0
        self._tokens, self._induction_tokens = 0, 0

    def batches(self, induction_share: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs (ids [rows, row_length + 1] int64, weights [rows, row_length] float32 of the targets ids[:, 1:])."""
        self._tokens = self._induction_tokens = 0
        while True:
            rows = [self._row(induction_share) for _ in range(self._rows)]
            ids = torch.tensor([row.ids for row in rows])
            yield ids, torch.tensor([row.weights[1:] for row in rows], dtype=torch.float32)

    def _row(self, induction_share: float) -> Piece:
        n = self._row_length + 1
        starts_with_end = self._rng.random() < 0.5
        ids: list[int] = [END_OF_TEXT_ID] if starts_with_end else []
        weights: list[float] = [0.0] if starts_with_end else []
        while len(ids) < n:
            piece = self._piece(induction_share, n - len(ids))
            ids += piece.ids
            weights += piece.weights
        return Piece(ids[:n], weights[:n])

    def _piece(self, induction_share: float, room: int) -> Piece:
        """The kind that is behind its share of the tokens; what does not fit into the row is not counted."""
        if self._induction_tokens < induction_share * self._tokens:
            piece = induction_piece(self._rng, self._words, self._vocab_size)
            self._induction_tokens += min(room, len(piece.ids))
        else:
            piece = self._pieces[self._next % len(self._pieces)]
            self._next += 1
        self._tokens += min(room, len(piece.ids))
        return piece
