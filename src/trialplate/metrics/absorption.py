"""Absorption: a latent that stands for a parent stays silent where a latent of one child fires, and the child's latent carries the parent along.

Symbols: n words (or tokens), d channels, m latents; x [n, d] activations, f [n, m] latents, D [m, d] decoder rows d_j; v [d] the unit direction of
a probe for the parent, p = <x, v>, c_j = cos(d_j, v), q_j = f_j <d_j, v>, which is f_j c_j for unit rows and does not change when a latent
is rescaled. Main latents of a parent: its split latents, those that a sparse probe wants. Per word that the probe gets right:

    full      1 where every main latent is off (f < 1e-8) and the latent of largest q has c >= 0.025 and q / p >= 0.4, with p > 0; else 0
    fraction  A = sum of the 3 largest q_j > 0 with c_j >= 0.1 outside the main latents, M = sum of q over them;
              0 if M >= p or A < 0.4 p; 1 if M <= 0; else a / (a + M) with a = min(A, p - M)

After Chanin et al. 2024 (arXiv:2409.14507) and the `absorption_first_letter` evaluation of SAEBench (arXiv:2503.09532), where parents are
first letters of words. Here a parent is any label with a probe. Latents are ranked for the sparse probe by mean where the label holds minus mean
elsewhere (there: by the weights of a probe with an L1 penalty, which depend on its seed). A child so frequent that its latent raises F1 by more
than 0.03 is a split latent and absorbs nothing, by definition: absorption is about rare children. All constants are in `Rules`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.logistic import Matrix, Probe, Truth, check_rows, fit_logistic
from trialplate.metrics.sparse_probing import Rows, contrasts
from trialplate.metrics.statistics import mean, proportion


@dataclass(frozen=True, slots=True)
class Rules:
    """The constants of the definition; shares are of p, cosines are to the probe's direction.

    max_k, f1_growth  sparse probes of 1 .. max_k latents; a split latent raises F1 by more than f1_growth
    off               activations below this count as silent
    full_cosine, full_share      what the one absorbing latent of full absorption needs
    n_absorbers, cosine, share   how many latents may absorb a fraction, and what they need
    min_words, min_f1            parents with fewer positive words, or a probe of lower F1, are left out and named"""

    max_k: int = 10
    f1_growth: float = 0.03
    off: float = 1e-8
    full_cosine: float = 0.025
    full_share: float = 0.4
    n_absorbers: int = 3
    cosine: float = 0.1
    share: float = 0.4
    min_words: int = 20
    min_f1: float = 0.6


@dataclass(frozen=True, eq=False, slots=True)
class Parent:
    """Absorption of one parent.

    split: its main latents; f1_by_k: F1 of the sparse probes that were tried; probe_f1: of the probe on activations
    words: [t] rows of the words that the probe gets right; full, fractions: [t] their scores; full_rate, fraction: the means"""

    split: tuple[int, ...]
    f1_by_k: tuple[float, ...]
    probe_f1: float
    words: Rows
    full: Truth
    fractions: Matrix
    full_rate: Estimate
    fraction: Estimate


@dataclass(frozen=True, slots=True)
class Absorption:
    """Means over parents, each alike, in [0, 1]; lower is better. n_split: split latents a parent. left_out: reasons, by name."""

    fraction: Estimate
    full: Estimate
    n_split: Estimate
    parents: Mapping[str, Parent]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def saebench(self) -> dict[str, float]:
        """The entries that SAEBench calls `mean`; a standard deviation needs two parents and is left out for one."""
        named = {
            "absorption_fraction_score": self.fraction,
            "full_absorption_score": self.full,
            "num_split_features": self.n_split,
        }
        found = {f"mean_{name}": estimate.value for name, estimate in named.items()}
        spread = {name: e.stderr * math.sqrt(e.n) for name, e in named.items() if e.stderr is not None}
        return found | {f"std_dev_{name}": value for name, value in spread.items()}


def f1(says: ArrayLike, truth: ArrayLike) -> float:
    """2 TP / (2 TP + FP + FN), in [0, 1]. ValueError where no row is positive: there is nothing to find."""
    found, wanted = np.asarray(says, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    if found.shape != wanted.shape or not wanted.any():
        raise ValueError(
            f"F1 wants one verdict a label and a positive label, got {found.shape} and {wanted.shape}, {wanted.sum()} positive"
        )
    return 2 * float((found & wanted).sum()) / float(found.sum() + wanted.sum())


def split_latents(
    train_f: ArrayLike, train_y: ArrayLike, test_f: ArrayLike, test_y: ArrayLike, rules: Rules | None = None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """(main latents, F1 of each k tried): the k latents of largest contrast, k growing from 1 while F1 on test rises by more than f1_growth.

    Sparse probes weigh both classes alike (`fit_logistic(balanced=True)`). ValueError as `check_rows`."""
    rules = rules or Rules()
    order = np.argsort(-contrasts(train_f, train_y), kind="stable")
    train, test = np.asarray(train_f), np.asarray(test_f)
    scores: list[float] = []
    for k in range(1, min(rules.max_k, order.size) + 1):
        probe = fit_logistic(train[:, order[:k]], train_y, balanced=True)
        scores.append(f1(probe.says(test[:, order[:k]]), test_y))
        if k > 1 and not scores[-1] > scores[-2] + rules.f1_growth:
            return tuple(order[: k - 1].tolist()), tuple(scores)
    return tuple(order[: len(scores)].tolist()), tuple(scores)


def projections(f: ArrayLike, decoder: ArrayLike, direction: ArrayLike) -> tuple[Matrix, Matrix]:
    """(q [n, m], c [m]): what every latent adds along the unit direction, and the cosine of its decoder row to it; 0 for a row of zeros."""
    rows = np.asarray(decoder, dtype=np.float64)
    along = rows @ _unit(direction)
    norms = np.linalg.norm(rows, axis=1)
    return np.asarray(f, dtype=np.float64) * along, np.divide(along, norms, out=np.zeros_like(along), where=norms > 0)


def full_absorption(
    f: ArrayLike, q: Matrix, c: Matrix, p: Matrix, main: ArrayLike, rules: Rules | None = None
) -> Truth:
    """Whether each word is absorbed by one latent; [n]. Definition above."""
    rules = rules or Rules()
    latents, columns = np.asarray(f), np.asarray(main, dtype=np.intp)
    silent = (latents[:, columns] < rules.off).all(axis=1)
    top = q.argmax(axis=1)
    absorbs: Truth = (
        silent & (c[top] >= rules.full_cosine) & (p > 0) & (q[np.arange(len(q)), top] >= rules.full_share * p)
    )
    return absorbs


def absorption_fraction(q: Matrix, c: Matrix, p: Matrix, main: ArrayLike, rules: Rules | None = None) -> Matrix:
    """The share of each word's parent that other latents carry; [n] in [0, 1]. Definition above; 0 where p <= 0."""
    rules = rules or Rules()
    columns = np.asarray(main, dtype=np.intp)
    own = q[:, columns].sum(axis=1)
    others = np.where(c >= rules.cosine, np.maximum(q, 0), 0)
    others[:, columns] = 0
    n = min(rules.n_absorbers, others.shape[1])
    absorbed = np.partition(others, others.shape[1] - n, axis=1)[:, -n:].sum(axis=1)
    taken = np.minimum(absorbed, p - own)
    whole = np.where(own > 0, taken + own, 1.0)
    share = np.where(own > 0, taken / whole, 1.0)
    return np.where((p <= 0) | (own >= p) | (absorbed < rules.share * p), 0.0, share)


