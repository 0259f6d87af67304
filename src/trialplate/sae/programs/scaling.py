"""How the error of coders falls with tokens and width: every combination of site, token budget, width and seed, and the fitted slopes.

Symbols: T unique tokens of a budget, m latents, 1 - EV the share of variance that is lost on held-out rows;  log(1 - EV) = a + b log T  at every site
and width, and the same over m at every site and budget. Slopes have intervals over seeds (`slopes`).

A budget is so many different rows, drawn from all rows there are: a larger one contains the smaller ones, and the mixture of texts is the same in
all, so that it is not a matter of which texts came first. Every budget is read equally often, so steps grow with it. A slope over a grid with a
hole is not fitted, and says which cell it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.arms import After, Order, by_condition, over_seeds, train_arms
from trialplate.sae.programs.conditions import Condition, measure, shown, subject
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.programs.slopes import PowerLaw, power_law
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source, Subset

Split = tuple[Source, Source]


@dataclass(frozen=True)
class ScalingOptions:
    """The grid.

    coder       what all have in common; its width is replaced, and its sites are those of the rows
    settings    how they are trained; its steps are replaced by what `passes` over a budget take
    budgets     unique tokens, ascending;  d_saes: widths;  passes: how often every token is read
    mix_seed    which tokens a budget takes"""

    coder: CoderConfig
    settings: TrainingSettings
    budgets: tuple[int, ...]
    d_saes: tuple[int, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    passes: float = 1.0
    mix_seed: int = 0
    order: Order = "shared"

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for name, values in (("token budgets", self.budgets), ("widths", self.d_saes)):
            if not values or min(values) < 1 or list(values) != sorted(set(values)):
                raise StudyError(f"wanted ascending {name}, none twice, got {values}")
        if len(self.budgets) < 2 and len(self.d_saes) < 2:
            raise StudyError("one budget and one width make no slope; give at least two of either")
        steps = [self.steps(budget) for budget in self.budgets]
        if steps[0] < 1 or len(set(steps)) < len(steps):
            raise StudyError(
                f"budgets {self.budgets} in batches of {self.settings.batch_size}, read {self.passes} times, make {steps} steps: every budget "
                "wants steps of its own, so take smaller batches or more passes"
            )

    def steps(self, budget: int) -> int:
        """Steps that read a budget `passes` times."""
        return round(self.passes * budget / self.settings.batch_size)


@dataclass(frozen=True)
class Cell:
    """Coders of one site, budget and width. lost: {seed: 1 - EV}, empty where a seed is missing."""

    site: str
    budget: int
    d_sae: int
    lost: Mapping[int, float]
    missing: Mapping[str, str]


def budget_rows(rows: Source, budget: int, seed: int) -> Subset:
    """So many different rows of a source, the first of a permutation that is the same for every budget. StudyError where there are not so many."""
    if budget > rows.n_rows:
        raise StudyError(f"{budget} unique tokens were asked for, and there are {rows.n_rows} to train on")
    chosen = np.sort(np.random.default_rng(seed).permutation(rows.n_rows)[:budget])
    return Subset(rows, torch.from_numpy(chosen))


def fits(cells: Sequence[Cell], axis: str) -> list[dict[str, Any]]:
    """The slope over "budget" or "d_sae" for every site and value of the other: {"site", other, "fit", "lacks"}. fit is None where cells are missing
    (named in `lacks`) or there is one size only."""
    other = {"budget": "d_sae", "d_sae": "budget"}[axis]
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.site, getattr(cell, other)), []).append(cell)
    found = []
    for (site, value), members in groups.items():
        lacks = [f"{axis} {getattr(cell, axis)} seed {seed}" for cell in members for seed in cell.missing]
        fit = None if lacks or len(members) < 2 else _fit(members, axis)
        found.append({"site": site, other: value, "fit": fit, "lacks": lacks})
    return found


def run_scaling(
    options: ScalingOptions,
    sites: Mapping[str, Split],
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """The result of `scaling.json`. sites: {name: (rows, held-out rows)}.

    `cells` with quality over seeds or the reason why they are missing, `slopes` over "budget" and "d_sae" (see `fits`), `n_cells`, `n_missing`
    (coders, not cells). A budget that a site does not have is missing there; StudyError where no site has any."""
    if not sites:
        raise StudyError("a scaling study wants the rows of at least one site")
    most = max(rows.n_rows for rows, _ in sites.values())
    if options.budgets[0] > most:
        raise StudyError(
            f"the least budget is {options.budgets[0]} unique tokens, and there are {most} to train on: no cell of the grid can be; "
            "give smaller budgets, or more rows"
        )
    cells: list[Cell] = []
    records: list[dict[str, Any]] = []
    subjects: dict[str, Any] = {}
    for site, split in sites.items():
        found = [
            one
            for budget in options.budgets
            for one in _of_budget(
                options, site, split, budget, None if folder is None else folder / site, device, after
            )
        ]
        subjects[site] = subject(*split, found)
        own = [Cell(site, one.about["budget"], one.about["d_sae"], _lost(one), one.missing) for one in found]
        cells += own
        records += [one.record() for one in found]
    result: dict[str, Any] = plain(
        {
            "subject": {"sites": subjects},
            "cells": records,
            "slopes": {axis: fits(cells, axis) for axis in ("budget", "d_sae")},
            "n_cells": len(cells),
            "n_missing": sum(len(cell.missing) for cell in cells),
        }
    )
    return result


def scaling_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Scaling",
        "",
        "log(1 - EV) on held-out rows against the logarithm of unique tokens and of width; slopes with intervals over seeds.",
        "Every budget is read equally often, so fewer tokens also means fewer steps: a slope over tokens is that of both.",
        "Bend: what a quadratic term would be, for three sizes or more; an interval without 0 says that this is no power law over these sizes.",
        "",
        "| over | site | at | slope | bend |",
        "|---|---|---|---|---|",
    ]
    for axis, other in (("budget", "d_sae"), ("d_sae", "budget")):
        for one in result["slopes"][axis]:
            fit = one["fit"]
            numbers = [shown(fit["slope"]), shown(fit["bend"]) if fit["bend"] else ""] if fit else [_why_not(one), ""]
            lines.append(f"| {axis} | {one['site']} | {other} {one[other]} | {' | '.join(numbers)} |")
    lines += ["", "| site | tokens | steps | width | EV | L0 |", "|---|---|---|---|---|---|"]
    for cell in result["cells"]:
        measured = cell["status"] == "measured"
        numbers = [shown(cell["ev"]), shown(cell["l0"], 1)] if measured else [_first(cell["missing"]), ""]
        sizes = f"{cell['budget']} | {cell['steps']} | {cell['d_sae']}"
        lines.append(f"| {cell['site']} | {sizes} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _of_budget(
    options: ScalingOptions, site: str, split: Split, budget: int, folder: Path | None, device: str, after: After
) -> list[Condition]:
    """All widths and seeds of one budget at one site, measured or missing."""
    rows, held_out = split
    steps = options.steps(budget)
    arms = [
        arm
        for d_sae in options.d_saes
        for arm in over_seeds(
            _at_site(options.coder, rows, site).with_(d_sae=d_sae),
            options.settings.with_(steps=steps),
            options.seeds,
            order=options.order,
            site=site,
            budget=budget,
            d_sae=d_sae,
            steps=steps,
        )
    ]
    groups = by_condition(arms).values()
    if budget > rows.n_rows:
        why = f"{budget} unique tokens were asked for, and there are {rows.n_rows}"
        return [Condition.absent(members, why) for members in groups]
    kept = budget_rows(rows, budget, options.mix_seed)
    grid = train_arms(
        arms, kept, held_out, folder=None if folder is None else folder / str(budget), device=device, after=after
    )
    return [measure(grid, members, held_out) for members in groups]


def _at_site(coder: CoderConfig, rows: Source, site: str) -> CoderConfig:
    return coder.with_(
        d_in=rows.d_in, d_out=rows.d_out, site_in=site, site_out=coder.site_out if rows.is_paired else site
    )


def _lost(one: Condition) -> dict[int, float]:
    return {seed: 1 - ev for seed, ev in one.values("ev").items()}


def _fit(cells: Sequence[Cell], axis: str) -> PowerLaw:
    return power_law({seed: {getattr(cell, axis): cell.lost[seed] for cell in cells} for seed in cells[0].lost})


def _why_not(one: Mapping[str, Any]) -> str:
    return f"not fitted: {', '.join(one['lacks'])} missing" if one["lacks"] else "one size only"


def _first(missing: Mapping[str, str]) -> str:
    seed, reason = next(iter(missing.items()))
    return f"missing: seed {seed}, {reason}"
