"""The tables that pictures are drawn from: which columns each has, and a reader that believes none of them unseen.

A `Kind` is recognised by the end of the file's name (`..._sparsity.csv`) and then by its columns. An empty cell means undefined and is
allowed only where the kind says so; `nan`, `inf` and words where numbers belong are errors with file, row and column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialplate.figures.style import FigureError

if TYPE_CHECKING:
    import pandas as pd

PLOT = "_plot_"
"""Between the name of a table and that of its picture; a file that carries it is our own output and never read as data."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A table: its name, which is the end of its files' names, what it holds, its columns, and those that may have empty cells.

    `also` are numbers that are used where they are there."""

    name: str
    what: str
    text: tuple[str, ...]
    numbers: tuple[str, ...]
    may_be_empty: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that must be there."""
        return self.text + self.numbers


_INTERVAL = ("ci_lo", "ci_hi")
_QUALITY = (
    ("scope", "rule"),
    (
        *("kept", "kept_measured", "perplexity", "ppl_lo", "ppl_hi", "dppl_pct", "bits_per_byte", "kl_to_dense"),
        *("n_tokens", "n_docs"),
    ),
    ("ppl_lo", "ppl_hi", "kl_to_dense", "bits_per_byte", "dppl_lo", "dppl_hi"),
    ("dppl_lo", "dppl_hi"),
)
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "sparsity",
            "sparsity by task and layer",
            ("task_id", "site", "positions", "metric"),
            ("layer", "value", *_INTERVAL, "n_tokens", "n_docs"),
            ("layer", "value", *_INTERVAL),
        ),
        Kind("units", "firing rates of units", ("task_id", "site"), ("layer", "unit", "rate", "mean_abs"), ("layer",)),
        Kind(
            "lorenz",
            "Lorenz curves",
            ("task_id", "site"),
            ("layer", "share_of_entries", "share_of_magnitude", "gini"),
            ("layer",),
        ),
        Kind(
            "si_units",
            "specialization of units",
            ("site", "preferred_task"),
            ("layer", "unit", "n_firings", "scored", "si", "si_null", "mi_bits", "q_value", "selective"),
            ("layer", "preferred_task", "si", "si_null", "mi_bits", "q_value", "selective"),
        ),
        Kind("si_rates", "firing rates by unit and task", ("site", "task_id"), ("layer", "unit", "rate"), ("layer",)),
        Kind(
            "si",
            "specialization by layer",
            ("site", "metric"),
            ("layer", "value", *_INTERVAL, "n_units", "n_docs"),
            ("layer", "value", *_INTERVAL),
        ),
        Kind(
            "modularity",
            "modularity by layer",
            ("site", "algorithm", "metric"),
            ("layer", "value"),
            ("layer", "value", "algorithm"),
        ),
        Kind(
            "modularity_nulls",
            "modularity of null graphs",
            ("site", "kind"),
            ("layer", "draw", "q", "n_edges"),
            ("layer", "q"),
        ),
        Kind("communities", "communities of units", ("site",), ("layer", "unit", "community"), ("layer",)),
        Kind("edges", "co-activation edges", ("site",), ("layer", "unit_a", "unit_b", "weight"), ("layer",)),
        Kind("dynamic_k", "quality against the kept share of units", *_QUALITY),
        Kind("dynamic_k_null", "quality with as many random units", *_QUALITY),
        Kind(
            "dynamic_k_speed",
            "speed against the kept share of units",
            ("kernel",),
            (
                *("kept", "tokens_per_second", "tps_lo", "tps_hi", "speedup", "speedup_ceiling", "efficiency"),
                *("perplexity", "threads", "repeats"),
            ),
            ("tps_lo", "tps_hi", "speedup_ceiling", "efficiency"),
        ),
        Kind(
            "ablation",
            "loss after ablating a task's units",
            ("ablated_task", "evaluated_task"),
            ("layer", "loss_increase_pct", "null_mean", "null_sd", "z"),
            ("layer", "z"),
        ),
        Kind(
            "scaling",
            "a metric against model size or training step",
            ("model", "metric"),
            ("n_parameters", "step", "value", *_INTERVAL),
            ("n_parameters", "step", "value", *_INTERVAL),
        ),
    )
}


def kind_of_name(path: Path) -> Kind | None:
    """The kind that a file's name ends in; the longest that fits, so that `_si_units` is not `_units`."""
    stem = path.stem
    found = [k for k in KINDS.values() if stem == k.name or stem.endswith(f"_{k.name}")]
    return max(found, key=lambda k: len(k.name), default=None)


def prefix_of(path: Path, kind: Kind) -> str:
    """What comes before the kind in a file's name; tables of one measurement share it."""
    return path.stem.removesuffix(kind.name).removesuffix("_") if kind_of_name(path) == kind else path.stem


def read(path: Path) -> tuple[Kind, pd.DataFrame]:
    """The kind and the checked rows of a CSV. Raises FigureError, or OSError where it cannot be read."""
    frame = _raw(path)
    kind = kind_of_name(path) or _kind_of_columns(frame, path)
    return kind, checked(frame, kind.name, str(path))


def _raw(path: Path) -> pd.DataFrame:
    """Cells as written: only the empty one is missing, a task called NA keeps its name."""
    import pandas as pd

    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=str)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as e:
        raise FigureError(
            f"{path} is not a CSV table: {e}; wanted UTF-8, comma-separated, with a header row; write it again with the command that made it"
        ) from e


