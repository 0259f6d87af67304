"""What a metric's key is called on an axis, and in what unit. A key that is not here is shown as it is written."""

from __future__ import annotations

from typing import NamedTuple

from trialplate.figures.style import FigureError


class Measure(NamedTuple):
    """Title in words, label of an axis with its unit."""

    title: str
    axis: str


MEASURES = {
    "act_frac@0": Measure("Activations above 0", "share of entries > 0"),
    "act_frac@rel": Measure("Activations above 1 % of the token's maximum", "share of entries"),
    "act_frac@sd": Measure("Activations above 0.1 standard deviations", "share of entries"),
    "zero_frac": Measure("Activations that are exactly 0", "share of entries"),
    "cett_sparsity": Measure("Units that can be left out (CETT)", "share of units"),
    "treves_rolls": Measure("Treves–Rolls sparseness", "1: all alike, 0: sparse"),
    "hoyer": Measure("Hoyer sparseness", "Hoyer (0: flat, 1: one unit)"),
    "gini": Measure("Gini coefficient of magnitudes", "Gini (0: flat, 1: one unit)"),
    "exkurt": Measure("Excess kurtosis", "excess kurtosis (0: Gaussian)"),
    "dead_frac": Measure("Dead units", "share of units"),
    "always_on_frac": Measure("Always-on units", "share of units"),
    "lifetime_treves_rolls": Measure("Treves–Rolls over tokens (lifetime)", "1: all alike, 0: sparse"),
    "lifetime_hoyer": Measure("Hoyer over tokens (lifetime)", "Hoyer (0: flat, 1: one token)"),
    "lifetime_gini": Measure("Gini over tokens (lifetime)", "Gini (0: flat, 1: one token)"),
    "pr_cov": Measure("Participation ratio of the covariance", "dimensions"),
    "pr_cov_white": Measure("Participation ratio of white noise", "dimensions"),
    "erank": Measure("Effective rank", "dimensions"),
    "erank_white": Measure("Effective rank of white noise", "dimensions"),
    "si": Measure("Specialization index", "SI (0: all tasks alike, 1: one task)"),
    "si_excess": Measure("Specialization beyond its null", "SI − SI of permuted documents"),
    "si_coverage": Measure("Units scored (they fire enough)", "share of units"),
    "mi_bits": Measure("Information about the task", "bits per token and unit"),
    "frac_selective": Measure("Selective units (FDR 5 %)", "share of scored units"),
    "q": Measure("Modularity", "Q"),
    "q_z": Measure("Modularity beyond its null", "z (standard deviations of the null)"),
    "n_communities": Measure("Communities", "count"),
    "largest_share": Measure("Largest community", "share of units"),
    "stability_ari": Measure("Agreement of partitions between seeds", "adjusted Rand index"),
}

PAGES = {
    "tokens": (
        *("act_frac@0", "act_frac@rel", "act_frac@sd", "zero_frac", "cett_sparsity"),
        *("treves_rolls", "hoyer", "gini", "exkurt"),
    ),
    "units": (
        *("dead_frac", "always_on_frac", "lifetime_treves_rolls", "lifetime_hoyer", "lifetime_gini"),
        *("pr_cov", "pr_cov_white", "erank", "erank_white"),
    ),
}
"""Measures that are drawn on one page, each on axes of its own: of the code of a token, and of units over tokens and of dimension."""


_ABOVE = "act_frac@"


def _is_threshold(key: str) -> bool:
    """Whether the key is a share above a threshold of the user's own: `act_frac@0.5`."""
    return key.startswith(_ABOVE) and key.removeprefix(_ABOVE).removeprefix("-").replace(".", "", 1).isdigit()


def measure(key: str) -> Measure:
    """How a metric is written on a picture; a key that is not known is shown as it is."""
    if key in MEASURES:
        return MEASURES[key]
    if _is_threshold(key):
        level = key.removeprefix(_ABOVE)
        return Measure(f"Activations above {level}", f"share of entries > {level}")
    return Measure(key, key)


def file_word(key: str) -> str:
    """A metric's key as part of a file name: `act_frac@rel` gives `act_frac_rel`."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in key).strip("_")


def pages(metrics: list[str]) -> dict[str, list[str]]:
    """The metrics by page, in the page's order; those of no page come last under `other`. Pages without a metric are not there."""
    if not metrics:
        raise FigureError("no metric to draw; the table holds none of those asked for")
    found = {name: [m for m in page if m in metrics] for name, page in PAGES.items()}
    found["tokens"] += [m for m in metrics if m not in MEASURES and _is_threshold(m)]
    placed = {m for page in found.values() for m in page}
    found["other"] = [m for m in metrics if m not in placed]
    return {name: page for name, page in found.items() if page}
