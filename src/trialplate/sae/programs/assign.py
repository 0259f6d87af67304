"""Does pulling coders to a reference make coders more alike that have no reference in common?

Coders that are pulled to one reference resemble each other because they resemble it: by that measure a strong pull buys a stability of 1 and has found
nothing. So there are several families. Each has a reference of its own, trained without a pull, and members that are pulled to it; stability is
measured between families only, and families are the observations. The similarity within families is reported under its own name and decides nothing.

Symbols: lambda = strength of the pull (see `pull`); S = adjusted stability over families; gain = S(lambda) - S(0); drop = EV(0) - EV(lambda), both with
the same members and seeds. References are no members, and enter neither EV nor stability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.seed_stability import compare
from trialplate.metrics.statistics import mean, paired_difference
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.programs.arms import After, over_seeds, train_arms
from trialplate.sae.programs.conditions import Similarity, lower, place, shown, stability_record
from trialplate.sae.programs.families import Measured, Pulls, measure_families
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source


@dataclass(frozen=True)
class Family:
    """The seed of a reference, and those of the members that are pulled to it."""

    reference: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class AssignmentOptions:
    """What is pulled and what is asked of it.

    lambdas       strengths; 0 among them, as the baseline
    families      at least 3, with equally many members, no seed twice
    ev_floor      least explained variance on held-out rows, of the lower bound over families
    max_ev_drop   largest loss of it against lambda 0, of the upper bound
    refresh       steps between matchings;  absolute: whether the pull and the similarity count opposite directions as the same

    Bounds of every lambda are widened for the number of lambdas that are tried (Bonferroni)."""

    coder: CoderConfig
    settings: TrainingSettings
    lambdas: tuple[float, ...]
    families: tuple[Family, ...]
    ev_floor: float
    max_ev_drop: float = 0.05
    refresh: int = 20
    similarity: Similarity = field(default_factory=lambda: Similarity(absolute=True))

    def __post_init__(self) -> None:
        check_seeds([family.reference for family in self.families], "families (seeds of references)")
        seeds = [seed for family in self.families for seed in (family.reference, *family.members)]
        if len(set(seeds)) < len(seeds):
            raise StudyError("a seed is in two places: references and members of all families are different coders")
        sizes = {len(family.members) for family in self.families}
        if len(sizes) != 1 or 0 in sizes:
            raise StudyError("families have equally many members, at least one each")
        if 0 not in self.lambdas or len(set(self.lambdas)) < len(self.lambdas) or len(self.lambdas) < 2:
            raise StudyError(
                f"wanted different strengths, 0 (the baseline) and at least one above it; got {self.lambdas}"
            )

    @property
    def by_reference(self) -> dict[int, tuple[int, ...]]:
        """{seed of the reference: seeds of the members}."""
        return {family.reference: family.members for family in self.families}


@dataclass(frozen=True)
class Strength:
    """What one lambda above 0 showed. gain: of adjusted stability between families; drop: of EV."""

    value: float
    gain: Estimate
    ev: Estimate
    drop: Estimate


@dataclass(frozen=True)
class Acceptance:
    """value: the strength that is accepted, None where none is. refused: {lambda: reasons}."""

    value: float | None
    refused: Mapping[float, tuple[str, ...]]


def choose(found: Sequence[Strength], ev_floor: float, max_ev_drop: float) -> Acceptance:
    """Of the strengths whose bounds say that families are more alike than without a pull, that reconstruction is above its floor and that it lost no
    more than allowed, the one of the largest lower bound of the gain. What coders of one family have in common plays no part."""
    refused = {one.value: why for one in found if (why := _why_not(one, ev_floor, max_ev_drop))}
    kept = [one for one in found if one.value not in refused]
    return Acceptance(max(kept, key=lambda one: lower(one.gain)).value if kept else None, refused)


def run_assignment(
    options: AssignmentOptions,
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """The result of `assignment.json`.

    `strengths`: for every lambda `between_families` (stability), `within_families` (mean similarity of members that share a reference; null with one
    member), `alignment` (to their own reference), `ev`, and above 0 `gain`, `ev_drop`, `accepted`, `reasons`. `status`: "accepted" or "none_accepted";
    `best_lambda`. StudyError where a coder cannot be trained: a family with a hole is another family."""
    first = over_seeds(options.coder, options.settings, list(options.by_reference))
    grid = train_arms(first, rows, held_out, folder=_place(folder, "references"), device=device, after=after)
    references = {seed: one.coder for seed, one in grid.of(first).items()}
    found: dict[float, Measured] = {}
    for strength in sorted(options.lambdas):
        pulls = Pulls(references, strength, options.refresh, options.similarity.absolute)
        arms = pulls.arms(options.coder, options.settings, options.by_reference)
        kept = _place(folder, f"lambda-{strength:g}")
        grid = train_arms(arms, rows, held_out, folder=kept, device=device, after=after, prepare=pulls.prepare)
        members = {seed: one.coder for seed, one in grid.of(arms).items()}
        found[strength] = measure_families(members, options.by_reference, pulls, held_out, options.similarity)
    return _result(options, found, references, rows, held_out)


def assignment_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    chosen = (
        "no lambda is accepted" if result["best_lambda"] is None else f"lambda {result['best_lambda']:g} is accepted"
    )
    lines = [
        "# Assignment consistency",
        "",
        f"**{chosen}.** Stability counts between families that have no reference in common: {_statistic(result['similarity'])}.",
        "",
    ]
    columns = [
        "lambda",
        "between families, adjusted",
        "gain",
        "within families",
        "alignment",
        "EV",
        "EV drop",
        "refused because",
    ]
    table = []
    for one in result["strengths"]:
        within = "" if one["within_families"] is None else f"{one['within_families']['value']:.3f} (shares a reference)"
        pulled = [shown(one["gain"]), shown(one["ev_drop"])] if one["gain"] else ["", ""]
        cells = [
            f"{one['lambda']:g}",
            shown(one["between_families"]["adjusted"]),
            pulled[0],
            within,
            shown(one["alignment"]),
            shown(one["ev"]),
            pulled[1],
            "; ".join(one["reasons"]),
        ]
        table.append(cells)
    kept = [
        at for at in range(len(columns)) if any(cells[at] for cells in table)
    ]  # with one member nothing is within a family
    for cells in (columns, ["---"] * len(columns), *table):
        lines.append(f"| {' | '.join(cells[at] for at in kept)} |")
    return "\n".join(lines)


def _statistic(similarity: Mapping[str, Any]) -> str:
    opposite = "opposite directions count as the same" if similarity["absolute"] else "opposite directions differ"
    return f"{similarity['statistic']} of decoders, {opposite}"


def _result(
    options: AssignmentOptions,
    found: Mapping[float, Measured],
    references: Mapping[int, Coder],
    rows: Source,
    held_out: Source,
) -> dict[str, Any]:
    strengths = {value: _strength(options, value, one, found[0]) for value, one in found.items() if value > 0}
    accepted = choose(list(strengths.values()), options.ev_floor, options.max_ev_drop)
    result: dict[str, Any] = plain(
        {
            "subject": {
                "rows": rows.digest,
                "held_out": held_out.digest,
                "about_rows": rows.about,
                **place(options.coder),
                "references": {str(seed): coder_digest(coder) for seed, coder in references.items()},
                "coders": {
                    f"lambda {value:g}": {str(seed): coder_digest(coder) for seed, coder in one.coders.items()}
                    for value, one in found.items()
                },
            },
            "status": "none_accepted" if accepted.value is None else "accepted",
            "best_lambda": accepted.value,
            "demands": {"ev_floor": options.ev_floor, "max_ev_drop": options.max_ev_drop},
            "families": options.families,
            "similarity": {"statistic": options.similarity.statistic, "absolute": options.similarity.absolute},
            "strengths": [_record(value, one, strengths.get(value), accepted) for value, one in found.items()],
        }
    )
    return result


def _strength(options: AssignmentOptions, value: float, one: Measured, baseline: Measured) -> Strength:
    """Gain and loss against lambda 0, with intervals widened for the number of strengths above 0."""
    level = 1 - (1 - options.similarity.level) / (len(options.lambdas) - 1)
    families = list(options.by_reference)
    ev, ev_before = [one.ev[f] for f in families], [baseline.ev[f] for f in families]
    gain = compare(one.between, baseline.between, paired=True, rng=options.similarity.rng(), level=level)
    return Strength(value, gain.adjusted, mean(ev, level=level), paired_difference(ev_before, ev, level=level))


def _record(value: float, one: Measured, found: Strength | None, accepted: Acceptance) -> dict[str, Any]:
    return {
        "lambda": value,
        "between_families": stability_record(one.between),
        "within_families": one.within,
        "alignment": mean(list(one.alignment.values())),
        "ev": mean(list(one.ev.values())),
        "l0": mean(list(one.l0.values())),
        "gain": found and found.gain,
        "ev_drop": found and found.drop,
        "accepted": value == accepted.value,
        "reasons": accepted.refused.get(value, ()),
    }


def _why_not(one: Strength, ev_floor: float, max_ev_drop: float) -> tuple[str, ...]:
    """What speaks against a strength. Written so that a number that is not finite speaks against it."""
    high = one.drop.ci[1] if one.drop.ci is not None else float("inf")
    demands = {
        f"explained variance is at least {lower(one.ev):.4g}, and the floor is {ev_floor:g}": lower(one.ev) >= ev_floor,
        f"explained variance may have fallen by {high:.4g}, and at most {max_ev_drop:g} is allowed": high
        <= max_ev_drop,
        f"between families the gain is at least {lower(one.gain):.4g}, and more than 0 is wanted": lower(one.gain) > 0,
    }
    return tuple(reason for reason, holds in demands.items() if not holds)


def _place(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name
