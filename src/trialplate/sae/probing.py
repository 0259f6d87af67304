"""Sparse probing of a coder at a site: its latents against the channels that it reads and against a random coder, on the very same texts.

Arms: "coder"; "raw", as many channels of the activations; "random", a coder of the same width that learned nothing; "dense", all channels, a reference
and no baseline; and, when asked for, "principal", the first principal axes. All come from one pass and are probed on the rows of the same tasks; nothing
is kept between calls, so nothing can be compared with the numbers of another one. See `metrics.sparse_probing` for what a probe is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from trialplate.activations.sites import Point
from trialplate.metrics.sparse_probing import (
    KS,
    Probed,
    Rows,
    Scores,
    balanced_rows,
    dense_probe,
    difference_over_tasks,
    digest_of_items,
    over_tasks,
    principal_columns,
    sparse_probe,
)
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError
from trialplate.sae.pooled import RAW, pool, text_ids
from trialplate.tasks.labelled_texts import SPLITS, LabelledSet

CODER, RANDOM, DENSE, PRINCIPAL = "coder", "random", "dense", "principal"
Which = Literal["label", "second"]


@dataclass(frozen=True, eq=False)
class Task:
    """One class against as many texts of the others: rows and truth of train, valid and test; `items` is their digest."""

    name: str
    rows: tuple[Rows, Rows, Rows]
    truth: tuple[np.ndarray, np.ndarray, np.ndarray]
    items: str


@dataclass(frozen=True, eq=False)
class Probing:
    """Every arm on every task. name, texts: the set and its digest; documents: by task the ids of its test texts."""

    name: str
    texts: str
    arms: Mapping[str, Mapping[str, Probed]]
    documents: Mapping[str, tuple[str, ...]]

    def scores(self, arm: str = CODER, k: int | None = None) -> Scores:
        """Mean accuracy and AUROC of an arm over tasks, with k as validation chose it for each, or a given one."""
        return over_tasks(self.arms[arm], k)

    def minus(self, arm: str) -> Scores:
        """The coder minus an arm, paired by task, and for accuracy also by item."""
        return difference_over_tasks(self.arms[CODER], self.arms[arm], self.documents)

    def result(self) -> dict[str, Any]:
        """Everything as plain data with estimates: arms, differences, and by task and arm the k that was chosen, scores and items."""
        return {
            "name": self.name,
            "texts": self.texts,
            "arms": {arm: self.scores(arm) for arm in self.arms},
            "differences": {arm: self.minus(arm) for arm in self.arms if arm != CODER},
            "by_k": {arm: self._by_k(arm) for arm in self.arms if arm != DENSE},
            "tasks": {task: self._task(task) for task in self.documents},
        }

    def saebench(self) -> dict[str, dict[str, float]]:
        """The categories `llm` and `sae` of SAEBench's `sparse_probing`: test accuracies, of every k and of all channels."""
        llm = {"llm_test_accuracy": self.scores(DENSE).accuracy.value}
        parts = {"llm": (RAW, llm), "sae": (CODER, dict[str, float]())}
        for name, (arm, found) in parts.items():
            found |= {f"{name}_top_{k}_test_accuracy": scores.accuracy.value for k, scores in self._by_k(arm).items()}
        return {name: found for name, (_, found) in parts.items()}

    def _by_k(self, arm: str) -> dict[str, Scores]:
        ks = [at.k for at in next(iter(self.arms[arm].values())).by_k]
        return {str(k): self.scores(arm, k) for k in ks}

    def _task(self, task: str) -> dict[str, Any]:
        found = {arm: tasks[task] for arm, tasks in self.arms.items()}
        rows = {arm: {"k": p.chosen.k, "accuracy": p.accuracy(), "auroc": p.auroc()} for arm, p in found.items()}
        return {"items": found[CODER].items, "n_test": found[CODER].test_y.size, "arms": rows}


