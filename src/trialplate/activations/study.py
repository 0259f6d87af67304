"""A study: several tasks read at several sites in one pass, and what the metrics make of the sums.

What is measured of a site comes with and without the first token of each text: very large activations sit there (Sun et al. 2024,
arXiv:2402.17762), and one of them can own the second moment of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from trialplate.activations.batches import Plan
from trialplate.activations.capture import Collector, collect, plan_for
from trialplate.activations.collectors.clusters import ClusterSums
from trialplate.activations.collectors.covariance import Covariance
from trialplate.activations.collectors.firing import FiringBits
from trialplate.activations.collectors.magnitudes import Magnitudes
from trialplate.activations.collectors.moments import Positions, UnitMoments, UnitStatistics
from trialplate.activations.collectors.sample import RowSample
from trialplate.activations.collectors.shapes import TokenShapes
from trialplate.activations.errors import CaptureError
from trialplate.activations.sites import Point, down_projection
from trialplate.metrics import dimension, lifetime, magnitudes, sparsity
from trialplate.metrics.cett import cett_sparsity
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import clustered_mean
from trialplate.models.causal_lm import CausalLM

N_CETT = 48
"""Tokens on which `cett_sparsity` is computed: it costs as much as a layer a token."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a study sums up besides counts, moments and shapes. `n_rows`: tokens of the sample of every task and site."""

    positions: tuple[Positions, ...] = ("no_first",)
    n_rows: int = 512
    covariance: bool = False
    bits: bool = False
    max_bits: int | None = None
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Selected:
    """Collectors that look at one choice of positions."""

    clusters: ClusterSums
    magnitudes: Magnitudes
    sample: RowSample
    covariance: Covariance | None = None
    bits: FiringBits | None = None

    def all(self) -> list[Collector]:
        """Those that are there."""
        return [c for c in (self.clusters, self.magnitudes, self.sample, self.covariance, self.bits) if c is not None]


@dataclass(frozen=True, slots=True)
class Watched:
    """All collectors of one task at one site."""

    moments: UnitMoments
    shapes: TokenShapes
    by: Mapping[Positions, Selected]

    def all(self) -> list[Collector]:
        """Every collector."""
        return [self.moments, self.shapes, *(c for selected in self.by.values() for c in selected.all())]


class FiringTable(NamedTuple):
    """fires [c, d], tokens [c] and task number [c] of the clusters of all tasks; `tasks` names the numbers."""

    fires: np.ndarray
    tokens: np.ndarray
    task: np.ndarray
    tasks: tuple[str, ...]


class Firing(NamedTuple):
    """fires [t, d] bool in reading order, document [t] and task number [t]."""

    fires: np.ndarray
    document: np.ndarray
    task: np.ndarray


@dataclass(frozen=True)
class Study:
    """What one pass gave. Results are computed when they are asked for."""

    model: CausalLM
    points: Sequence[Point]
    plan: Plan
    wanted: Wanted
    watched: Mapping[tuple[str, str], Watched]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.plan.n_tokens)

    def n_documents(self, task: str) -> int:
        """Texts of a task."""
        return sum(len(b.rows) for b in self.plan if b.task == task)

    def sparsity(self, task: str, site: str, positions: Positions, rng: np.random.Generator) -> dict[str, Estimate]:
        """Every measure of sparsity of a task at a site; see `docs/activations.md` for what each says. Intervals over texts where there is one.

        Measures that are undefined there (no unit ever moved) are left out."""
        watched, selected = self._watched(task, site), self._selected(task, site, positions)
        moments, n_documents = watched.moments.result(positions), self.n_documents(task)
        found = {
            name: sparsity.population_mean(s, c) for name, (s, c) in watched.shapes.result(positions).items() if c.any()
        }
        found = {name.replace("act_frac@0", f"act_frac@{self.wanted.threshold:g}"): e for name, e in found.items()}
        counts, sd = selected.magnitudes.result(), magnitudes.layer_sd(moments.mean, moments.m2, moments.n)
        if sd > 0:
            found["act_frac@sd"] = _bare(magnitudes.act_frac_sd(counts, sd).value, n_documents, "exact counts")
        found |= self._of_sample(site, selected)
        found |= _of_units(moments, selected, rng, n_documents)
        return found

    def lorenz(self, task: str, site: str, positions: Positions, points: int = 101) -> magnitudes.Lorenz:
        """The Lorenz curve of |h| of a task at a site."""
        return magnitudes.lorenz(self._selected(task, site, positions).magnitudes.result(), points)

    def dimension(self, task: str, site: str, positions: Positions) -> dict[str, tuple[float, float]]:
        """{pr_cov, erank: (value, what white noise of the same size shows)} in dimensions."""
        collector = self._selected(task, site, positions).covariance
        if collector is None:
            raise CaptureError("this study kept no covariance: ask for it with Wanted(covariance=True)")
        found = collector.result()
        d = len(found.mean)
        return {
            "pr_cov": (dimension.pr_cov(found.scatter), dimension.pr_cov_white(d, found.n)),
            "erank": (dimension.erank(found.scatter), dimension.erank_white(d, found.n)),
        }

    def firings(self, site: str, positions: Positions) -> FiringTable:
        """How often every unit fired in every cluster, over all tasks."""
        tables = [self._selected(task, site, positions).clusters.result() for task in self.tasks]
        fires = np.concatenate([t.fires for t in tables if t.fires is not None])
        task = np.repeat(np.arange(len(tables)), [len(t.tokens) for t in tables])
        return FiringTable(fires.astype(np.int64), np.concatenate([t.tokens for t in tables]), task, self.tasks)

    def firing(self, site: str, positions: Positions) -> Firing:
        """Which units fired on which token, all tasks one after another."""
        kept = [self._selected(task, site, positions).bits for task in self.tasks]
        if any(bits is None for bits in kept):
            raise CaptureError("this study kept no firing patterns: ask for them with Wanted(bits=True)")
        found = [bits.result() for bits in kept if bits is not None]
        task = np.repeat(np.arange(len(found)), [len(p.document) for p in found])
        return Firing(np.concatenate([p.fires for p in found]), np.concatenate([p.document for p in found]), task)

    def units(self, task: str, site: str, positions: Positions) -> tuple[np.ndarray, np.ndarray]:
        """(firing rate, mean |h|) of every unit."""
        found = self._watched(task, site).moments.result(positions)
        return found.rate, found.abs_sum / found.n

    def _of_sample(self, site: str, selected: Selected) -> dict[str, Estimate]:
        sample = selected.sample.result()
        rows = torch.from_numpy(sample.values)
        moving = (rows != 0).any(1)
        found = {}
        if bool(moving.any()):
            ginis = sparsity.token_gini(rows[moving]).numpy()
            found["gini"] = clustered_mean(ginis, sample.document[moving.numpy()].tolist())
        units = lifetime.lifetime_gini(rows)
        if units.defined.any():
            found["lifetime_gini"] = _bare(
                units.mean(), len(rows), f"{units.n_undefined} units never moved in the sample"
            )
        point = next(p for p in self.points if p.name == site)
        if site.endswith(".mlp_act") and point.layer is not None:
            down = down_projection(self.model, point.layer).rows.float().cpu()
            some = np.linspace(0, len(rows) - 1, min(N_CETT, len(rows))).astype(int)  # rows stand in reading order
            shares = cett_sparsity(rows[some], down).numpy()
            found["cett_sparsity"] = clustered_mean(shares, sample.document[some].tolist())
        return found

    def _watched(self, task: str, site: str) -> Watched:
        if (task, site) not in self.watched:
            known = ", ".join(f"{t} at {s}" for t, s in list(self.watched)[:6])
            raise CaptureError(f"this study did not read {task} at {site}; it read {known} …")
        return self.watched[task, site]

    def _selected(self, task: str, site: str, positions: Positions) -> Selected:
        by = self._watched(task, site).by
        if positions not in by:
            raise CaptureError(f"this study looked at positions {', '.join(by)}, not at {positions}")
        return by[positions]


