"""Which k: the one whose coders are most stable above chance among those that reconstruct well enough, found with some seeds and confirmed with others.

Stability grows as k falls, so by itself it would choose the smallest k there is; a floor of explained variance on held-out rows is what holds against
it. A search takes the best of several noisy numbers and so flatters it: what is reported of the chosen k is what seeds show that had no part in
choosing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from trialplate.metrics.estimate import Estimate
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.arms import After, Order, by_condition, over_seeds, train_arms
from trialplate.sae.programs.conditions import Condition, Similarity, lower, measure, shown, subject
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source

Status = Literal["confirmed", "not_confirmed", "no_candidate"]


@dataclass(frozen=True)
class CalibrationOptions:
    """What is searched and what is asked of the choice.

    ks             at least 3, so that there is one that is not at an edge
    ev_floor       least explained variance on held-out rows, of the lower bound over seeds
    min_adjusted   the lower bound of the adjusted stability is above this; 0 is chance
    search_seeds, confirm_seeds   none in common
    confirm_settings   how the chosen k is trained again; None: as in the search"""

    coder: CoderConfig
    settings: TrainingSettings
    ks: tuple[int, ...]
    ev_floor: float
    min_adjusted: float = 0.0
    search_seeds: tuple[int, ...] = (0, 1, 2)
    confirm_seeds: tuple[int, ...] = (1000, 1001, 1002, 1003, 1004)
    confirm_settings: TrainingSettings | None = None
    order: Order = "shared"
    similarity: Similarity = field(default_factory=Similarity)

    def __post_init__(self) -> None:
        check_seeds(self.search_seeds, "search seeds")
        check_seeds(self.confirm_seeds, "confirmation seeds")
        if both := sorted(set(self.search_seeds) & set(self.confirm_seeds)):
            raise StudyError(
                f"seeds {', '.join(map(str, both))} search and confirm: what chose k cannot confirm it; give others to one side"
            )
        if self.coder.k is None:
            raise StudyError(f"a {self.coder.architecture} coder has no k to calibrate")
        if len(set(self.ks)) < max(3, len(self.ks)):
            raise StudyError(
                f"wanted at least 3 values of k, all different, got {', '.join(map(str, self.ks)) or 'none'}"
            )
        if not self.ev_floor < 1:
            raise StudyError(f"explained variance is at most 1, so no k reaches a floor of {self.ev_floor}")


@dataclass(frozen=True)
class Candidate:
    """What the search showed of a k. None for both where a seed is missing."""

    k: int
    ev: Estimate | None
    adjusted: Estimate | None


@dataclass(frozen=True)
class Choice:
    """k: the chosen one, None where none qualifies. refused: {k: why}. edge: the end of the grid that k lies at, None for one inside.

    pareto: those that no other k beats in both lower bounds, whatever the floor."""

    k: int | None
    edge: Literal["lowest", "highest"] | None
    refused: Mapping[int, str]
    pareto: tuple[int, ...]


def choose(candidates: Sequence[Candidate], ev_floor: float, min_adjusted: float = 0.0) -> Choice:
    """Of the k whose lower bounds reach the floor of EV and lie above `min_adjusted`, that of the highest lower bound of adjusted stability; of equal
    ones the smallest. None where no k does: the floor is not lowered, and nothing is kept for want of better."""
    bounds = {
        one.k: (lower(one.ev), lower(one.adjusted))
        for one in candidates
        if one.ev is not None and one.adjusted is not None
    }
    refused: dict[int, str] = {}
    for one in candidates:
        if one.k not in bounds:
            refused[one.k] = "a seed is missing"
        elif not bounds[one.k][0] >= ev_floor:
            refused[one.k] = f"explained variance is at least {bounds[one.k][0]:.4g}, and the floor is {ev_floor:g}"
        elif not bounds[one.k][1] > min_adjusted:
            refused[one.k] = f"adjusted stability is at least {bounds[one.k][1]:.4g}, wanted more than {min_adjusted:g}"
    kept = sorted(k for k in bounds if k not in refused)
    best = max(kept, key=lambda k: (bounds[k][1], -k)) if kept else None
    ends = min(one.k for one in candidates), max(one.k for one in candidates)
    edge: Literal["lowest", "highest"] | None = "lowest" if best == ends[0] else "highest" if best == ends[1] else None
    return Choice(best, edge, refused, _pareto(bounds))


def run_calibration(
    options: CalibrationOptions,
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """The result of `l0_calibration.json`.

    `status`: "confirmed" where seeds that had no part in the search meet both demands too, "not_confirmed" where they do not, "no_candidate" where no
    k met them (nothing is then trained again). `selected_k`, `edge` (a choice at the end of the grid asks for a longer grid; `warnings` says so),
    `search` and `confirm` with both bounds, `refused`, `pareto`."""
    run = partial(train_arms, rows=rows, held_out=held_out, folder=folder, device=device, after=after)
    search = [
        arm
        for k in options.ks
        for arm in over_seeds(
            options.coder.with_(k=k), options.settings, options.search_seeds, order=options.order, k=k
        )
    ]
    grid = run(search)
    found = [measure(grid, members, held_out) for members in by_condition(search).values()]
    records = {one.about["k"]: _record(one, options.similarity) for one in found}
    choice = choose([_candidate(k, record) for k, record in records.items()], options.ev_floor, options.min_adjusted)
    confirm: dict[str, Any] | None = None
    if choice.k is not None:
        settings = options.confirm_settings or options.settings
        coder = options.coder.with_(k=choice.k)
        arms = over_seeds(coder, settings, options.confirm_seeds, order=options.order, k=choice.k)
        found.append(measure(run(arms), arms, held_out))
        confirm = _record(found[-1], options.similarity)
    return _result(options, subject(rows, held_out, found), records, choice, confirm)


def calibration_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    chosen = "no k meets the demands" if result["selected_k"] is None else f"k = {result['selected_k']}"
    demands = result["demands"]
    lines = [
        "# Calibration of L0",
        "",
        f"**{result['status']}**: {chosen}. Asked for: explained variance of at least {demands['ev_floor']:g}, adjusted stability above "
        f"{demands['min_adjusted']:g}, both by lower bounds.",
        *(f"\n**Warning**: {warning}" for warning in result["warnings"]),
        "",
        "| k | seeds | EV | L0 | adjusted stability | |",
        "|---|---|---|---|---|---|",
    ]
    for one in [*result["search"], *([result["confirm"]] if result["confirm"] else [])]:
        note = "confirmation" if one is result["confirm"] else result["refused"].get(str(one["k"]), "")
        measured = one["status"] == "measured"
        cells = (
            [shown(one["ev"]), shown(one["l0"], 1), shown(one["stability"]["adjusted"])] if measured else ["", "", ""]
        )
        lines.append(f"| {one['k']} | {', '.join(map(str, one['seeds']))} | {' | '.join(cells)} | {note} |")
    return "\n".join(lines)


def _result(
    options: CalibrationOptions,
    of: Mapping[str, Any],
    records: Mapping[int, Mapping[str, Any]],
    choice: Choice,
    confirm: Mapping[str, Any] | None,
) -> dict[str, Any]:
    searched = None if choice.k is None else records[choice.k]
    result: dict[str, Any] = plain(
        {
            "subject": of,
            "status": _status(choice, confirm, options),
            "selected_k": choice.k,
            "edge": choice.edge,
            "warnings": _warnings(choice, options),
            "demands": {"ev_floor": options.ev_floor, "min_adjusted": options.min_adjusted},
            "search_lower_bound": searched and searched["adjusted_low"],
            "confirm_lower_bound": confirm and confirm["adjusted_low"],
            "search": [records[k] for k in options.ks],
            "confirm": confirm,
            "refused": {str(k): why for k, why in choice.refused.items()},
            "pareto": choice.pareto,
        }
    )
    return result


def _record(one: Condition, similarity: Similarity) -> dict[str, Any]:
    if not one.is_whole:
        return {**one.record(), "ev_low": None, "adjusted_low": None}
    found = one.stability(similarity)
    return {**one.record(found), "ev_low": lower(one.mean("ev")), "adjusted_low": lower(found.adjusted)}


def _candidate(k: int, record: Mapping[str, Any]) -> Candidate:
    if record["status"] == "missing":
        return Candidate(k, None, None)
    return Candidate(k, record["ev"], record["stability"]["adjusted"])


def _status(choice: Choice, confirm: Mapping[str, Any] | None, options: CalibrationOptions) -> Status:
    if choice.k is None or confirm is None:
        return "no_candidate"
    if confirm["status"] == "missing":
        return "not_confirmed"
    meets = confirm["ev_low"] >= options.ev_floor and confirm["adjusted_low"] > options.min_adjusted
    return "confirmed" if meets else "not_confirmed"


def _warnings(choice: Choice, options: CalibrationOptions) -> list[str]:
    if choice.edge is None:
        return []
    beyond = "smaller" if choice.edge == "lowest" else "larger"
    return [
        f"k = {choice.k} is the {choice.edge} of {', '.join(map(str, sorted(options.ks)))}: a {beyond} one may be better, so extend the grid"
    ]


def _pareto(bounds: Mapping[int, tuple[float, float]]) -> tuple[int, ...]:
    """Those that no other is at least as good as in both bounds and better in one."""

    def beaten(k: int) -> bool:
        here = bounds[k]
        return any(there[0] >= here[0] and there[1] >= here[1] and there != here for there in bounds.values())

    return tuple(k for k in sorted(bounds) if not beaten(k))
