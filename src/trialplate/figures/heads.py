"""Induction heads: the prefix-matching score of every head, as a map of layers and heads, from the measurements of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.style import (
    INK,
    SHADES,
    FigureError,
    Picture,
    blank,
    drawing,
    joined,
    of_subject,
    part_cells,
    written,
)
from trialplate.report.model import Measurement, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

METRIC = "prefix_matching"
MARKED = 5


def subjects_with_heads(report: Report) -> list[str]:
    """The subjects whose heads were measured one by one."""
    return list(dict.fromkeys(m.subject for m in report.measurements if _is_head(m)))


def head_map(report: Report, *, subject: str) -> Picture:
    """Score of each head (0 to 1), the five best framed with their value. One subject.

    The score is the mean attention from a token of the second block to the token after its first occurrence.
    Raises FigureError where no head was measured, or a head twice.
    """
    import pandas as pd

    found = [m for m in report.measurements if m.subject == subject and _is_head(m)]
    if not found:
        there = ", ".join(subjects_with_heads(report)) or "none"
        raise FigureError(
            f"the report measures {METRIC} of no single head of {subject!r}; subjects that have it: {there}. Run evals/probes/test_induction.py"
        )
    table = pd.DataFrame([_row(m) for m in found]).sort_values(["layer", "head"], kind="stable").reset_index(drop=True)
    if table.duplicated(["layer", "head"]).any():
        raise FigureError(
            f"heads of {subject!r} were measured on several tasks ({', '.join(table['task'].unique())}); a map shows one: limit the report to it"
        )
    scores = table.pivot(index="layer", columns="head", values="value")
    null = found[0].null
    footer = joined(
        f"n = {found[0].n} sequences",
        f"framed: the {min(MARKED, len(table))} best",
        "" if null is None else f"{null.kind}: {null.value:.3f}",
        "score: mean attention to the token after the first occurrence",
    )
    with drawing():
        size = max(5.6, 0.42 * scores.shape[1] + 2.4), max(2.9, 0.32 * scores.shape[0] + 1.9)
        figure = blank(*size, of_subject("Induction heads", subject.replace("|", ", ")), footer)
        axes = figure.add_subplot()
        image = axes.imshow(scores, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
        _mark(axes, scores.to_numpy(float))
        axes.set_xticks(range(scores.shape[1]), [str(h) for h in scores.columns])
        axes.set_yticks(range(scores.shape[0]), [f"L{n}" for n in scores.index])
        axes.set(xlabel="head", ylabel="layer")
        part_cells(axes, *scores.shape)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label="prefix-matching score (0–1)", pad=0.02)
    return Picture(figure, table)


def _is_head(m: Measurement) -> bool:
    return m.metric == METRIC and isinstance(m.params.get("layer"), int) and isinstance(m.params.get("head"), int)


def _row(m: Measurement) -> dict[str, object]:
    low, high = m.ci or (None, None)
    return {
        "layer": m.params["layer"],
        "head": m.params["head"],
        "task": m.params.get("task", ""),
        "value": m.value,
        "ci_lo": low,
        "ci_hi": high,
        "n": m.n,
    }


def _mark(axes: Axes, scores: NDArray[np.float64]) -> None:
    from matplotlib.patches import Rectangle

    order = np.argsort(-np.nan_to_num(scores, nan=-1.0), axis=None, kind="stable")[:MARKED]
    for row, column in zip(*np.unravel_index(order, scores.shape), strict=True):
        value = scores[row, column]
        if np.isfinite(value):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.6))
            written(axes, int(row), int(column), f"{value:.2f}", INK if value > 0.5 else "white")