def run_study(
    model: CausalLM,
    documents: Mapping[str, Sequence[Sequence[int]]],
    points: Sequence[Point],
    wanted: Wanted,
    seed: int,
    *,
    max_length: int | None = None,
    skip: Iterable[int] = (),
    after: Callable[[int], None] = lambda done: None,
) -> Study:
    """Read the documents (token ids by task) at the points, once; `skip` are ids whose activations do not count."""
    plan = plan_for(model, documents, max_length=max_length, skip=skip)
    watched = {(task, p.name): watch(plan.n_clusters[task], wanted, seed) for task in documents for p in points}
    collect(model, plan, points, {key: w.all() for key, w in watched.items()}, after=after)
    return Study(model, points, plan, wanted, watched)


def watch(n_clusters: int, wanted: Wanted, seed: int) -> Watched:
    """Fresh collectors of one task at one site."""
    by: dict[Positions, Selected] = {}
    for positions in wanted.positions:
        skip = positions == "no_first"
        by[positions] = Selected(
            ClusterSums(n_clusters, ("fires", "abs", "square"), wanted.threshold, skip_first=skip),
            Magnitudes(skip_first=skip),
            RowSample(wanted.n_rows, seed, skip_first=skip),
            Covariance(skip_first=skip) if wanted.covariance else None,
            FiringBits(wanted.max_bits, wanted.threshold, skip_first=skip) if wanted.bits else None,
        )
    return Watched(UnitMoments(4, wanted.threshold), TokenShapes(n_clusters, wanted.threshold), by)


def _of_units(
    moments: UnitStatistics, selected: Selected, rng: np.random.Generator, n_documents: int
) -> dict[str, Estimate]:
    """Lifetime measures, kurtosis, dead and always-on shares."""
    found: dict[str, Estimate] = {}
    table = selected.clusters.result()
    if table.abs is not None and table.square is not None and table.square.any():
        found |= lifetime.lifetime_means(table.tokens, table.abs, table.square, rng)
    kurtosis = lifetime.excess_kurtosis(moments.m2, moments.fourth, moments.n, mean=moments.mean)
    if kurtosis.defined.any():
        found["exkurt"] = _bare(kurtosis.mean(), n_documents, f"{kurtosis.n_undefined} units never moved")
    shares = lifetime.firing_shares(moments.fires, moments.n)
    note = "" if shares.meaningful else f"{moments.n} tokens: below a million, a rare unit counts as dead"
    found["dead_frac"] = _bare(shares.dead_frac, n_documents, note)
    found["always_on_frac"] = _bare(shares.always_on_frac, n_documents, note)
    return found


def _bare(value: float, n: int, method: str) -> Estimate:
    """An estimate without an interval."""
    return Estimate(value, n, None, None, method=method)
