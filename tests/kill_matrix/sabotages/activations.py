"""Faults of reading activations, of what is made of them, and of leaving units out. Each runs the files of evals that are about it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from tests.kill_matrix import sabotage
from tests.kill_matrix.sabotage import Sabotage

from trialplate.activations import capture, families, rules, sites
from trialplate.activations.ablation import Ablated
from trialplate.activations.batches import Batch, Tokens
from trialplate.activations.collectors import clusters, moments
from trialplate.activations.dynamic_k import Sparsified
from trialplate.activations.study import Firing, FiringTable, Study
from trialplate.metrics import communities, selectivity, sparsity

Change = tuple[Any, str, Any]


def on(*files: str) -> Callable[..., Sabotage]:
    """A fault under which these files of evals run."""
    return partial(sabotage.on_code, paths=tuple(f"evals/activations/test_{file}.py" for file in files))


def wrong_tensor() -> Change:
    neox = families.FAMILIES["gpt_neox"]
    swapped = replace(neox, sites={**neox.sites, "mlp_act": "mlp.dense_4h_to_h.output"})
    return sites, "FAMILIES", {**families.FAMILIES, "gpt_neox": swapped}


def layer_off_by_one() -> Change:
    honest = sites._path

    def path(model: Any, family: Any, layer: int, inner: str) -> str:
        return honest(model, family, (layer + 1) % model.n_layers, inner)

    return sites, "_path", path


def hooks_write() -> Change:
    honest = capture._by_position
    return capture, "_by_position", lambda point, values, shape: honest(point, values, shape).mul_(1.01)


def position_zero_only() -> Change:
    honest = Batch.tokens

    def tokens(self: Batch) -> Tokens:
        t = honest(self)
        n = t.n_first
        return Tokens(t.cell[:n], t.document[:n], t.cluster[:n], t.position[:n], t.token[:n], n)

    return Batch, "tokens", tokens


def threshold_reversed() -> Change:
    def of(self: clusters.ClusterSums, field: str, rows: torch.Tensor) -> torch.Tensor:
        return (rows < self.threshold).float() if field == "fires" else rows.abs() if field == "abs" else rows * rows

    return clusters.ClusterSums, "_of", of


def means_forgotten() -> Change:
    def merged(self: moments._Sums, other: moments._Sums) -> moments._Sums:
        n = self.n + other.n
        mean = (self.mean * self.n + other.mean * other.n) / n
        m3 = None if self.m3 is None else self.m3 + other.m3
        m4 = None if self.m4 is None else self.m4 + other.m4
        return moments._Sums(
            n, self.fires + other.fires, mean, self.absolute + other.absolute, self.m2 + other.m2, m3, m4
        )

    return moments._Sums, "merged", merged


def padding_read() -> Change:
    """Keys after a token are seen: causal attention is off, so what stands behind a text is read."""
    from transformers.models.gpt_neox import modeling_gpt_neox

    return modeling_gpt_neox, "create_causal_mask", lambda *args, **kwargs: torch.zeros(1, 1, 1, 1)


def labels_shuffled() -> Change:
    honest = Study.firings

    def firings(self: Study, site: str, positions: Any) -> FiringTable:
        table = honest(self, site, positions)
        return table._replace(task=np.random.default_rng(0).permutation(table.task))

    return Study, "firings", firings


def p_values_squared() -> Change:
    honest = selectivity._pooled_p
    return selectivity, "_pooled_p", lambda statistic, pool: honest(statistic, pool) ** 4


def ablation_idle() -> Change:
    return Ablated, "running", lambda self, counted=None: nullcontext()


def units_shifted() -> Change:
    honest = Study.firing

    def firing(self: Study, site: str, positions: Any) -> Firing:
        found, rng = honest(self, site, positions), np.random.default_rng(0)
        return found._replace(fires=rng.permuted(found.fires, axis=0))

    return Study, "firing", firing


def communities_random() -> Change:
    return (
        communities,
        "find",
        lambda graph, algorithm="louvain", seed=0: np.random.default_rng(seed).integers(0, 8, graph.n_nodes),
    )


def gini_unsorted() -> Change:
    return sparsity, "_sorted", lambda a: a


def masks_idle() -> Change:
    honest = Sparsified._hook

    def hook(self: Sparsified, *args: Any) -> Any:
        masked = honest(self, *args)

        def idle(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
            masked(module, given)
            return given

        return idle

    return Sparsified, "_hook", hook


def one_unit_lost() -> Change:
    honest = rules.kept_units
    return rules, "kept_units", lambda k, d: max(1, honest(k, d) - 1)


def sizes_ignored() -> Change:
    return (
        rules,
        "contributions",
        lambda hidden, norms: torch.rand(hidden.shape, generator=torch.Generator().manual_seed(0)),
    )


SABOTAGES: tuple[Sabotage, ...] = (
    on("sites", "sparsity")("wrong-tensor", "Hidden units are read behind the down projection instead of in front of it.", wrong_tensor),
    on("sites")("layer-off-by-one", "Every site is read one layer later.", layer_off_by_one),
    on("sites")("hooks-write", "What is read is changed a little on the way.", hooks_write),
    on("counting", "sparsity")("position-0-only", "Of every text, only the first token is handed on.", position_zero_only),
    on("counting")("threshold-reversed", "A unit counts as firing where it is below the threshold.", threshold_reversed),
    on("counting")("means-forgotten", "Moments of batches are added as if all batches had the same mean.", means_forgotten),
    on("counting")("padding-read", "Attention sees what stands behind a text.", padding_read),
    on("sparsity")("gini-unsorted", "The Gini coefficient is computed without sorting.", gini_unsorted),
    on("specialization")("labels-shuffled", "Texts and domains no longer belong together.", labels_shuffled),
    on("specialization")("p-values-squared", "P-values are far too small.", p_values_squared),
    on("specialization")("ablation-idle", "Units are said to be held at their mean, and are not.", ablation_idle),
    on("modularity")("units-shifted", "Every unit's firings are those of other tokens.", units_shifted),
    on("modularity")("communities-random", "Communities are drawn at random.", communities_random),
    on("dynamic_k")("masks-idle", "Units are said to be left out, and are not.", masks_idle),
    on("dynamic_k")("one-unit-lost", "One unit fewer is kept than was asked for.", one_unit_lost),
    on("dynamic_k")("sizes-ignored", "Units are kept at random, not by what they write.", sizes_ignored),
)  # fmt: skip