def _kind_of_columns(frame: pd.DataFrame, path: Path) -> Kind:
    fits = [k for k in KINDS.values() if set(k.columns) <= set(frame.columns)]
    if fits:
        return max(fits, key=lambda k: len(k.columns))
    near = max(KINDS.values(), key=lambda k: len(set(k.columns) & set(frame.columns)) / len(k.columns))
    missing = [c for c in near.columns if c not in frame.columns]
    raise FigureError(
        f"{path}: neither its name nor its columns ({', '.join(map(str, frame.columns))}) belong to a table that pictures are drawn from; "
        f"nearest is {near.name!r}, which also has {', '.join(missing)}. Names end in one of: {', '.join(f'_{k}.csv' for k in KINDS)}"
    )


def checked(frame: pd.DataFrame, name: str, where: str = "the table given") -> pd.DataFrame:
    """A copy of the rows with the kind's columns as text and float64; further columns are kept as they are.

    Raises FigureError: a column that is missing, no rows, an empty cell where a value must be, a word or a number that is not
    finite where a number must be, an interval with one end or upside down.
    """
    kind = KINDS[name]
    missing = [c for c in kind.columns if c not in frame.columns]
    if missing:
        raise FigureError(
            f"{where} is no table of {kind.what}: it lacks {', '.join(missing)}; wanted {', '.join(kind.columns)}, "
            f"got {', '.join(map(str, frame.columns))}. Rename the columns, or give the file that ends in _{kind.name}.csv"
        )
    if frame.empty:
        raise FigureError(f"{where} has a header and no rows; a picture of {kind.what} needs at least one measurement")
    made = frame.reset_index(drop=True).copy()
    for column in (*kind.numbers, *(c for c in kind.also if c in made)):
        made[column] = _numbers(made[column], kind, where)
    for column in kind.text:
        _refuse_empty(made[column], kind, where)
        made[column] = made[column].where(made[column].isna(), made[column].astype(str))
    for low, high in (("ci_lo", "ci_hi"), ("ppl_lo", "ppl_hi"), ("dppl_lo", "dppl_hi"), ("tps_lo", "tps_hi")):
        if low in kind.columns or {low, high} <= {*kind.also} & {*made.columns}:
            _check_interval(made, low, high, where)
    return made


def _numbers(column: pd.Series, kind: Kind, where: str) -> pd.Series:
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = (numbers.isna() & column.notna()) | np.isinf(numbers)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise FigureError(
            f"{where}, row {row + 1}: {column.name} must be a finite number (an empty cell says undefined), got {column.iloc[row]!r}; "
            f"mend the row, or measure again"
        )
    _refuse_empty(numbers, kind, where)
    if pd.api.types.is_numeric_dtype(column):
        return numbers
    # to_numeric may be off in the last digit; float() gives back what was written
    return column.astype(object).map(float, na_action="ignore").astype(float)


def _refuse_empty(column: pd.Series, kind: Kind, where: str) -> None:
    if column.name not in kind.may_be_empty and column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise FigureError(
            f"{where}, row {row + 1}: {column.name} is empty, and a table of {kind.what} must have it in each row"
        )


def _check_interval(frame: pd.DataFrame, low: str, high: str, where: str) -> None:
    bad = (frame[low].isna() != frame[high].isna()) | (frame[low] > frame[high])
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise FigureError(
            f"{where}, row {row + 1}: an interval has two ends, low before high, got {low}={frame[low].iloc[row]}, "
            f"{high}={frame[high].iloc[row]}; leave both empty where there is none"
        )


def chosen(frame: pd.DataFrame, column: str, wanted: str, where: str = "the table") -> pd.DataFrame:
    """The rows with `wanted` in a column. FigureError that lists what is there when none has it."""
    rows = frame[frame[column] == wanted]
    if rows.empty:
        there = ", ".join(map(str, frame[column].dropna().unique()))
        raise FigureError(f"{where} has no row with {column} = {wanted!r}; there are: {there}. Choose one of those")
    return rows


def site_kind(site: str) -> str:
    """`mlp_act` of `L3.mlp_act`; a name without a layer as it is."""
    head, dot, tail = site.partition(".")
    return tail if dot and head[:1] in "Ll" and head[1:].isdigit() else site


POSITIONS = {"all": "all positions", "no_first": "without position 0"}


def positions_of(frame: pd.DataFrame) -> str:
    """Which tokens the rows are about, in words; "" for a table that does not say."""
    there: list[str] = list(frame["positions"].unique()) if "positions" in frame else []
    return " and ".join(POSITIONS.get(p, str(p)) for p in there)


def site_kinds(frame: pd.DataFrame) -> list[str]:
    """The kinds of site in a table that have a layer, in the order in which they come."""
    return list(dict.fromkeys(site_kind(s) for s in frame.loc[frame["layer"].notna(), "site"]))


def at_site(frame: pd.DataFrame, site: str | None, where: str = "the table") -> pd.DataFrame:
    """The rows of one kind of site, with whole layer numbers, by layer. Sites without a layer have no place in a picture by layer.

    Raises FigureError when no row has a layer, when `site` is not there, or when there are several and none is named.
    """
    there = site_kinds(frame)
    if not there:
        raise FigureError(
            f"{where} names no layer in any row, and this picture is drawn by layer; measure at sites such as L0.mlp_act"
        )
    if site is None and len(there) > 1:
        raise FigureError(
            f"{where} holds {len(there)} kinds of site ({', '.join(there)}); name one: a picture shows one"
        )
    wanted = there[0] if site is None else site
    if wanted not in there:
        raise FigureError(f"{where} has no site {wanted!r}; there are: {', '.join(there)}")
    rows = frame[frame["layer"].notna()]
    rows = rows[[site_kind(s) == wanted for s in rows["site"]]]
    return rows.assign(layer=rows["layer"].astype(int)).sort_values("layer", kind="stable")
