"""Erasure by latents: does setting a few latents to 0 remove one attribute and no other? SCR and TPP, after SAEBench (arXiv:2503.09532).

gate: never. An audit of the suite (arXiv:2605.18229) found that both fail on the noise of another seed and where the truth is known. They are here to be
compared with published tables; `Scr.gate` and `Tpp.gate` say so in every result.

Symbols: x [n, d] activations and f [n, m] latents, both means over the tokens of a text; D [m, d] decoder rows d_j; w [d] weights of a probe.
Decoding is linear, so the mean over tokens of an activation of which latents S were set to 0, with the coder's error added back, is

    x - f_S D_S        and the effect of latent j on a probe is        e_j = (mean f_j where y - mean f_j where not) <w, d_j>

SCR ranks by |e_j|; TPP sets negative differences of means to 0 first and ranks by e_j. Of the ranking the first n latents with e_j != 0 are taken.
Probes are L2 logistic regressions (there: AdamW with an L1 penalty, which depends on a seed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.logistic import Matrix, Probe, Truth, fit_logistic
from trialplate.metrics.sparse_probing import Rows, balanced_rows, contrasts
from trialplate.metrics.statistics import mean

GATE: Literal["never"] = "never"
"""What a policy may do with these scores."""
NS = (2, 5, 10, 20, 50, 100, 500)
"""Numbers of latents that SAEBench publishes."""
LEAST_GAP = 0.001
"""SCR is 0 where the clean probe is not better than the biased one by this much: there is nothing to remove."""


@dataclass(frozen=True, eq=False, slots=True)
class Texts:
    """Means over the kept tokens of every text: x [n, d] activations, f [n, m] latents, in the same order."""

    x: Matrix
    f: Matrix

    def without(self, latents: Rows, decoder: Matrix) -> Matrix:
        """The activations with some latents set to 0 and the coder's error kept; [n, d]."""
        return self.x - self.f[:, latents].astype(np.float64) @ decoder[latents]


@dataclass(frozen=True, slots=True)
class Direction:
    """One way round: accuracy of the biased probe (original) and of a clean one, and SCR_n for every n."""

    original: float
    clean: float
    by_n: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class Scr:
    """Spurious correlation removal. wanted: latents of the spurious attribute are erased, the wanted one is asked for; spurious: the reverse.

    The score is that of the direction whose original accuracy is lower. 1: erasing recovers the clean probe; 0: it changes nothing."""

    wanted: Direction
    spurious: Direction
    gate: Literal["never"] = GATE

    @property
    def score(self) -> Mapping[int, Estimate]:
        """SCR_n by n."""
        return (self.wanted if self.wanted.original <= self.spurious.original else self.spurious).by_n

    def saebench(self) -> dict[str, float]:
        """The entries that SAEBench calls `scr_metrics`."""
        named = {"scr_dir1": self.wanted.by_n, "scr_metric": self.score, "scr_dir2": self.spurious.by_n}
        return {f"{name}_threshold_{n}": e.value for name, by_n in named.items() for n, e in by_n.items()}


@dataclass(frozen=True, slots=True)
class Tpp:
    """Targeted probe perturbation by n, in [-1, 1], over classes: drop of the class whose latents are erased, mean drop of the others, and the
    first minus the second (total)."""

    total: Mapping[int, Estimate]
    intended: Mapping[int, Estimate]
    unintended: Mapping[int, Estimate]
    gate: Literal["never"] = GATE

    def saebench(self) -> dict[str, float]:
        """The entries that SAEBench calls `tpp_metrics`."""
        named = {
            "total_metric": self.total,
            "intended_diff_only": self.intended,
            "unintended_diff_only": self.unintended,
        }
        return {f"tpp_threshold_{n}_{name}": e.value for name, by_n in named.items() for n, e in by_n.items()}


def effects(f: ArrayLike, y: ArrayLike, weights: ArrayLike, decoder: ArrayLike, *, clamp: bool = False) -> Matrix:
    """e_j of every latent, [m]; with `clamp`, latents that are lower where y have none. Formula above."""
    difference = contrasts(f, y)
    along = np.asarray(decoder, dtype=np.float64) @ np.asarray(weights, dtype=np.float64)
    return (np.maximum(difference, 0) if clamp else difference) * along


def largest(values: Matrix, n: int) -> Rows:
    """Indices of the n largest values that are not 0, largest first; fewer where fewer are not 0."""
    order = np.argsort(-values, kind="stable")
    return order[values[order] != 0][:n]


