"""From a run of `asa train-mini` to embedded:asm-tiny: float16 weights, tokenizer, card with scores and a trigram baseline, training log.

Unlike the GPT-NeoX, this model has no target to reach before it is written: its card says what it can do and what it cannot."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from trialplate.metrics.ngram import Trigram
from trialplate.models.embedded_training.card import MEANINGS
from trialplate.models.embedded_training.evaluate import Score, scores
from trialplate.models.embedded_training.loop import one_thread
from trialplate.models.embedded_training.publish import load_stored
from trialplate.models.embedded_training.recipe import CARD_SEED
from trialplate.models.embedded_training.tokenizer import write_tokenizer
from trialplate.tasks.corpus import corpus, corpus_digest, heldout_documents

HELDOUT_DOCUMENTS, HELDOUT_SEED = 1000, 50_000
TRIGRAM_DOCUMENTS = 20_000


def publish(run: Path, outdir: Path) -> dict[str, Any]:
    """Writes the best checkpoint of a run to the new folder `outdir` and gives what its card says.

    FileExistsError if `outdir` exists; ValueError for a run on other data or with another tokenizer, of which the card would not be true;
    CheckpointError or OSError for a run without a readable best checkpoint."""
    from asa import load_checkpoint
    from asa.hf import from_language_model

    if outdir.exists():
        raise FileExistsError(f"{outdir} exists; an embedded model is written to a new folder, name another one")
    _require_recipe(run)
    loaded = load_checkpoint(run / "checkpoints" / "best.pt")
    tokenizer = Tokenizer.from_file(str(Path(__file__).parents[1] / "embedded" / "neox-tiny" / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    with tempfile.TemporaryDirectory(dir=outdir.parent, prefix=f".{outdir.name}-") as name, one_thread():
        folder = Path(name)
        wrapped = from_language_model(loaded.model, bos_token_id=end, eos_token_id=end, pad_token_id=end)
        wrapped.to(torch.float16).save_pretrained(folder)
        _compute_in_float32(folder / "config.json")
        (folder / "generation_config.json").unlink(missing_ok=True)
        write_tokenizer(tokenizer, folder, loaded.cfg.max_seq_len)
        stored = load_stored(folder)
        document = _document(run, folder, stored, tokenizer, scores(stored, tokenizer, CARD_SEED), loaded.report.step)
        (folder / "scores.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (folder / "training_log.ndjson").write_text(
            (run / "metrics.ndjson").read_text(encoding="utf-8"), encoding="utf-8"
        )
        (folder / "README.md").write_text(card_text(document), encoding="utf-8")
        outdir.mkdir()
        for file in sorted(folder.iterdir()):
            file.chmod(0o644)
            shutil.move(file, outdir / file.name)
    return document


def _require_recipe(run: Path) -> None:
    data = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["data"]
    wanted = {"source": "corpus", "tokenizer": "embedded:neox-tiny"}
    if other := {name: data.get(name) for name, value in wanted.items() if data.get(name) != value}:
        raise ValueError(
            f"{run} was trained with {other}: the card of asm-tiny speaks of {wanted}. Train by embedded_training/asm_tiny.toml"
        )


@torch.inference_mode()
def bits_per_byte(model: torch.nn.Module, tokenizer: Tokenizer, texts: list[str]) -> float:
    """Of texts that each begin after one end-of-text token; total nats over total UTF-8 bytes."""
    total = 0.0
    for text in texts:
        ids = torch.tensor([[tokenizer.token_to_id("<|endoftext|>"), *tokenizer.encode(text).ids]])
        logits = model(input_ids=ids[:, :-1]).logits.float()
        total += float(torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="sum"))
    return total / math.log(2) / sum(len(text.encode()) for text in texts)


def trigram_bits_per_byte(tokenizer: Tokenizer, texts: list[str], documents: int = TRIGRAM_DOCUMENTS) -> float:
    """The same for a trigram model of the first documents of the training corpus."""
    vocabulary = tokenizer.get_vocab_size()
    trained = tokenizer.encode_batch([document.text for document in corpus(0)[:documents]])
    baseline = Trigram([encoding.ids for encoding in trained], vocabulary)
    nats = sum(baseline.nats(tokenizer.encode(text).ids) for text in texts)
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def _document(
    run: Path, folder: Path, model: torch.nn.Module, tokenizer: Tokenizer, on_card: dict[str, Score], step: int | None
) -> dict[str, Any]:
    settings = json.loads((run / "config.json").read_text(encoding="utf-8"))["settings"]
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    texts = heldout_documents(HELDOUT_DOCUMENTS, HELDOUT_SEED)
    documents = corpus(0)
    return {
        "schema": 1,
        "scores": {
            name: {"value": round(score.value, 4), "n": score.n, "meaning": MEANINGS[name]}
            for name, score in on_card.items()
        },
        "card_seed": CARD_SEED,
        "heldout": {
            "documents": HELDOUT_DOCUMENTS,
            "seed": HELDOUT_SEED,
            "bits_per_byte": round(bits_per_byte(model, tokenizer, texts), 4),
            "trigram_bits_per_byte": round(trigram_bits_per_byte(tokenizer, texts), 4),
            "trigram_documents": TRIGRAM_DOCUMENTS,
        },
        "corpus": {"seed": 0, "documents": len(documents), "sha256": corpus_digest(documents)},
        "step": step,
        "write_chunk_size": json.loads((folder / "config.json").read_text(encoding="utf-8"))["write_chunk_size"],
        "training": settings,
        "versions": {name: environment.get("versions", environment).get(name) for name in ("python", "torch")},
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": tokenizer.get_vocab_size(),
    }


def _compute_in_float32(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def card_text(document: dict[str, Any]) -> str:
    """The README of the model folder."""
    held, training = document["heldout"], document["training"]
    rows = "\n".join(
        f"| {name} | {row['value']:.3f} | {row['n']} | {row['meaning']} |" for name, row in document["scores"].items()
    )
    return f"""---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# asm-tiny