def probe_coder(
    model: CausalLM,
    point: Point,
    coder: Coder,
    labelled: LabelledSet,
    rng: np.random.Generator,
    *,
    random: Coder,
    ks: Sequence[int] = KS,
    which: Which = "label",
    principal: bool = False,
    skip: Iterable[int] | None = None,
    max_length: int | None = None,
) -> Probing:
    """Probe a coder on labelled texts, in one pass of the model.

    random: a coder of the same width (`random_twin`); rng draws the texts of the other classes; see `probe_features` and `pooled.pool` for the rest.
    CoderError for a random coder of another width: more latents to choose from are an advantage of their own."""
    if random.config.d_sae != coder.config.d_sae:
        raise CoderError(
            f"the random coder has {random.config.d_sae} latents, the coder {coder.config.d_sae}; a control has the same width"
        )
    documents = text_ids(model, [text.parts for text in labelled.texts])
    pooled = pool(model, point, {CODER: coder, RANDOM: random}, documents, skip, max_length=max_length)
    return probe_features(pooled.means, labelled, rng, ks, which=which, principal=principal)


def probe_features(
    features: Mapping[str, Float[np.ndarray, "n width"]],
    labelled: LabelledSet,
    rng: np.random.Generator,
    ks: Sequence[int] = KS,
    *,
    which: Which = "label",
    principal: bool = False,
) -> Probing:
    """Probe features of labelled texts, one row a text: "coder", "raw", "random".

    which: the label that is asked for, the first or the second one; principal: add an arm on the first max(ks) principal axes of the channels.
    A k that an arm is too narrow for is not tried there; `by_k` of the result says which were. CoderError where an arm is missing or has not one row a text."""
    _require_arms(features, labelled)
    arms: dict[str, dict[str, Probed]] = {name: {} for name in (*features, DENSE, *([PRINCIPAL] if principal else []))}
    documents: dict[str, tuple[str, ...]] = {}
    for task in tasks_of(labelled, rng, which):
        documents[task.name] = tuple(labelled.texts[row].id for row in task.rows[2])
        for arm, rows in features.items():
            arms[arm][task.name] = _probed(tuple(rows[some] for some in task.rows), task, ks)
        channels = tuple(features[RAW][some] for some in task.rows)
        arms[DENSE][task.name] = _probed(channels, task, None)
        if principal:
            axes = principal_columns(*channels, k=min(max(ks), *channels[0].shape))
            arms[PRINCIPAL][task.name] = _probed(axes, task, ks)
    return Probing(labelled.name, labelled.digest(), arms, documents)


def tasks_of(labelled: LabelledSet, rng: np.random.Generator, which: Which = "label") -> list[Task]:
    """Every class against the others, balanced in each split; two classes are one task, since the other is its mirror image.

    ValueError for a class that a split lacks, and for second labels where there are none."""
    labels = [getattr(text, which) for text in labelled.texts]
    classes = labelled.classes if which == "label" else labelled.seconds
    if len(classes) < 2:
        raise ValueError(f"{labelled.name}: wanted at least two classes of the {which} label, got {list(classes)}")
    return [_task(labelled, labels, name, rng) for name in (classes[1:] if len(classes) == 2 else classes)]


def _task(labelled: LabelledSet, labels: Sequence[str], name: str, rng: np.random.Generator) -> Task:
    rows, truth, parts = [], [], []
    for split in SPLITS:
        there = np.array(labelled.of(split), dtype=np.intp)
        some, own = balanced_rows([labels[row] for row in there], name, rng)
        rows.append(there[some])
        truth.append(own)
        parts.append((split, [labelled.texts[row].id for row in there[some]], own.tolist()))
    return Task(name, (rows[0], rows[1], rows[2]), (truth[0], truth[1], truth[2]), digest_of_items(parts))


def _probed(parts: Sequence[np.ndarray], task: Task, ks: Sequence[int] | None) -> Probed:
    """On the given columns of the three splits; ks None: on all of them."""
    (train, valid, test), (train_y, valid_y, test_y) = parts, task.truth
    if ks is None:
        return dense_probe(train, train_y, valid, valid_y, test, test_y, items=task.items)
    fitting = [k for k in ks if k <= train.shape[1]]
    return sparse_probe(train, train_y, valid, valid_y, test, test_y, fitting, items=task.items)


def _require_arms(features: Mapping[str, np.ndarray], labelled: LabelledSet) -> None:
    if missing := [name for name in (CODER, RAW, RANDOM) if name not in features]:
        raise CoderError(f"a coder is probed beside its baseline and its control; no features of {', '.join(missing)}")
    for name, rows in features.items():
        if len(rows) != len(labelled.texts):
            raise CoderError(
                f"features {name!r}: wanted a row for each of {len(labelled.texts)} texts, got {len(rows)}"
            )
