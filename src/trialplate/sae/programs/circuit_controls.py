"""Positive controls of the study of a known circuit: what must be found where it was planted, and must not be found where nothing was.

A study whose controls fail says nothing of any coder: a formula that gives 0 for a perfect circuit gives 0 for every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trialplate.metrics.dictionary_recovery import recovery
from trialplate.metrics.fourier import explained_by, fourier_basis, permuted_share, top_frequencies
from trialplate.sae.config import CoderConfig
from trialplate.sae.evaluate import core_scores
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import from_tensor, split
from trialplate.sae.training import train
from trialplate.tasks.planted_circuit import planted_circuit
from trialplate.tasks.planted_dictionaries import planted


@dataclass(frozen=True)
class ControlOptions:
    """Sizes of what is planted: small, so that every study can afford it, and easy, so that a method that fails here is at fault.

    n, d, n_frequencies   numbers, channels and frequencies of the planted embedding
    n_features, steps     of the planted dictionary, and of the training of one topk coder on it
    least_f1, least_share what must be reached: F1 at a cosine of 0.9, and the share of variance of the planted frequencies"""

    n: int = 59
    d: int = 48
    n_frequencies: int = 4
    n_features: int = 20
    steps: int = 300
    least_f1: float = 0.9
    least_share: float = 0.9
    draws: int = 99
    seed: int = 0


def fourier_control(options: ControlOptions) -> dict[str, Any]:
    """A planted embedding is explained by its own frequencies, which are found; a random one of the same shape by no more than random orders of it are."""
    rng = np.random.default_rng(options.seed)
    made = planted_circuit(options.n, options.d, options.n_frequencies, 1, rng)
    found = np.sort(top_frequencies(made.embedding, options.n_frequencies))
    share = explained_by(made.embedding, fourier_basis(options.n, found))
    nothing = rng.standard_normal((options.n, options.d))
    null = permuted_share(nothing, options.n_frequencies, rng, draws=options.draws)
    return {
        "planted_frequencies": made.frequencies,
        "found_frequencies": found,
        "share": share,
        "share_of_random": null.share,
        "null_of_random": float(null.null.mean()),
        "p_of_random": null.p_value,
        "passed": bool(np.array_equal(found, made.frequencies))
        and share >= options.least_share
        and null.p_value > 0.01,
    }


def dictionary_control(options: ControlOptions) -> dict[str, Any]:
    """A topk coder trained on a planted dictionary finds its features (F1 at a cosine of 0.9); the dictionary itself is found whole, and a random one not."""
    rng = np.random.default_rng(options.seed)
    made = planted("independent", options.n_features, options.d, 12_000, 1.5, rng, orthogonal=True)
    rows, held_out = split(from_tensor(torch.from_numpy(made.x), name="planted dictionary"), 0.2, options.seed)
    config = CoderConfig("topk", d_in=options.d, d_sae=options.n_features, k=3)
    settings = TrainingSettings(
        steps=options.steps, batch_size=256, lr=1e-2, init_seed=options.seed, dead_after_tokens=5000
    )
    (trained,) = train([(config, settings)], rows, held_out)
    alive = core_scores(trained.coder, held_out).firing.alive
    found = recovery(made.features, trained.coder.W_dec.detach()[torch.from_numpy(alive)])
    truth = recovery(made.features, rng.permutation(made.features)).f1
    nothing = recovery(made.features, rng.standard_normal(made.features.shape)).f1
    return {
        "f1": found.f1,
        "precision": found.precision,
        "recall": found.recall,
        "mcc": found.mcc,
        "f1_of_truth": truth,
        "f1_of_random": nothing,
        "ev": trained.held_out["ev"],
        "passed": found.f1 >= options.least_f1 and truth == 1.0 and nothing < options.least_f1 / 2,
    }
