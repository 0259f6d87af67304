"""Sums and differences of two numbers. A tenth of the pairs never occurs in training, so memory and skill can be told apart."""

from __future__ import annotations

from random import Random
from typing import Literal

from trialplate.tasks.document import Document, Split, split_of
from trialplate.tasks.items import Encode, Item, MetaValue, make_item, take

Operation = Literal["add", "sub"]
SIGNS: dict[Operation, str] = {"add": "+", "sub": "-"}


def prompt_of(operation: Operation, a: int, b: int) -> str:
    return f"{a} {SIGNS[operation]} {b} ="


def result_of(operation: Operation, a: int, b: int) -> int:
    return a + b if operation == "add" else a - b


def pair_split(operation: Operation, a: int, b: int) -> Split:
    """Whether the ordered pair is used in training."""
    return split_of(f"{operation}:{a}:{b}")


def pairs(operation: Operation, largest: int, split: Split) -> list[tuple[int, int]]:
    """Every ordered pair of operands 0..largest in a split, in numerical order; differences are never negative."""
    numbers = range(largest + 1)
    in_range = [(a, b) for a in numbers for b in numbers if operation == "add" or a >= b]
    return [(a, b) for a, b in in_range if pair_split(operation, a, b) == split]


def document(rng: Random, split: Split) -> Document:
    """One document of the corpus: operands to 20 mostly, some to 9 and to 99."""
    while True:
        largest = rng.choices((9, 20, 99), weights=(1, 4, 1))[0]
        operation: Operation = rng.choice(("add", "sub"))
        a, b = rng.randint(0, largest), rng.randint(0, largest)
        if operation == "sub" and a < b:
            a, b = b, a
        if pair_split(operation, a, b) == split:
            return Document("arithmetic", prompt_of(operation, a, b), f" {result_of(operation, a, b)}", ".")


def arithmetic_items(
    encode: Encode, n: int | None, seed: int, *, operation: Operation, largest: int = 20, split: Split = "train"
) -> list[Item]:
    """n different pairs of operands 0..largest (n=None: all of them) that were, or were not, in training.

    answer: the result; foils: results off by one, two and ten with as many tokens as the answer in this tokenizer, so that a
    margin compares like with like. ValueError when fewer than n pairs exist."""
    every = pairs(operation, largest, split)
    Random(f"arithmetic:{operation}:{largest}:{split}:{seed}").shuffle(every)
    items = [_item(encode, operation, a, b, largest, split) for a, b in every[:n]]
    return take(items, n, f"arithmetic {operation} 0..{largest} {split}")


def _item(encode: Encode, operation: Operation, a: int, b: int, largest: int, split: Split) -> Item:
    result = result_of(operation, a, b)
    answer = f" {result}"
    near = [f" {result + step}" for step in (-10, -2, -1, 1, 2, 10) if result + step >= 0]
    foils = [foil for foil in near if len(encode(foil)) == len(encode(answer))]
    facts: dict[str, MetaValue] = {"a": a, "b": b, "operation": operation, "largest": largest, "split": split}
    return make_item("arithmetic", prompt_of(operation, a, b), answer, foils, group=f"{operation}/{result}", **facts)