An Addressed State Model with {document["n_parameters"]:,} parameters, trained from nothing on the generated corpus of neox-tiny, with its tokenizer
({document["vocab_size"]:,} tokens), so that the harness has a real model with addressed states to measure, open up and break. It is not a language
model for any other use. Texts of up to {training["seq_len"]} tokens; write chunks of {document["write_chunk_size"]} tokens are part of the function.

## Held-out text

{held["documents"]:,} documents of the held-out part of the corpus (seed {held["seed"]}): **{held["bits_per_byte"]:.3f} bits per byte**. A trigram model
(interpolated Kneser-Ney) of the first {held["trigram_documents"]:,} training documents needs {held["trigram_bits_per_byte"]:.3f}.

## Scores

On items of seed {document["card_seed"]}, drawn once, after the weights were final. Share of items whose answer is the most likely token; for agreement, more
likely than its other form; for greater_than a difference of probabilities. What is low here the model cannot do. It does not copy arbitrary
earlier tokens (induction): its training texts hold no such repeats, and a short trial with them did not teach it either.

| score | value | n | what |
| --- | --- | --- | --- |
{rows}

## Training

`asa train-mini --config src/trialplate/models/embedded_training/asm_tiny.toml`, then `trialplate embedded publish-asm RUN --outdir OUTDIR`:
{training["total_steps"]:,} steps of {training["batch_size"]} x {training["seq_len"]} tokens, seed {training["seed"]}, the weights of step {document["step"]:,} (least validation loss);
AdamW, learning rate {training["learning_rate"]}, float32, stored in float16 (compute in float32). The arithmetic differs between kinds of CPU, so a model trained
again has other weights; these files are the reference.

Corpus: {document["corpus"]["documents"]:,} documents, SHA-256 `{document["corpus"]["sha256"]}` (`trialplate.tasks.corpus`). Every logged step is in
`training_log.ndjson`, the table above in `scores.json`.

## Licence

MIT, weights and corpus alike.
"""
