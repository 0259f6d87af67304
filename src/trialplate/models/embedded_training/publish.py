"""Train, check, write: a model that misses a target is never written, and what is written was checked as stored.

The folder is what `AutoModelForCausalLM.from_pretrained` reads: float16 weights (to be computed with in float32), tokenizer,
configuration; and beside them the card, its numbers for machines, and the training log.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from trialplate.models.embedded_training.card import card_text, scores_document
from trialplate.models.embedded_training.evaluate import Score, scores
from trialplate.models.embedded_training.loop import Progress, Training, one_thread, train
from trialplate.models.embedded_training.recipe import CARD_SEED, SELECTION_SEED, SHIPPED, SHIPPED_SEED, Recipe, missed
from trialplate.models.embedded_training.tokenizer import write_tokenizer


class TargetsMissed(RuntimeError):
    """Training ended without reaching its targets; nothing was written."""


@dataclass(frozen=True, slots=True)
class Built:
    """The folder that was written and what its model scores on the items of the card."""

    outdir: Path
    scores: dict[str, Score]
    cpu_seconds: float


def build(
    outdir: Path,
    *,
    seed: int = SHIPPED_SEED,
    device: str = "cpu",
    progress: Progress | None = None,
    recipe: Recipe = SHIPPED,
) -> Built:
    """Trains an embedded model and writes it to the new or empty folder `outdir`; about fifteen minutes of one CPU thread.

    FileExistsError if outdir holds anything (checked before training); TargetsMissed, naming scores and targets, if the phases
    are used up below them: then nothing is written. `progress(step, steps, text)` is called every 20 steps."""
    if outdir.exists() and any(outdir.iterdir()):
        raise FileExistsError(
            f"{outdir} is not empty; an embedded model is written to a new or empty folder, name another one"
        )
    return publish(train(recipe=recipe, seed=seed, device=device, progress=progress), outdir)


def publish(run: Training, outdir: Path) -> Built:
    """Writes a training beside `outdir`, scores what was stored, and moves it into place only if that reaches every target."""
    _refuse(run.missed, "after the last phase")
    outdir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=outdir.parent, prefix=f".{outdir.name}-") as name:
        folder = Path(name)
        write_weights(run, folder)
        write_tokenizer(run.tokenizer, folder, run.recipe.row_length)
        with one_thread():
            model = load_stored(folder)
            _refuse(missed(scores(model, run.tokenizer, SELECTION_SEED)), "once stored as float16")
            on_card = scores(model, run.tokenizer, CARD_SEED)
        _write_card(run, on_card, folder)
        outdir.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir()):
            file.chmod(0o644)
            shutil.move(file, outdir / file.name)
    return Built(outdir, on_card, run.cpu_seconds)


def write_weights(run: Training, folder: Path) -> None:
    """model.safetensors in float16, in the key names that the library publishes, and config.json that asks for float32 arithmetic."""
    stored = AutoModelForCausalLM.from_config(run.model.config, dtype=torch.float16)
    stored.load_state_dict(run.model.state_dict())
    stored.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "generation_config.json").unlink(missing_ok=True)


def load_stored(folder: Path) -> nn.Module:
    """The model of a folder in float32, in eval mode, from local files only."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval()


def _refuse(texts: list[str], when: str) -> None:
    if texts:
        raise TargetsMissed(
            f"the model misses {len(texts)} of its targets {when}: {'; '.join(texts)}. Nothing was written; "
            f"train with another seed or with more phases (recipe.py)"
        )


def _write_card(run: Training, on_card: dict[str, Score], folder: Path) -> None:
    document = scores_document(run, on_card)
    (folder / "scores.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    lines = "".join(json.dumps(line) + "\n" for line in run.log)
    (folder / "training_log.ndjson").write_text(lines, encoding="utf-8")
    (folder / "README.md").write_text(card_text(document), encoding="utf-8")
