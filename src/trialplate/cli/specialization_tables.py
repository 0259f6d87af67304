"""What a study of several tasks becomes as tables of specialization: by site, by unit, and by unit and task."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from trialplate.activations.collectors.moments import Positions
    from trialplate.activations.study import FiringTable, Study
    from trialplate.metrics.estimate import Estimate
    from trialplate.metrics.selectivity import Selectivity
    from trialplate.metrics.specialization import Specialization

MEASURES = (
    *("si_mean", "si_null", "si_excess", "si_coverage", "mi_bits", "mi_null"),
    *("frac_selective", "frac_selective_null"),
)


class SpecializationTables(NamedTuple):
    """`sites`: a row a site and measure. `units`: a row a unit. `rates`: a row a unit and task."""

    sites: pd.DataFrame
    units: pd.DataFrame
    rates: pd.DataFrame


def specialization_tables(
    study: Study, positions: Positions, seed: int, *, permutations: int, draws: int
) -> SpecializationTables:
    """Specialization and selectivity of the units of every site. Measures that no unit allows are undefined there: empty cells, no zeros."""
    import pandas as pd

    parts = [_of_site(study, at, positions, seed, permutations, draws) for at in range(len(study.points))]
    frames = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    return SpecializationTables(*(frame.astype({"layer": "Int64"}) for frame in frames))


def _of_site(
    study: Study, at: int, positions: Positions, seed: int, permutations: int, draws: int
) -> SpecializationTables:
    import numpy as np
    import pandas as pd

    from trialplate.metrics.firings import NothingToScore, task_rates
    from trialplate.metrics.selectivity import selectivity, task_contrasts
    from trialplate.metrics.specialization import specialization

    point = study.points[at]
    about = {"layer": point.layer, "site": point.name}
    table = study.firings(point.name, positions)
    counts = table.fires, table.tokens, table.task
    index, found = None, None
    with suppress(NothingToScore):  # a finding: no unit is scored, and the measures stay empty
        index = specialization(*counts, np.random.default_rng(seed), permutations=permutations, draws=draws)
    with suppress(NothingToScore):
        found = selectivity(*counts, np.random.default_rng(seed), permutations=permutations)
    rates, contrasts = task_rates(*counts), task_contrasts(*counts)
    n_units = rates.shape[1]
    by_task = [
        pd.DataFrame({**about, "unit": np.arange(n_units), "task_id": task, "rate": row})
        for task, row in zip(table.tasks, rates, strict=True)
    ]
    n_docs = sum(study.n_documents(task) for task in study.tasks)
    sites = pd.DataFrame([{**about, **row, "n_docs": n_docs} for row in _measures(index, found, n_units)])
    units = pd.DataFrame({**about, **_units(table, index, found, contrasts)})
    return SpecializationTables(sites, units, pd.concat(by_task, ignore_index=True))


def _measures(index: Specialization | None, found: Selectivity | None, n_units: int) -> list[dict[str, Any]]:
    estimates: dict[str, Estimate | float | None] = dict.fromkeys(MEASURES)
    n_scored = 0
    if index is not None:
        n_scored = len(index.units)
        estimates |= {name: getattr(index, name) for name in ("si_mean", "si_null", "si_excess", "si_coverage")}
    if found is not None:
        others = ("mi_bits", "mi_null", "frac_selective", "frac_selective_null")
        estimates |= {name: getattr(found, name) for name in others}
    rows = []
    for name, estimate in estimates.items():
        low, high = getattr(estimate, "ci", None) or (None, None)
        value = getattr(estimate, "value", estimate)
        n = n_scored if name in ("si_mean", "si_null", "si_excess") else n_units
        rows.append({"metric": name, "value": value, "ci_lo": low, "ci_hi": high, "n_units": n})
    return rows


def _units(
    table: FiringTable, index: Specialization | None, found: Selectivity | None, contrasts: np.ndarray
) -> dict[str, Any]:
    """Columns of the table of units. A unit that never or always fires prefers no task."""
    import numpy as np

    n_firings = table.fires.sum(axis=0)
    n_units = len(n_firings)
    scored = np.zeros(n_units, dtype=np.int64)
    si, si_null = np.full(n_units, np.nan), np.full(n_units, np.nan)
    if index is not None:
        scored[index.units] = 1
        si[index.units], si_null[index.units] = index.si, index.si_chance
    empty = np.full(n_units, np.nan)
    undecided = (n_firings == 0) | (n_firings == table.tokens.sum())
    names = np.array(table.tasks, dtype=object)[contrasts.argmax(axis=0)]
    return {
        "unit": np.arange(n_units),
        "n_firings": n_firings,
        "scored": scored,
        "si": si,
        "si_null": si_null,
        "mi_bits": empty if found is None else found.bits,
        "q_value": empty if found is None else found.q,
        "selective": empty if found is None else found.selective.astype(np.int64),
        "preferred_task": np.where(undecided, None, names),
    }
