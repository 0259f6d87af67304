"""The few numbers of specialization and modularity that are shown first, each beside what chance shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialplate.cli.headlines import Form, Headline, number, percent, spread

if TYPE_CHECKING:
    import pandas as pd


def of_specialization(sites: pd.DataFrame) -> Headline:
    """A row a site: the index with its null and its excess, and the share of selective units with its null."""
    return Headline(
        "Specialization to tasks",
        ("site", "SI", "by chance", "beyond chance", "selective units", "by chance"),
        [[str(site), *_specialization(sites[sites["site"] == site])] for site in sites["site"].unique()],
        (
            "SI: 0 = a unit fires alike in all tasks, 1 = in one only; mean of the units that fire often enough. Selective: at a false discovery rate of 5 %.",
            "by chance: texts dealt to tasks at random. [95 % interval over texts]",
        ),
    )


def of_modularity(sites: pd.DataFrame, why: Mapping[str, Mapping[str, str]]) -> Headline:
    """A row a site: Q beside the Q of the three nulls, with the edges of each graph. `why`: by site, reasons for what is undefined."""
    return Headline(
        "Modularity: do units that fire together form groups?",
        ("site", "Q (edges)", "groups", "rewired", "z", "shifted within texts", "dealt within task", "edges of tokens"),
        [
            [str(site), *_modularity(dict(zip(own["metric"], own["value"].astype(float), strict=True)))]
            for site, own in sites.groupby("site", sort=False)
        ],
        (
            "rewired: random edges between the same units (mean ± sd); z: standard deviations between Q and it.",
            "shifted within texts, dealt within task: Q (edges) where units meet only because they like the same texts, or the same task and positions. Fewer edges make Q higher, so compare edges.",
            "edges of tokens: share of edges that are gone when units are shifted within texts. Near 0 %, the groups are made by texts; near 100 %, by tokens.",
            *(
                f"{site}: {name} is undefined, {reason}"
                for site, found in why.items()
                for name, reason in found.items()
            ),
        ),
    )


def _specialization(rows: pd.DataFrame) -> list[str]:
    shown: tuple[tuple[str, Form, bool], ...] = (
        ("si_mean", number, False),
        ("si_null", number, False),
        ("si_excess", number, True),
        ("frac_selective", percent, True),
        ("frac_selective_null", percent, False),
    )
    columns = (rows[name].astype(float) for name in ("value", "ci_lo", "ci_hi"))
    numbers = dict(zip(rows["metric"], zip(*columns, strict=True), strict=True))
    cells = []
    for name, form, interval in shown:
        value, low, high = numbers[name]
        ends = (low, high) if interval and not math.isnan(low) else None
        cells.append("undefined" if math.isnan(value) else spread(value, ends, form))
    return cells


def _modularity(values: dict[str, float]) -> list[str]:
    def text(name: str, form: Form = number) -> str:
        return "" if math.isnan(values.get(name, math.nan)) else form(values[name])

    whole: Form = "{:,.0f}".format

    def with_edges(q: str, edges: str) -> str:
        return f"{text(q) or 'undefined'} ({text(edges, whole)})" if text(edges, whole) else ""

    own = with_edges("q", "n_edges")
    others = [with_edges("shifted_q", "shifted_edges"), with_edges("dealt_q", "dealt_edges")]
    rewired = " ± ".join(part for part in (text("q_null_mean"), text("q_null_sd", "{:.2g}".format)) if part)
    shifted, edges = values.get("shifted_edges", math.nan), values.get("n_edges", math.nan)
    gone = "" if math.isnan(shifted) or not edges > 0 else percent(1 - shifted / edges)
    return [own, text("n_communities", whole), rewired, text("q_z", "{:.1f}".format), *others, gone]
