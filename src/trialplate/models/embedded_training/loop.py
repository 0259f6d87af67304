"""The training loop: Muon for the hidden matrices, AdamW for the rest, one thread, the same result for the same seed on the CPU.

Circuits of this model form abruptly and in an order that differs by seed, so training is in phases and goes on until the
scores pass: a fixed number of steps is not safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from transformers import GPTNeoXForCausalLM

from trialplate.models.embedded_training.batches import Packer
from trialplate.models.embedded_training.evaluate import Score, scores
from trialplate.models.embedded_training.recipe import SELECTION_SEED, Phase, Recipe, missed
from trialplate.models.embedded_training.tokenizer import train_tokenizer
from trialplate.tasks.corpus import corpus, corpus_digest

Progress = Callable[[int, int, str], None]
"""Called with (step, steps of this phase, what to show)."""


@dataclass
class Training:
    """What a training produced, written or not."""

    model: nn.Module
    tokenizer: Tokenizer
    recipe: Recipe
    seed: int
    corpus_digest: str
    log: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, Score] = field(default_factory=dict)
    cpu_seconds: float = 0.0

    @property
    def missed(self) -> list[str]:
        """The targets not reached on the selection seed."""
        return missed(self.scores)


@contextmanager
def one_thread(device: str = "cpu") -> Iterator[None]:
    """One thread inside and, on the CPU, deterministic algorithms; what was set before outside. Accelerators promise no repetition."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(device == "cpu")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def fresh_model(recipe: Recipe, vocab_size: int, seed: int) -> nn.Module:
    """An untrained model; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every accelerator too
        return GPTNeoXForCausalLM(recipe.config(vocab_size))


def train(*, recipe: Recipe, seed: int = 0, device: str = "cpu", progress: Progress | None = None) -> Training:
    """Tokenizer, corpus and model from the recipe; phases until the targets are reached or the phases are used up."""
    started = time.process_time()
    documents = corpus(recipe.corpus_seed, recipe.corpus_size)
    tokenizer = train_tokenizer((d.text for d in documents[: recipe.tokenizer_documents]), recipe.vocab_size)
    packer = Packer(tokenizer, documents, rows=recipe.rows, row_length=recipe.row_length, seed=seed)
    model = fresh_model(recipe, tokenizer.get_vocab_size(), seed).to(device)
    run = Training(model, tokenizer, recipe, seed, corpus_digest(documents))
    with one_thread(device):
        for number, phase in enumerate(recipe.phases):
            _run_phase(run, packer, number, phase, progress)
            if not run.missed:
                break
    model.eval()
    run.cpu_seconds = time.process_time() - started
    return run


def _run_phase(run: Training, packer: Packer, number: int, phase: Phase, progress: Progress | None) -> None:
    optimizers = _optimizers(run.model, run.recipe, phase)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, phase.steps, run.recipe.warmup))
        for optimizer in optimizers
    ]
    run.model.train()
    for step, (ids, weights) in zip(range(1, phase.steps + 1), packer.batches(phase.induction_share), strict=False):
        loss = _step(run.model, ids, weights, optimizers, run.recipe.clip)
        for schedule in schedules:
            schedule.step()
        last = step == phase.steps
        if last or step % run.recipe.score_every == 0:
            run.model.eval()
            run.scores = scores(run.model, run.tokenizer, SELECTION_SEED)
            run.model.train()
            values = {name: round(score.value, 4) for name, score in sorted(run.scores.items())}
            run.log.append({"phase": number, "step": step, "loss": round(loss.item(), 4), "scores": values})
        if progress is not None and (last or step % 20 == 0):
            progress(
                step,
                phase.steps,
                f"phase {number} loss {loss.item():.3f}; missed: {', '.join(run.missed) or 'nothing'}",
            )


def _step(
    model: nn.Module, ids: torch.Tensor, weights: torch.Tensor, optimizers: list[torch.optim.Optimizer], clip: float
) -> torch.Tensor:
    """One update; returns the weighted mean loss (nats) before it."""
    device = next(model.parameters()).device
    ids, weights = ids.to(device), weights.to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        logits = model(input_ids=ids[:, :-1]).logits
    nll = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (nll * weights.flatten()).sum() / weights.sum()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _optimizers(model: nn.Module, recipe: Recipe, phase: Phase) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers; AdamW for embeddings, head, norms and biases."""
    hidden = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    inside = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(hidden, lr=phase.muon_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=recipe.adamw_lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay),
    ]


def _rate(step: int, steps: int, warmup: int) -> float:
    """Share of the full learning rate: linear up over the warm-up, then linear to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))
