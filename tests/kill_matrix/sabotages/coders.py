"""Faults of training coders, of their files, of putting them in place, and of what is said of them. Each runs the files of evals that are about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from tests.kill_matrix import sabotage
from tests.kill_matrix.sabotage import Sabotage

from trialplate.metrics import absorption, contrastive, seed_tables
from trialplate.metrics.estimate import Estimate
from trialplate.sae import evaluate, learner, probing, training
from trialplate.sae.coder import Coder
from trialplate.sae.formats import saelens_writing
from trialplate.sae.learner import Learner
from trialplate.sae.programs import circuit, ood_stress
from trialplate.sae.splice import Splice

Change = tuple[Any, str, Any]


def on(*files: str) -> Callable[..., Sabotage]:
    """A fault under which these files of evals run."""
    return partial(sabotage.on_code, paths=tuple(f"evals/sae/test_{file}.py" for file in files))


def nothing_learned() -> Change:
    return Learner, "_move", lambda self: None


def scale_not_folded() -> Change:
    honest = training.folded
    return training, "folded", lambda coder, scales: honest(coder, replace(scales, input=1.0, target=1.0))


def no_threshold() -> Change:
    def fit(coder: Coder, *args: Any, **kwargs: Any) -> Coder:
        coder.threshold.fill_(0.0)
        return coder

    return training, "fit_threshold", fit


def half_of_the_latents_dead() -> Change:
    honest = training.folded

    def folded(coder: Coder, scales: Any) -> Coder:
        raw = honest(coder, scales)
        raw.encoder[::2] = 0
        raw.b_enc[::2] = -1e6
        return raw

    return training, "folded", folded


def learned_by_heart() -> Change:
    """Every batch is the first few rows."""
    honest = training.Order.batch
    return training.Order, "batch", lambda self, number, size: honest(self, 0, size)[: size // 16].repeat(16)


def rows_of_any_length() -> Change:
    return learner, "renormalise", lambda coder: coder.W_dec.mul_(1.001)


def variance_about_zero() -> Change:
    return evaluate, "target_mean", lambda rows, *args: torch.zeros(rows.read(0, 1)[1].shape[1], dtype=torch.float64)


def coder_not_in_place() -> Change:
    honest = Splice._made

    def made(self: Splice, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y if self.mode == "replace" else honest(self, x, y)

    return Splice, "_made", made


def error_lost() -> Change:
    def made(self: Splice, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.mode == "zero":
            return torch.zeros_like(y)
        assert self.coder is not None
        return self.coder(x.to(self.coder.W_dec)).to(y)

    return Splice, "_made", made


def bias_not_written() -> Change:
    honest = saelens_writing._tensors

    def tensors(coder: Coder) -> Any:
        found = honest(coder)
        return {**found, "b_dec": torch.zeros_like(found["b_dec"])}

    return saelens_writing, "_tensors", tensors


def seeds_ignored() -> Change:
    honest = learner.initialise

    def initialise(coder: Coder, generator: torch.Generator, **more: Any) -> Coder:
        return honest(coder, torch.Generator().manual_seed(0), **more)

    return learner, "initialise", initialise


def chance_forgotten() -> Change:
    nothing = Estimate(0.0, 2, 0.0, (0.0, 0.0))
    return seed_tables.CoderSet, "chance", lambda self, *args, **kwargs: nothing


def labels_of_other_texts() -> Change:
    honest = probing.tasks_of

    def tasks_of(labelled: Any, rng: Any, which: Any = "label") -> Any:
        other = np.random.default_rng(0)
        return [
            replace(task, truth=tuple(other.permutation(truth) for truth in task.truth))
            for task in honest(labelled, rng, which)
        ]

    return probing, "tasks_of", tasks_of


def shifted_labels_of_other_texts() -> Change:
    honest = ood_stress._parts

    def parts(shift: Any) -> Any:
        other = np.random.default_rng(0)
        return [
            (name, tuple(text._replace(label=int(label)) for text, label in zip(texts, other.permutation([t.label for t in texts]), strict=True)))
            for name, texts in honest(shift)
        ]  # fmt: skip

    return ood_stress, "_parts", parts


def scores_not_standardised() -> Change:
    return contrastive, "standardised", lambda values: 1000 * np.atleast_2d(np.asarray(values, dtype=np.float64))


def parents_own_latents_absorb() -> Change:
    honest = absorption.absorption_fraction
    nobody = np.array([], dtype=np.intp)
    return absorption, "absorption_fraction", lambda q, c, p, main, rules=None: honest(q, c, p, nobody, rules)


def planes_of_other_frequencies() -> Change:
    honest = circuit.fourier_basis
    return circuit, "fourier_basis", lambda n, frequencies: honest(n, [(k % ((n - 1) // 2)) + 1 for k in frequencies])


SABOTAGES: tuple[Sabotage, ...] = (
    on("reconstruction", "preservation", "stability", "planted", "studies")("untrained-coders", "Training moves no weight.", nothing_learned),
    on("reconstruction", "preservation")("scale-not-folded", "Coders keep the scale of training in their biases and thresholds.", scale_not_folded),
    on("reconstruction")("no-threshold", "A batchtopk coder is used without the threshold that it needs.", no_threshold),
    on("reconstruction")("dead-latents", "Half of the latents can never fire.", half_of_the_latents_dead),
    on("reconstruction")("few-rows", "Every batch of training is the same sixteen rows.", learned_by_heart),
    on("reconstruction")("variance-about-zero", "Explained variance is counted about zero.", variance_about_zero),
    on("preservation", "reconstruction")("coder-not-in-place", "A coder is said to stand in for activations, and does not.", coder_not_in_place),
    on("preservation")("error-lost", "The error of a coder is said to be added back, and is not.", error_lost),
    on("files")("bias-not-written", "A coder's file has zeros for its decoder bias.", bias_not_written),
    on("files")("rows-of-any-length", "Decoder rows grow a little with every step.", rows_of_any_length),
    on("stability")("seeds-ignored", "Every seed begins with the same weights.", seeds_ignored),
    on("stability")("chance-forgotten", "The chance level of stability is taken to be zero.", chance_forgotten),
    on("probing")("probe-labels-shuffled", "Texts and labels of probes no longer belong together.", labels_of_other_texts),
    on("probing")("scores-not-standardised", "CE-Bench scores are not divided by their spread.", scores_not_standardised),
    on("studies")("shift-labels-shuffled", "Texts and labels of the shift no longer belong together.", shifted_labels_of_other_texts),
    on("planted")("own-latents-absorb", "A parent's own latents count as absorbing it.", parents_own_latents_absorb),
    on("planted")("other-frequencies", "A circuit is looked for at the frequencies beside its own.", planes_of_other_frequencies),
)  # fmt: skip