def absorption(
    train_f: ArrayLike,
    train_y: Mapping[str, ArrayLike],
    test_f: ArrayLike,
    test_y: Mapping[str, ArrayLike],
    test_x: ArrayLike,
    decoder: ArrayLike,
    probes: Mapping[str, Probe],
    rules: Rules | None = None,
) -> Absorption:
    """Absorption of every parent, split latents found on train and test latents, scores on the test words.

    train_f [n, m], test_f [t, m], test_x [t, d], decoder [m, d]; labels by parent, [n] and [t] booleans; a probe [d] a parent, fitted on other
    words or known to be true (its bias may be 0). ValueError where every parent is left out, and for shapes that do not fit."""
    rules = rules or Rules()
    latents, x, rows = np.asarray(test_f), np.asarray(test_x, dtype=np.float64), np.asarray(decoder, dtype=np.float64)
    if latents.shape[1:] != rows.shape[:1] or x.shape != (len(latents), rows.shape[1]):
        raise ValueError(
            f"latents [t, m], activations [t, d] and decoder [m, d] go together, got {latents.shape}, {x.shape}, {rows.shape}"
        )
    parents: dict[str, Parent] = {}
    left_out: dict[str, str] = {}
    for name, truth in test_y.items():
        _, labels = check_rows(x, truth)
        score = f1(probes[name].says(x), labels)
        if labels.sum() < rules.min_words:
            left_out[name] = f"{labels.sum()} words, wanted {rules.min_words}"
        elif not score >= rules.min_f1:
            left_out[name] = f"its probe has F1 {score:.3f}, wanted {rules.min_f1}"
        else:
            split = split_latents(train_f, train_y[name], latents, labels, rules)
            parents[name] = _parent(latents, x, rows, probes[name], labels, split, score, rules)
    if not parents:
        raise ValueError(f"absorption was measured for none of {len(test_y)} parents: {_reasons(left_out)}")
    return Absorption(
        mean([parent.fraction.value for parent in parents.values()]),
        mean([parent.full_rate.value for parent in parents.values()]),
        mean([len(parent.split) for parent in parents.values()]),
        parents,
        left_out,
    )


def _parent(
    f: NDArray[Any],
    x: Matrix,
    decoder: Matrix,
    probe: Probe,
    labels: Truth,
    split: tuple[tuple[int, ...], tuple[float, ...]],
    probe_f1: float,
    rules: Rules,
) -> Parent:
    main, f1_by_k = split
    words = np.flatnonzero(probe.says(x) & labels)
    q, c = projections(f[words], decoder, probe.weights)
    p = x[words] @ _unit(probe.weights)
    full = full_absorption(f[words], q, c, p, main, rules)
    fractions = absorption_fraction(q, c, p, main, rules)
    rate = proportion(full.astype(np.float64))
    return Parent(main, f1_by_k, probe_f1, words, full, fractions, rate, proportion(fractions))


def _unit(direction: ArrayLike) -> Matrix:
    vector = np.asarray(direction, dtype=np.float64)
    norm = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not (norm > 0 and math.isfinite(norm)):
        raise ValueError(
            f"the direction of a probe is a vector [d] of some length, got shape {vector.shape}, length {norm}"
        )
    return vector / norm


def _reasons(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