def scr(
    train: Texts,
    train_labels: tuple[ArrayLike, ArrayLike],
    test: Texts,
    test_labels: tuple[ArrayLike, ArrayLike],
    decoder: ArrayLike,
    ns: Sequence[int] = NS,
) -> Scr:
    """SCR_n = (A_erased - A_original) / (A_clean - A_original), accuracies on the test texts, in both directions.

    Labels: (wanted, spurious) of each text, [n] booleans; all four combinations occur in both splits. The biased probe is fitted on the training
    texts where both agree, clean ones on all. Intervals: delta method over test texts, Student t. ValueError where a combination is missing."""
    rows = np.asarray(decoder, dtype=np.float64)
    train_truth, test_truth = _two_by_two("train", train_labels), _two_by_two("test", test_labels)
    agree = train_truth[0] == train_truth[1]
    biased = fit_logistic(train.x[agree], train_truth[0][agree])
    clean = [fit_logistic(train.x, truth) for truth in train_truth]

    def direction(asked: int, erased: int) -> Direction:
        order = np.abs(effects(train.f, train_truth[erased], clean[erased].weights, rows))
        right, best = biased.says(test.x) == test_truth[asked], clean[asked].says(test.x) == test_truth[asked]
        after = {n: biased.says(test.without(largest(order, n), rows)) == test_truth[asked] for n in ns}
        by_n = {n: _recovered(found, right, best) for n, found in after.items()}
        return Direction(float(right.mean()), float(best.mean()), by_n)

    return Scr(direction(0, 1), direction(1, 0))


def tpp(
    train: Texts,
    train_labels: Sequence[str],
    test: Texts,
    test_labels: Sequence[str],
    decoder: ArrayLike,
    rng: np.random.Generator,
    ns: Sequence[int] = NS,
) -> Tpp:
    """TPP_n = mean over classes c of (drop of c's probe when c's latents are erased - mean drop of the other probes), accuracies on test texts.

    Each class has a probe, fitted and tested against as many texts of the others. Intervals: Student t over classes. ValueError for one class."""
    classes, rows = sorted(set(train_labels)), np.asarray(decoder, dtype=np.float64)
    if len(classes) < 2:
        raise ValueError(f"TPP compares classes and wants at least two, got {classes}")
    probes: dict[str, Probe] = {}
    tests: dict[str, tuple[Rows, Truth]] = {}
    order: dict[str, Matrix] = {}
    for name in classes:
        some, truth = balanced_rows(train_labels, name, rng)
        probes[name] = fit_logistic(train.x[some], truth)
        order[name] = effects(train.f[some], truth, probes[name].weights, rows, clamp=True)
        tests[name] = balanced_rows(test_labels, name, rng)
    before = _accuracies(probes, tests, test.x)
    parts: dict[int, list[tuple[float, float]]] = {}
    for n in ns:
        parts[n] = []
        for number, name in enumerate(classes):
            drop = before - _accuracies(probes, tests, test.without(largest(order[name], n), rows))
            parts[n].append((float(drop[number]), float(np.delete(drop, number).mean())))
    return Tpp(
        {n: mean([own - others for own, others in some]) for n, some in parts.items()},
        {n: mean([own for own, _ in some]) for n, some in parts.items()},
        {n: mean([others for _, others in some]) for n, some in parts.items()},
    )


def _recovered(after: Truth, right: Truth, best: Truth) -> Estimate:
    """Ratio of two means over the same texts: r + (u_i - r v_i) / mean v averages to r, and its spread is that of r."""
    gained, gap = after.astype(np.float64) - right, best.astype(np.float64) - right
    if gap.mean() < LEAST_GAP:
        return Estimate(
            0.0, gap.size, None, None, method=f"no gap of {LEAST_GAP} between the clean and the biased probe"
        )
    ratio = gained.mean() / gap.mean()
    found = mean(ratio + (gained - ratio * gap) / gap.mean())
    return Estimate(
        float(ratio), found.n, found.stderr, found.ci, found.level, "ratio of means, delta method, Student t"
    )


def _two_by_two(split: str, labels: tuple[ArrayLike, ArrayLike]) -> tuple[Truth, Truth]:
    wanted, spurious = (np.asarray(part) for part in labels)
    if wanted.dtype != np.bool_ or spurious.dtype != np.bool_ or wanted.shape != spurious.shape or wanted.ndim != 1:
        raise ValueError(
            f"{split}: two booleans a text are wanted, got {wanted.dtype} {wanted.shape} and {spurious.dtype} {spurious.shape}"
        )
    counts = [int(((wanted == a) & (spurious == b)).sum()) for a in (False, True) for b in (False, True)]
    if 0 in counts:
        raise ValueError(
            f"{split}: texts of all four combinations of (wanted, spurious) are needed, got {counts} of FF, FT, TF, TT"
        )
    return wanted, spurious


def _accuracies(probes: Mapping[str, Probe], tests: Mapping[str, tuple[Rows, Truth]], x: Matrix) -> Matrix:
    return np.array([float((probe.says(x[tests[name][0]]) == tests[name][1]).mean()) for name, probe in probes.items()])
