"""Sparse probing: what k latents tell of a label, and whether that is more than what the activations or a random coder tell.

Symbols: features [n, m], one row a text (means over its tokens of latents, or of channels); y true or false; k = columns that a probe reads.
A task is one class against as many texts of the others. For each k the columns are those whose class means differ most on the training rows; an
L2 logistic regression (C = 1) reads them. Which k is reported is decided on the validation rows; the test rows are looked at once, at the end.
After Gurnee et al. 2023 (arXiv:2305.01610) and the `sparse_probing` evaluation of SAEBench (arXiv:2503.09532), which reports every k.

Two scores are compared on the same items or not at all: `Probed.items` names them, and a difference of other items is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.firings import slices
from trialplate.metrics.logistic import Matrix, Probe, Truth, check_rows, fit_logistic
from trialplate.metrics.paired_auroc import auroc_difference, auroc_estimate
from trialplate.metrics.statistics import mean, paired_difference, proportion

Rows = NDArray[np.intp]
ChosenBy = Literal["auroc", "accuracy"]
KS = (1, 2, 5)
"""Numbers of columns that SAEBench publishes."""


@dataclass(frozen=True, eq=False, slots=True)
class AtK:
    """One probe. columns: [k] those it reads; the validation scores it was judged by; test_logits: [n_test]."""

    columns: Rows
    probe: Probe
    valid_accuracy: float
    valid_auroc: float
    test_logits: Matrix

    @property
    def k(self) -> int:
        """Number of columns."""
        return self.columns.size


@dataclass(frozen=True, eq=False, slots=True)
class Probed:
    """One task, probed: every k, the one that validation chose, and the labels of the test rows. `items` names the rows, "" where unknown."""

    by_k: tuple[AtK, ...]
    chosen: AtK
    test_y: Truth
    items: str = ""

    def correct(self, at: AtK | None = None) -> Truth:
        """Whether each test row was classified rightly, by the chosen probe or another; [n_test]."""
        found: Truth = ((at or self.chosen).test_logits > 0) == self.test_y
        return found

    def accuracy(self, at: AtK | None = None) -> Estimate:
        """Share of test rows classified rightly; 0.5 is chance, since classes are balanced. Wilson's interval over rows."""
        return proportion(self.correct(at).astype(np.float64))

    def auroc(self, at: AtK | None = None) -> Estimate:
        """Area under the ROC curve on the test rows; 0.5 is chance."""
        return auroc_estimate((at or self.chosen).test_logits, self.test_y)


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy and AUROC over several tasks, or the differences of both; n = tasks. A difference also comes by item: clusters are texts."""

    accuracy: Estimate
    auroc: Estimate
    accuracy_items: Estimate | None = None


def sparse_probe(
    train_f: ArrayLike,
    train_y: ArrayLike,
    valid_f: ArrayLike,
    valid_y: ArrayLike,
    test_f: ArrayLike,
    test_y: ArrayLike,
    ks: Sequence[int] = KS,
    *,
    C: float = 1.0,
    choose: ChosenBy = "auroc",
    items: str = "",
) -> Probed:
    """Probes on the k columns of largest |mean of the class - mean of the others| on train (ties: the lower column), for every k.

    Features [n, m] and labels [n] (booleans) of three splits. The k of the best validation score is chosen, the smaller of equal ones.
    ValueError for no k, k < 1 or k > m, widths that differ, one class only in a split, or values that are not finite."""
    splits = _splits((train_f, train_y), (valid_f, valid_y), (test_f, test_y))
    wanted, width = sorted(set(ks)), splits[0][0].shape[1]
    if not wanted or wanted[0] < 1 or wanted[-1] > width:
        raise ValueError(f"a sparse probe reads 1 to {width} columns, got k in {list(ks)}")
    order = by_contrast(*splits[0])
    by_k = tuple(_at(splits, order[:k], C) for k in wanted)
    chosen = max(by_k, key=lambda at: at.valid_auroc if choose == "auroc" else at.valid_accuracy)  # the first of equals
    return Probed(by_k, chosen, splits[2][1], items)


def dense_probe(
    train_f: ArrayLike,
    train_y: ArrayLike,
    valid_f: ArrayLike,
    valid_y: ArrayLike,
    test_f: ArrayLike,
    test_y: ArrayLike,
    *,
    C: float = 1.0,
    items: str = "",
) -> Probed:
    """The same probe on all columns: what the features hold at all. A reference, not a baseline: five latents cannot be asked to reach it."""
    splits = _splits((train_f, train_y), (valid_f, valid_y), (test_f, test_y))
    at = _at(splits, np.arange(splits[0][0].shape[1]), C)
    return Probed((at,), at, splits[2][1], items)


def by_contrast(features: ArrayLike, y: ArrayLike) -> Rows:
    """All columns, the largest |mean where y - mean where not| first; equal ones by number. [m]"""
    return np.argsort(-np.abs(contrasts(features, y)), kind="stable")


def contrasts(features: ArrayLike, y: ArrayLike) -> Matrix:
    """Mean where y minus mean where not, of every column; [m], in the unit of the features. ValueError as `check_rows`."""
    rows, truth = check_rows(features, y)
    found = np.empty(rows.shape[1])
    for some in slices(rows.shape[1], len(rows)):  # sums in float64 without a second copy of a wide code
        block = rows[:, some].astype(np.float64)
        found[some] = block[truth].mean(axis=0) - block[~truth].mean(axis=0)
    return found


def principal_columns(train_f: ArrayLike, *others: ArrayLike, k: int) -> tuple[Matrix, ...]:
    """Features on the first k principal axes of the training rows, train first: [n, k] each. A dense baseline with as few columns as a sparse probe.

    Centred on the training mean. ValueError for k outside 1 .. min(n, m), and for rows of another width."""
    train = np.asarray(train_f, dtype=np.float64)
    if train.ndim != 2 or not 1 <= k <= min(train.shape):
        raise ValueError(f"principal axes of {train.shape} rows are 1 to {min(train.shape, default=0)}, got k={k}")
    middle = train.mean(axis=0)
    axes = np.linalg.svd(train - middle, full_matrices=False)[2][:k]
    return tuple((np.asarray(f, dtype=np.float64) - middle) @ axes.T for f in (train, *others))


def difference(first: Probed, second: Probed) -> Scores:
    """First minus second on one task, both as validation chose them, paired by test row; n = rows.

    ValueError where they were not probed on the same items: a baseline of other items is no baseline."""
    _require_same("this task", first, second)
    accuracy = paired_difference(first.correct().astype(np.float64), second.correct().astype(np.float64))
    auroc = auroc_difference(first.chosen.test_logits, second.chosen.test_logits, first.test_y)
    return Scores(accuracy, auroc, accuracy)


def over_tasks(probed: Mapping[str, Probed], k: int | None = None) -> Scores:
    """Mean accuracy and AUROC over tasks, each task alike; of the chosen probes, or of those with k columns. Student t over tasks.

    ValueError for no task, or one that was not probed with k columns."""
    if not probed:
        raise ValueError("no task was probed, so there is no mean over tasks")
    at = {name: _with_k(name, task, k) for name, task in probed.items()}
    accuracy = [float(task.correct(at[name]).mean()) for name, task in probed.items()]
    return Scores(mean(accuracy), mean([task.auroc(at[name]).value for name, task in probed.items()]))


def difference_over_tasks(
    first: Mapping[str, Probed], second: Mapping[str, Probed], documents: Mapping[str, Iterable[Hashable]]
) -> Scores:
    """First minus second, paired by task (Student t, n = tasks), and for accuracy also by item, clustered by text.

    documents: for every task the text of each test row; one text is an item of several tasks, and those do not err independently.
    ValueError where one side lacks a task or has other items in one: nothing is left out of a mean."""
    if not first or first.keys() != second.keys():
        raise ValueError(f"a difference wants the same tasks on both sides, got {sorted(first)} and {sorted(second)}")
    for name in first:
        _require_same(f"task {name!r}", first[name], second[name])
    one, two = _values(first), _values(second)
    hits = [np.concatenate([side[name].correct() for name in first]).astype(np.float64) for side in (first, second)]
    clusters = [text for name in first for text in documents[name]]
    return Scores(
        paired_difference(one[:, 0], two[:, 0]),
        paired_difference(one[:, 1], two[:, 1]),
        paired_difference(hits[0], hits[1], clusters=clusters),
    )


def balanced_rows(labels: Sequence[str], positive: str, rng: np.random.Generator) -> tuple[Rows, Truth]:
    """(rows, whether each is of the class): all of one class and as many of the others, drawn without replacement; in ascending order.

    Where the others are fewer, so many of the class are drawn. ValueError where there is none of either."""
    is_class = np.array([label == positive for label in labels], dtype=np.bool_)
    own, others = np.flatnonzero(is_class), np.flatnonzero(~is_class)
    n = min(own.size, others.size)
    if n == 0:
        raise ValueError(
            f"class {positive!r} against the others: {own.size} rows of it and {others.size} of them; both are needed in every split"
        )
    rows = np.sort(np.concatenate([rng.choice(own, n, replace=False), rng.choice(others, n, replace=False)]))
    return rows, is_class[rows]


def digest_of_items(parts: Iterable[tuple[str, Iterable[str], Iterable[bool]]]) -> str:
    """SHA-256 (hexadecimal) of (split, ids, labels) of a task: two probes that share it were fitted and tested on the same rows."""
    digest = hashlib.sha256()
    for split, ids, labels in parts:
        digest.update(repr((split, list(ids), [bool(label) for label in labels])).encode())
    return digest.hexdigest()


def _splits(*pairs: tuple[ArrayLike, ArrayLike]) -> list[tuple[NDArray[Any], Truth]]:
    splits = [check_rows(features, y) for features, y in pairs]
    if len(widths := {features.shape[1] for features, _ in splits}) > 1:
        raise ValueError(f"train, valid and test have the same columns, got {sorted(widths)}")
    return splits


def _values(probed: Mapping[str, Probed]) -> Matrix:
    """(accuracy, AUROC) of the chosen probe of every task, [tasks, 2]."""
    return np.array([(float(task.correct().mean()), task.auroc().value) for task in probed.values()])


def _at(splits: Sequence[tuple[NDArray[Any], Truth]], columns: Rows, C: float) -> AtK:
    (train, train_y), (valid, valid_y), (test, _) = splits
    probe = fit_logistic(train[:, columns], train_y, C=C)
    logits = probe.logits(valid[:, columns])
    accuracy, auroc = float(((logits > 0) == valid_y).mean()), auroc_estimate(logits, valid_y).value
    return AtK(columns, probe, accuracy, auroc, probe.logits(test[:, columns]))


def _with_k(name: str, task: Probed, k: int | None) -> AtK:
    if k is None:
        return task.chosen
    for at in task.by_k:
        if at.k == k:
            return at
    raise ValueError(f"task {name!r} was probed with k in {[at.k for at in task.by_k]}, not with {k}")


def _require_same(what: str, first: Probed, second: Probed) -> None:
    if first.items != second.items or not np.array_equal(first.test_y, second.test_y):
        raise ValueError(
            f"{what}: a difference is taken on the same items, got items {first.items[:12] or 'unnamed'} with {first.test_y.size} test rows and "
            f"{second.items[:12] or 'unnamed'} with {second.test_y.size}; probe both sides on the rows of one task"
        )
