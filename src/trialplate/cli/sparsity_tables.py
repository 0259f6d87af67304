"""What a study of sparsity becomes as tables, and the few numbers of it that are shown first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialplate.cli.headlines import Form, Headline, number, percent, spread

if TYPE_CHECKING:
    import pandas as pd

    from trialplate.activations.collectors.moments import Positions
    from trialplate.activations.study import Study
    from trialplate.metrics.estimate import Estimate

ACTIVE = "act_frac@0"
ON_SAMPLE = ("gini", "lifetime_gini", "cett_sparsity")
"""Measures of a uniform sample of the tokens; the others are of all of them."""
COLUMNS = ("task_id", "layer", "site", "positions", "metric", "value", "ci_lo", "ci_hi", "n_tokens", "n_docs")


def active_name(threshold: float) -> str:
    """The name of the share of activations above a threshold: `act_frac@0`, `act_frac@0.5`."""
    return f"act_frac@{threshold:g}"


def sparsity_table(study: Study, task: str, positions: Sequence[Positions], seed: int) -> pd.DataFrame:
    """Every measure of a task at every site, one row each, with its interval over texts where it has one.

    `n_tokens` is what the number rests on: all tokens of these positions, or the sample of them (`ON_SAMPLE`)."""
    import numpy as np
    import pandas as pd

    rows = []
    for point in study.points:
        for where in positions:
            found = study.sparsity(task, point.name, where, np.random.default_rng(seed))
            n = study.watched[task, point.name].moments.result(where).n
            measured = {active_name(study.wanted.threshold) if k == ACTIVE else k: e for k, e in found.items()}
            values = [(name, e.value, *(e.ci or (None, None)), _n_tokens(name, e, n)) for name, e in measured.items()]
            if study.wanted.covariance:
                for name, (value, white) in study.dimension(task, point.name, where).items():
                    values += [(name, value, None, None, n), (f"{name}_white", white, None, None, n)]
            rows += [(task, point.layer, point.name, where, *v, study.n_documents(task)) for v in values]
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def units_table(study: Study, task: str, positions: Positions) -> pd.DataFrame:
    """How often every unit fires and how large it is on average."""
    import numpy as np
    import pandas as pd

    parts = []
    for point in study.points:
        rate, mean_abs = study.units(task, point.name, positions)
        about = {"task_id": task, "layer": point.layer, "site": point.name, "positions": positions}
        parts.append(pd.DataFrame({**about, "unit": np.arange(len(rate)), "rate": rate, "mean_abs": mean_abs}))
    return _typed(pd.concat(parts, ignore_index=True))


def lorenz_table(study: Study, task: str, positions: Positions) -> pd.DataFrame:
    """The Lorenz curve of the magnitudes of every site. A site at which nothing ever moved has none."""
    import pandas as pd

    parts = []
    for point in study.points:
        if not study.units(task, point.name, positions)[1].any():
            continue
        found = study.lorenz(task, point.name, positions)
        about = {"task_id": task, "layer": point.layer, "site": point.name, "positions": positions}
        curve = {
            "share_of_entries": found.share_of_entries,
            "share_of_magnitude": found.share_of_magnitude,
            "gini": found.gini,
        }
        parts.append(pd.DataFrame({**about, **curve}))
    columns = ["task_id", "layer", "site", "share_of_entries", "share_of_magnitude", "gini"]
    return _typed(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns))


def headline(table: pd.DataFrame, threshold: float) -> Headline:
    """A row a site; of several tasks their mean, with the lowest and the highest, and below all what noise without any structure shows."""
    active = active_name(threshold)
    where = "no_first" if (table["positions"] == "no_first").any() else "all"
    rows = table[table["positions"] == where]
    n_tasks = rows["task_id"].nunique()
    shown = {active: percent, "treves_rolls": number, "gini": number, "cett_sparsity": percent, "dead_frac": percent}
    # of |N(0, 1)|: half above 0, 2 / pi, sqrt(2) - 1, and no unit that never fires
    dense = {"act_frac@0": 0.5, "treves_rolls": 2 / math.pi, "gini": math.sqrt(2) - 1, "dead_frac": 0.0}
    body = [
        [site, *(_cell(rows[(rows["site"] == site) & (rows["metric"] == m)], form) for m, form in shown.items())]
        for site in rows["site"].unique()
    ]
    noise = ["Gaussian noise", *(form(dense[m]) if m in dense else "" for m, form in shown.items())]
    size = rows.groupby("task_id")[["n_tokens", "n_docs"]].max().sum()
    brackets = f"; mean of {n_tasks} tasks [lowest, highest]" if n_tasks > 1 else ""
    if n_tasks == 1 and rows["ci_lo"].notna().any():
        brackets = "; [95 % interval over texts]"
    return Headline(
        title=f"Sparsity of activations, {_counted(size['n_tokens'], 'token')} of {_counted(size['n_docs'], 'text')}{brackets}",
        columns=("site", f"above {threshold:g}", "Treves–Rolls", "Gini", "can be left out", "never on"),
        rows=[*body, noise],
        notes=(
            "Treves–Rolls: 1 = all units alike, near 0 = few carry it all. Gini: 0 = all alike, 1 = one unit.",
            "can be left out: units whose removal changes the output of the MLP by at most 20 % (CETT). never on: on these tokens; a rare unit needs more.",
            "the first token of each text left out; with it: positions = all in the tables."
            if where == "no_first"
            else "all tokens: no text has enough of them after its first.",
        ),
    )


def _cell(rows: pd.DataFrame, form: Form) -> str:
    if rows.empty:
        return ""
    if len(rows) == 1:
        value, low, high = rows[["value", "ci_lo", "ci_hi"]].astype(float).iloc[0]
        return spread(value, None if math.isnan(low) else (low, high), form)
    values = rows["value"].astype(float)
    return spread(float(values.mean()), (float(values.min()), float(values.max())), form)


def _counted(n: float, what: str) -> str:
    return f"{n:,.0f} {what}{'' if n == 1 else 's'}"


def _n_tokens(name: str, estimate: Estimate, n: int) -> int:
    return estimate.n if name in ON_SAMPLE else n


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Layers as whole numbers, empty where a site has none."""
    return frame.astype({"layer": "Int64"})
