"""The tokenizer of the embedded models: byte-level BPE in which every word of the lexicon and every number below 100 is one token.

Text is cut into words with their leading space, numbers into pairs of digits aligned to the right ("1732" -> "17" "32"), and
line breaks and punctuation. Byte-level pieces make it lossless on any text. Id 0 is the one special token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from trialplate.tasks.lexicon import words

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0

PIECES = (
    r" ?[0-9]{1,2}(?=(?:[0-9]{2})*(?![0-9]))"  # pairs of digits, aligned to the right of the number
    r"| ?\p{L}+"
    r"|[\r\n]+ *"  # a line break with the indentation after it
    r"| ?[^\s\p{L}0-9]+"
    r"|\s+"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of `vocab_size` entries, trained on texts and on the lexicon; the same input gives the same result.

    ValueError if a word of the lexicon or a number below 100 (with and without space) is not one token at this size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = AddedToken(END_OF_TEXT, special=True, normalized=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_required(texts), trainer)
    if missing := [piece for piece in required_pieces() if len(tokenizer.encode(piece).ids) != 1]:
        raise ValueError(
            f"vocabulary of {tokenizer.get_vocab_size()} entries splits {len(missing)} required words, first {missing[0]!r}; "
            f"raise vocab_size ({vocab_size}) or shorten the lexicon"
        )
    return tokenizer


def required_pieces() -> list[str]:
    """What must be one token: each lexicon word behind a space, and the numbers 0..99 and 00..99 with and without a space."""
    numbers = [
        f"{space}{number}" for number in (*map(str, range(100)), *(f"0{d}" for d in range(10))) for space in ("", " ")
    ]
    return [*(f" {word}" for word in words()), *numbers]


def write_tokenizer(tokenizer: Tokenizer, outdir: Path, max_length: int) -> None:
    """tokenizer.json and the tokenizer_config.json that makes AutoTokenizer load it without guessing."""
    tokenizer.save(str(outdir / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    (outdir / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _with_required(texts: Iterable[str]) -> Iterator[str]:
    """The texts, and each required piece often enough that its merges come before those of chance fragments."""
    yield from texts
    for piece in required_pieces():
        for _ in range(REQUIRED_WEIGHT):
            yield piece


REQUIRED_WEIGHT = 200
