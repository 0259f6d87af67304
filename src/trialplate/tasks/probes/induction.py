"""Induction: a block of random tokens comes twice; in the second half each token follows from the first half.

After Olsson et al. 2022 (arXiv:2209.11895). Items are token ids, not text, because the tokens are random: no tokenizer need
cut them that way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from trialplate.tasks.items import Encode
from trialplate.tasks.lexicon import words
from trialplate.tasks.requirements import single_token_words


@dataclass(frozen=True, slots=True)
class InductionSequence:
    """Token ids `[prefix] + block + block`.

    offset   number of prefix tokens (0 or 1); length   tokens of one block
    Position p of the second half (offset + length <= p < offset + 2 length) repeats position p - length. Its first token
    cannot be known, so accuracy is over `second_half_targets`, gain and nll over both halves alike."""

    ids: tuple[int, ...]
    length: int
    offset: int

    @property
    def first_half_targets(self) -> range:
        """Positions of the first block that have an unpredictable target, aligned with `second_half_targets`."""
        return range(self.offset + 1, self.offset + self.length)

    @property
    def second_half_targets(self) -> range:
        """Positions of the second block whose token follows from the first block."""
        return range(self.offset + self.length + 1, self.offset + 2 * self.length)


def word_ids(encode: Encode) -> list[int]:
    """Ids of the lexicon's words that are single tokens behind a space."""
    return sorted({encode(f" {word}")[0] for word in single_token_words(encode, words())})


def induction_over_words(
    encode: Encode, n: int, seed: int, *, length: int = 25, prefix_id: int | None = None
) -> list[InductionSequence]:
    """n sequences over whole-word tokens, no token twice in a block. ValueError if the tokenizer has fewer words than `length`."""
    return induction_over_ids(word_ids(encode), n, seed, length=length, prefix_id=prefix_id)


def induction_over_vocabulary(
    vocab_size: int,
    n: int,
    seed: int,
    *,
    length: int = 25,
    prefix_id: int | None = None,
    excluded: Collection[int] = (),
) -> list[InductionSequence]:
    """n sequences over any token of a vocabulary (fragments and bytes too) but the `excluded` ids, such as special tokens."""
    pool = [token for token in range(vocab_size) if token not in set(excluded)]
    return induction_over_ids(pool, n, seed, length=length, prefix_id=prefix_id)


def induction_over_ids(
    pool: Sequence[int], n: int, seed: int, *, length: int, prefix_id: int | None = None
) -> list[InductionSequence]:
    """n sequences whose blocks are drawn without replacement from the ids in `pool`."""
    if n < 1 or length < 2:
        raise ValueError(f"induction: n = {n} and length = {length}; n must be at least 1 and length at least 2")
    if len(pool) < length:
        raise ValueError(
            f"induction: a block of {length} different tokens cannot be drawn from {len(pool)} tokens; shorten `length`"
        )
    rng = Random(f"induction:{length}:{seed}")
    prefix = [] if prefix_id is None else [prefix_id]
    blocks = (rng.sample(pool, length) for _ in range(n))
    return [InductionSequence((*prefix, *block, *block), length, len(prefix)) for block in blocks]
