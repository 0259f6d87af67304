"""Models and items for `lmeval_agreement.py`, made on the spot from what is installed: nothing is fetched, a seed decides everything.

Two models have random weights (tiny: a 5 M parameter GPT-NeoX; 70m: the proportions of pythia-70m, most of whose work is the output head) and a
byte-level tokenizer trained on the help texts of Python's standard library. The third is the embedded, trained one, for scores that are not chance.
Items are cut out of running text: a context, its true continuation, and for multiple choice three continuations from elsewhere."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from trialplate.models.resolve import resolve
from trialplate.models.spec import ModelSpec
from trialplate.tasks.corpus import heldout_documents

SEED = 7
WINDOW = 1024
N_TOKENS = 4096
END = "<|endoftext|>"
TASKS = ("multiple_choice", "cloze", "rolling")


@dataclass(frozen=True, slots=True)
class Shape:
    """Width, layers, heads and rows of the embedding, and how many items and documents are scored."""

    d_model: int
    n_layers: int
    n_heads: int
    vocab_rows: int
    n_items: int
    n_documents: int


SHAPES = {
    "tiny": Shape(256, 4, 4, N_TOKENS, 500, 40),
    "70m": Shape(512, 6, 8, 50304, 100, 8),
}
EMBEDDED_ITEMS, EMBEDDED_DOCUMENTS = 300, 40


@dataclass(frozen=True, slots=True)
class Fixture:
    """A model folder and a JSONL file of rows a task."""

    name: str
    model: Path
    rows: dict[str, list[dict[str, Any]]]
    files: dict[str, Path]


def make_fixture(name: str, folder: Path) -> Fixture:
    """The fixture of a shape, or of the embedded model, with its files under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    if name == "embedded":
        model = resolve(ModelSpec("embedded:neox-tiny")).path
        words = " ".join(heldout_documents(600, seed=SEED)).split()
        rows = make_rows(words, rng, EMBEDDED_ITEMS, EMBEDDED_DOCUMENTS, longest=400)
    else:
        shape, words = SHAPES[name], help_words()
        model = folder / "model"
        save_tokenizer(words, model)
        save_model(shape, model)
        rows = make_rows(words, rng, shape.n_items, shape.n_documents, longest=1200)
    files = {task: folder / f"{task}.jsonl" for task in TASKS}
    for task, file in files.items():
        file.write_text("".join(json.dumps(row) + "\n" for row in rows[task]), encoding="utf-8")
    return Fixture(name, model, rows, files)


def help_words() -> list[str]:
    """The words of the standard library's help texts."""
    return [word for _, text in sorted(topics.items()) for word in text.split()]


def save_tokenizer(words: list[str], folder: Path) -> None:
    """Train a byte-level tokenizer and save it as transformers does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_TOKENS,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = (" ".join(words[i : i + 500]) for i in range(0, len(words), 500))
    tokenizer.train_from_iterator(pieces, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, model_max_length=WINDOW).save_pretrained(folder)


def save_model(shape: Shape, folder: Path) -> None:
    """A random GPT-NeoX. Its weights are drawn wide, so that log-likelihoods differ and few accuracies rest on ties."""
    config = GPTNeoXConfig(
        vocab_size=shape.vocab_rows,
        hidden_size=shape.d_model,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        intermediate_size=4 * shape.d_model,
        max_position_embeddings=WINDOW,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.08,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        GPTNeoXForCausalLM(config).save_pretrained(folder)


def make_rows(
    words: list[str], rng: random.Random, n_items: int, n_documents: int, longest: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the three tasks. Documents have 40 to `longest` words, so that some need several windows."""

    def run(n: int, start: int | None = None) -> list[str]:
        start = rng.randrange(len(words) - n) if start is None else start
        return words[start : start + n]

    choice_rows, cloze_rows = [], []
    # No two contexts begin at the same word: see `coinciding_requests` in lmeval_agreement.py for what happens then.
    for start, other in zip(*(rng.sample(range(len(words) - 50), n_items) for _ in range(2)), strict=True):
        n_context = rng.randint(8, 32)
        text = run(n_context + rng.randint(1, 6), start)
        choices = [" " + " ".join(run(rng.randint(1, 6))) for _ in range(3)]
        gold = rng.randrange(4)
        choices.insert(gold, " " + " ".join(text[n_context:]))
        choice_rows.append({"context": " ".join(text[:n_context]), "choices": choices, "gold": gold})
        text = run(rng.randint(12, 40), other)
        cloze_rows.append({"context": " ".join(text[:-1]), "answer": " " + text[-1]})
    lengths = [longest if k % 8 == 7 else rng.randint(40, 500) for k in range(n_documents)]
    documents = [{"text": " ".join(run(min(n, longest)))} for n in lengths]
    return {"multiple_choice": choice_rows, "cloze": cloze_rows, "rolling": documents}
