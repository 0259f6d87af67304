"""The model card: one document of plain data for machines, and the text that is made from it for people."""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
import transformers

from trialplate.models.embedded_training.evaluate import Score
from trialplate.models.embedded_training.loop import Training
from trialplate.models.embedded_training.recipe import CARD_SEED, SELECTION_SEED, TARGETS

SCHEMA = 1

MEANINGS = {
    "ioi_abba": "indirect object, ABBA, scenes never trained",
    "ioi_baba": "indirect object, BABA, scenes never trained",
    "ioi_held_out_template": "indirect object, a template never trained, of words that are",
    "induction_words": "repeat of 25 random whole-word tokens",
    "induction_any_token": "repeat of 25 random tokens of any kind",
    "capitals_trained": "capital, trained (country, phrasing) pairs",
    "capitals_held_out": "capital, (country, phrasing) pairs never trained",
    "countries_of_capitals": "country of a capital, trained",
    "languages": "language of a country, trained",
    "continents": "continent of a country, trained",
    "add_20": "sum of 0..20 and 0..20, trained pairs",
    "sub_20": "difference of 0..20 and 0..20, trained pairs",
    "add_20_held_out": "sum of 0..20 and 0..20, pairs never trained",
    "sub_20_held_out": "difference of 0..20 and 0..20, pairs never trained",
    "add_99": "sum of 0..99 and 0..99 that is below 100, pairs of the training split",
    "sub_99": "difference of 0..99 and 0..99, pairs of the training split",
    "agreement_plain": "verb agrees with its subject, (subject, verb) sentences never trained",
    "agreement_attractor": "verb agrees across a noun of the other number, (subject, noun) pairs never trained",
    "greater_than": "P(end year after the beginning) - P(not after), (noun, year) pairs never trained",
}


def scores_document(run: Training, on_card: dict[str, Score]) -> dict[str, Any]:
    """Everything that the card says, as plain data: scores with n and target, seeds, digest, sizes, versions."""
    phases = sorted({line["phase"] for line in run.log})
    return {
        "schema": SCHEMA,
        "scores": {
            name: {"value": round(score.value, 4), "n": score.n, "target": TARGETS.get(name), "meaning": MEANINGS[name]}
            for name, score in on_card.items()
        },
        "card_seed": CARD_SEED,
        "selection_seed": SELECTION_SEED,
        "training_seed": run.seed,
        "corpus": {"seed": run.recipe.corpus_seed, "documents": run.recipe.corpus_size, "sha256": run.corpus_digest},
        "steps": [run.recipe.phases[phase].steps for phase in phases],
        "tokens_per_step": run.recipe.rows * run.recipe.row_length,
        "n_parameters": sum(p.numel() for p in run.model.parameters()),
        "vocab_size": run.tokenizer.get_vocab_size(),
        "context": run.recipe.row_length,
        "cpu_seconds": round(run.cpu_seconds),
        "log": [{key: line[key] for key in ("phase", "step", "loss")} for line in run.log],
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }


def card_text(document: dict[str, Any]) -> str:
    """The README of the model folder."""
    corpus, versions = document["corpus"], document["versions"]
    steps = " + ".join(map(str, document["steps"]))
    return f"""---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# neox-tiny

A GPT-NeoX (the architecture of Pythia) with {document["n_parameters"]:,} parameters, trained from nothing on a generated corpus, so that an
evaluation harness has a real model to measure without a download. It is not a language model for any other use.

## Domain

Inside: indirect objects, capitals and other facts of 61 countries, sums and differences of numbers to 20, subject-verb agreement,
end years after begin years, repeats of whole-word tokens, small pieces of dialogue and Python; a vocabulary of {document["vocab_size"]:,} tokens,
texts of up to {document["context"]} tokens. Sums and differences to 99 are outside: they are measured and reported, and the model mostly fails them.
Everything not named here is outside too. The facts are a small table, not knowledge to rely on.

## Scores

On items of seed {document["card_seed"]}, drawn once, after the weights were final; training was steered by items of seed {document["selection_seed"]}.
Share of items whose answer is the most likely token; for agreement, more likely than its other form; for greater_than a difference of probabilities.
What has a target is the stated domain, and a model below a target is not written.

| score | value | n | target | what |
| --- | --- | --- | --- | --- |
{_score_rows(document["scores"])}

## Training

`trialplate embedded train --seed {document["training_seed"]}`: {steps} steps of {document["tokens_per_step"]:,} tokens, {document["cpu_seconds"]} CPU seconds on one thread;
Muon for the hidden matrices and AdamW for the rest, bfloat16 autocast, float16 as stored (compute in float32). Training goes on in phases until the
scores pass. The arithmetic differs between kinds of CPU, so a model trained again has other weights; these files are the reference.

Corpus: {corpus["documents"]:,} documents, seed {corpus["seed"]}, SHA-256 `{corpus["sha256"]}` (`trialplate.tasks.corpus`). Held out of it: a tenth of the
sums, one phrasing of the capital for each country, a tenth of the scenes, sentences and years, and one indirect-object template.
The other facts (country of a capital, language, continent) are all trained. Probes and training share templates and words: these scores
say that the model has learnt this corpus, and nothing about English.
Versions: torch {versions["torch"]}, transformers {versions["transformers"]}, tokenizers {versions["tokenizers"]}.

| phase | step | loss |
| --- | --- | --- |
{_log_rows(document["log"])}

Scores at each of these steps are in `training_log.ndjson`, the table above in `scores.json`.

## Licence

MIT, weights and corpus alike.
"""


def _score_rows(scores: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, score in scores.items():
        target = "" if score["target"] is None else f"> {score['target']:.2f}"
        rows.append(f"| {name} | {score['value']:.3f} | {score['n']} | {target} | {score['meaning']} |")
    return "\n".join(rows)


def _log_rows(log: list[dict[str, Any]]) -> str:
    return "\n".join(f"| {line['phase']} | {line['step']} | {line['loss']:.3f} |" for line in log)
