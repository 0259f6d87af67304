"""Architectures at one L0: explained variance against active latents, where L0 is what was measured and not what was asked for.

An architecture that misses a target by more than the tolerance is shown and not ranked: with more active latents anything reconstructs better. A cell
of which a seed is missing is missing as a whole. Architectures share their seeds, so they are compared seed by seed, with Holm's correction for all
comparisons of the study.

    area   of an architecture over the targets: mean of EV over log L0, by trapezia between measured points, on the range all seeds cover"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trialplate.metrics.estimate import Estimate
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.arms import After, Order, by_condition, over_seeds, train_arms
from trialplate.sae.programs.conditions import Condition, Similarity, measure, shown, subject
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds, compare_all
from trialplate.sae.programs.seeds import over_seeds as mean_over_seeds
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source

Status = Literal["matched", "unmatched", "missing"]
_WITH_K = ("topk", "batchtopk", "routed")
_WITH_TARGET = ("relu", "jumprelu")


@dataclass(frozen=True)
class FrontierOptions:
    """coder: what all have in common (widths, sites, prefixes); its architecture and k are replaced. targets: values of L0, whole numbers for those
    with k. tolerance: the share of its target by which the L0 of every seed may differ. n_experts: of routed ones."""

    coder: CoderConfig
    settings: TrainingSettings
    architectures: tuple[str, ...]
    targets: tuple[float, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    tolerance: float = 0.1
    n_experts: int = 4
    alpha: float = 0.05
    order: Order = "shared"
    similarity: Similarity = field(default_factory=Similarity)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for name, values in (("architectures", self.architectures), ("targets", self.targets)):
            if not values or len(set(values)) < len(values):
                raise StudyError(f"wanted at least one of {name}, none twice; got {values}")
        if wrong := [a for a in self.architectures if a not in _WITH_K + _WITH_TARGET]:
            raise StudyError(
                f"{wrong[0]} is not among what can be trained to an L0: {', '.join(_WITH_K + _WITH_TARGET)}"
            )
        if not all(0 < target < self.coder.d_sae for target in self.targets):
            raise StudyError(f"wanted targets of L0 between 0 and {self.coder.d_sae} latents, got {self.targets}")
        if not 0 < self.tolerance < 1:
            raise StudyError(f"the tolerance is a share of the target, above 0 and below 1; got {self.tolerance}")


@dataclass(frozen=True)
class Cell:
    """One architecture at one target. ev, l0: {seed: value on held-out rows}; empty where a seed is missing."""

    architecture: str
    target: float
    ev: Mapping[int, float]
    l0: Mapping[int, float]
    missing: Mapping[str, str] = field(default_factory=dict)

    def status(self, tolerance: float) -> Status:
        """ "matched" where the L0 of every seed lies within the tolerance of the target."""
        if self.missing:
            return "missing"
        off = max(abs(l0 / self.target - 1) for l0 in self.l0.values())
        return "matched" if off <= tolerance else "unmatched"


def at_l0(
    architecture: str, target: float, coder: CoderConfig, settings: TrainingSettings, n_experts: int = 4
) -> tuple[CoderConfig, TrainingSettings]:
    """A configuration of an architecture that is meant to have this L0: k where there is one, a target for the controller of the penalty otherwise.

    StudyError for a fraction of a latent where k must be whole."""
    if architecture not in _WITH_K:
        made = coder.with_(architecture=architecture, k=None, n_experts=None, signed=False)
        changes = {"k_start": None, "multi": 0.0, "l1": 0.0, "l0": 0.0, "backend": None}
        aux = None if architecture == "relu" else settings.aux  # dead latents of relu have nothing that aux could use
        return made, settings.with_(l0_target=target, aux=aux, **changes)
    if target != int(target):
        raise StudyError(f"{architecture} keeps a whole number of latents, so its L0 cannot be {target}")
    experts = n_experts if architecture == "routed" else None
    signed = coder.signed and architecture == "topk"
    made = coder.with_(architecture=architecture, k=int(target), n_experts=experts, signed=signed)
    backend = None if architecture == "routed" else settings.backend
    return made, settings.with_(l0_target=None, l1=0.0, l0=0.0, backend=backend)


def rank(cells: Sequence[Cell], tolerance: float, alpha: float = 0.05) -> dict[str, Any]:
    """{"comparisons", "best", "order"} over matched cells. order: {target: architectures by mean EV, best first}; best: {target: the architecture
    that is better than every other matched one after correction, None where there is none}. Corrected for all pairs at all targets."""
    matched = [cell for cell in cells if cell.status(tolerance) == "matched"]
    targets = sorted({cell.target for cell in cells})
    by_target = {t: {cell.architecture: cell.ev for cell in matched if cell.target == t} for t in targets}
    comparisons = compare_all(list(by_target.values()), alpha=alpha)
    rows = [
        {"target": target, **plain(one)} for target, found in zip(targets, comparisons, strict=True) for one in found
    ]
    order = {target: sorted(of, key=lambda a: -mean_over_seeds(of[a]).value) for target, of in by_target.items()}
    best = {target: _best(names, [row for row in rows if row["target"] == target]) for target, names in order.items()}
    return {
        "comparisons": rows,
        "order": {f"{target:g}": names for target, names in order.items()},
        "best": {f"{target:g}": name for target, name in best.items()},
    }


def area(cells: Sequence[Cell]) -> Estimate | None:
    """Mean EV over log L0 of one architecture's cells, one value a seed: integral of EV d log L0 / (log L0_max - log L0_min). None for fewer than two
    targets, and where a cell is missing."""
    if len(cells) < 2 or any(cell.missing for cell in cells):
        return None
    values = {}
    for seed in cells[0].ev:
        points = sorted((math.log(cell.l0[seed]), cell.ev[seed]) for cell in cells)
        x, y = np.array(points).T
        if not x[-1] > x[0]:
            return None  # all targets gave one L0: there is no range to take a mean over
        values[seed] = float(np.trapezoid(y, x) / (x[-1] - x[0]))
    return mean_over_seeds(values)


def run_frontier(
    options: FrontierOptions,
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """The result of `frontier.json`: `cells` (architecture, target, status, quality over seeds, stability), `architectures` ({name: {"area",
    "n_matched", "n_missing"}}), and what `rank` gives."""
    arms = [
        arm
        for architecture in options.architectures
        for target in options.targets
        for arm in over_seeds(
            *at_l0(architecture, target, options.coder, options.settings, options.n_experts),
            options.seeds,
            order=options.order,
            architecture=architecture,
            target=target,
        )
    ]
    grid = train_arms(arms, rows, held_out, folder=folder, device=device, after=after)
    found = [measure(grid, members, held_out) for members in by_condition(arms).values()]
    cells = [_cell(one) for one in found]
    result: dict[str, Any] = plain(
        {
            "subject": subject(rows, held_out, found),
            "tolerance": options.tolerance,
            "cells": [_record(one, cell, options) for one, cell in zip(found, cells, strict=True)],
            "architectures": {name: _overall(name, cells, options) for name in options.architectures},
            **rank(cells, options.tolerance, options.alpha),
            "n_missing": sum(len(one.missing) for one in found),
        }
    )
    return result


def frontier_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Architectures at matched L0",
        "",
        f"Explained variance on held-out rows. Ranked are those whose L0 lies within {result['tolerance']:.0%} of the target for every seed.",
        "",
        "| target | architecture | | L0 | EV | adjusted stability |",
        "|---|---|---|---|---|---|",
    ]
    for cell in result["cells"]:
        measured = cell["status"] != "missing"
        numbers = (
            [shown(cell["l0"], 1), shown(cell["ev"]), shown(cell["stability"]["adjusted"])]
            if measured
            else ["", "", ""]
        )
        lines.append(f"| {cell['target']:g} | {cell['architecture']} | {cell['status']} | {' | '.join(numbers)} |")
    lines += ["", *(f"At L0 {target}: {verdict}." for target, verdict in verdicts(result).items())]
    lines.append(f"Comparisons that this is corrected for: {len(result['comparisons'])}.")
    return "\n".join(lines)


def verdicts(result: Mapping[str, Any]) -> dict[str, str]:
    """{target: who is better than whom, and who was not compared}: an architecture that missed its L0, or has a coder missing, was not beaten."""
    found = {}
    for target, best in result["best"].items():
        matched = result["order"][target]
        apart: dict[str, list[str]] = {"unmatched": [], "missing": []}
        for cell in result["cells"]:
            if f"{cell['target']:g}" == target and cell["status"] in apart:
                apart[cell["status"]].append(cell["architecture"])
        if best:
            parts = [f"{best} is better than {_and([name for name in matched if name != best])}"]
        elif len(matched) > 1:
            parts = [f"none of {_and(matched)} is better than every other of them"]
        else:
            parts = [f"{matched[0]} alone reached its L0, so nothing is compared" if matched else "none reached its L0"]
        if apart["unmatched"] and matched:
            whose = "its" if len(apart["unmatched"]) == 1 else "their"
            parts.append(f"{_and(apart['unmatched'])} missed {whose} L0")
        parts += [f"coders of {_and(apart['missing'])} are missing"] if apart["missing"] else []
        found[target] = "; ".join(parts)
    return found


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _cell(one: Condition) -> Cell:
    about = one.about
    return Cell(about["architecture"], about["target"], one.values("ev"), one.values("l0"), one.missing)


def _record(one: Condition, cell: Cell, options: FrontierOptions) -> dict[str, Any]:
    record = one.record(one.stability(options.similarity) if one.is_whole else None)
    return {**record, "status": cell.status(options.tolerance)}


def _overall(name: str, cells: Sequence[Cell], options: FrontierOptions) -> dict[str, Any]:
    own = [cell for cell in cells if cell.architecture == name]
    states = [cell.status(options.tolerance) for cell in own]
    return {
        "area": area(own) if set(states) == {"matched"} else None,
        "n_targets": len(own),
        "n_matched": states.count("matched"),
        "n_missing": states.count("missing"),
    }


def _best(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The one that wins every comparison it is in; None for one alone, which has beaten nothing."""
    if len(names) < 2:
        return None
    wins = {name: sum(row["better"] == name for row in rows) for name in names}
    return next((name for name in names if wins[name] == len(names) - 1), None)
