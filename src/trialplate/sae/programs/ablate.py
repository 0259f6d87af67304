"""What k and width do to stability and reconstruction: one axis at a time, everything else as it was.

Chance depends on the shape, so conditions are compared by the adjusted score, each against chance for its own m and d. A decoder is [m, d] also where
m < d: nothing here is transposed to fit, and 64 latents of 128 channels are compared with 64 random directions of 128 channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.arms import After, Arm, Order, by_condition, over_seeds, train_arms
from trialplate.sae.programs.conditions import Similarity, measure, shown, subject
from trialplate.sae.programs.results import plain
from trialplate.sae.programs.seeds import check_seeds
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Source


@dataclass(frozen=True)
class AblationOptions:
    """coder: the base, whose k the width axis keeps and whose width the k axis keeps. ks, d_saes: values of the axes; either may be empty."""

    coder: CoderConfig
    settings: TrainingSettings
    ks: tuple[int, ...] = ()
    d_saes: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    order: Order = "shared"
    similarity: Similarity = field(default_factory=Similarity)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        if not (self.ks or self.d_saes):
            raise StudyError("an ablation wants values of k, of d_sae, or of both; got none")
        if self.ks and self.coder.k is None:
            raise StudyError(f"a {self.coder.architecture} coder has no k to vary; leave ks out")
        for name, values in (("k", self.ks), ("d_sae", self.d_saes)):
            if len(set(values)) < len(values):
                raise StudyError(f"values of {name} appear twice: {', '.join(map(str, values))}")


def run_ablation(
    options: AblationOptions,
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
) -> dict[str, Any]:
    """The result of `ablation.json`: `axes`, {"k" and "d_sae": [{"value", "condition"}]}, and `conditions` by key, each with quality over seeds and
    stability, or the reason why it is missing. CoderError for a k above the width: nothing is clamped."""
    axes: dict[str, list[dict[str, Any]]] = {"k": [], "d_sae": []}
    arms: dict[str, Arm] = {}
    for axis, value in [("k", k) for k in options.ks] + [("d_sae", m) for m in options.d_saes]:
        coder = options.coder.with_(**{axis: value})
        found = over_seeds(coder, options.settings, options.seeds, order=options.order, k=coder.k, d_sae=coder.d_sae)
        axes[axis].append({"value": value, "condition": found[0].condition})
        arms |= {arm.cell: arm for arm in found}  # where the axes cross, one condition is on both
    grid = train_arms(list(arms.values()), rows, held_out, folder=folder, device=device, after=after)
    conditions = [measure(grid, members, held_out) for members in by_condition(arms.values()).values()]
    similarity = options.similarity
    result: dict[str, Any] = plain(
        {
            "subject": subject(rows, held_out, conditions),
            "architecture": options.coder.architecture,
            "axes": axes,
            "conditions": {
                one.key: one.record(one.stability(similarity) if one.is_whole else None) for one in conditions
            },
            "n_missing": sum(len(one.missing) for one in conditions),
        }
    )
    return result


def ablation_summary(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    lines = ["# Ablations of k and width", ""]
    for axis, values in result["axes"].items():
        if values:
            lines += [
                f"| {axis} | shape | L0 | EV | dead | similarity | chance | adjusted |",
                "|---|---|---|---|---|---|---|---|",
            ]
            lines += [_line(value["value"], result["conditions"][value["condition"]]) for value in values]
            lines.append("")
    if result["n_missing"]:
        lines.append(f"**{result['n_missing']} coders are missing.**")
    return "\n".join(lines)


def _line(value: int, one: Mapping[str, Any]) -> str:
    if one["status"] == "missing":
        seed, reason = next(iter(one["missing"].items()))
        return f"| {value} | missing: seed {seed}, {reason} |"
    found = one["stability"]
    cells = [
        str(value),
        " x ".join(map(str, one["shape"])),
        shown(one["l0"], 1),
        shown(one["ev"]),
        shown(one["dead_frac"]),
        *(shown(found[name]) for name in ("raw", "chance", "adjusted")),
    ]
    return f"| {' | '.join(cells)} |"
