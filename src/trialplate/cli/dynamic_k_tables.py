"""What runs with some hidden units left out become as tables, and the few numbers that are shown first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trialplate.cli.headlines import Headline, number, percent, spread

if TYPE_CHECKING:
    import pandas as pd

    from trialplate.activations.decoding_speed import DecodingSpeed
    from trialplate.activations.quality import Quality

COLUMNS = (
    *("scope", "rule", "kept", "kept_measured", "perplexity", "ppl_lo", "ppl_hi", "dppl_pct"),
    *("bits_per_byte", "kl_to_dense", "n_tokens", "n_docs", "dppl_lo", "dppl_hi"),
)


class DynamicKTables(NamedTuple):
    """`quality` and, of random units, `null`: a row a scope, rule and share. `speed`: the dense model and a row a share; None if not timed."""

    quality: pd.DataFrame
    null: pd.DataFrame
    speed: pd.DataFrame | None


class Split(NamedTuple):
    """Token ids of the texts that set thresholds, and of those that are scored with their bytes."""

    calibration: list[list[int]]
    scored: list[list[int]]
    n_bytes: list[int]


def split_texts(
    documents: Mapping[str, list[list[int]]], n_bytes: Mapping[str, list[int]], *, calibrate: bool
) -> Split:
    """Of every task the first of each four texts sets thresholds and the others are scored; without `calibrate` all are scored.

    Raises ValueError for a task of one text that would have to do both."""
    calibration: list[list[int]] = []
    scored: list[list[int]] = []
    sizes: list[int] = []
    for task, rows in documents.items():
        if calibrate and len(rows) < 2:
            raise ValueError(
                f"task {task} has one text: thresholds are set on other texts than they are judged on, so wanted at least 2; give more, or use --rule topk"
            )
        for at, (ids, size) in enumerate(zip(rows, n_bytes[task], strict=True)):
            if calibrate and at % 4 == 0:
                calibration.append(ids)
            else:
                scored.append(ids)
                sizes.append(size)
    return Split(calibration, scored, sizes)


def quality_table(found: Sequence[tuple[float, Quality]]) -> pd.DataFrame:
    """A row a scope, rule and share asked for; `dppl_lo` and `dppl_hi` are paired by document, so they are far closer than those of perplexity."""
    import pandas as pd

    nothing = (None, None)
    rows = [
        (
            *(one.scope, one.rule, asked, one.kept_share),
            *(one.perplexity.value, *(one.perplexity.ci or nothing), one.dppl_pct.value),
            *(None if one.bits_per_byte is None else one.bits_per_byte.value, one.kl_to_dense.value),
            *(int(one.n_tokens.sum()), len(one.n_tokens), *(one.dppl_pct.ci or nothing)),
        )
        for asked, one in found
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def speed_table(found: Sequence[DecodingSpeed], quality: pd.DataFrame, ceilings: Sequence[float]) -> pd.DataFrame:
    """A row for the dense model and one a share, of one rule over all chosen layers: tokens a second, and how much of what can be gained was.

    ceilings: 1 / (1 - f (1 - kept)) of each, f = these down projections / all weights read a token (`decoding_speed.speedup_ceiling`).
    efficiency: (speedup - 1) / (ceiling - 1); undefined where everything is kept, for then nothing can be gained."""
    import numpy as np
    import pandas as pd

    whole = quality[quality["scope"] == quality["scope"].iloc[0]]
    perplexity = whole.set_index(["rule", "kept"])["perplexity"]
    dense = {
        "kept": 1.0,
        "kernel": "dense",
        "tokens_per_second": float(np.median([one.dense.median for one in found])),
        "tps_lo": float(np.median([one.dense.low for one in found])),
        "tps_hi": float(np.median([one.dense.high for one in found])),
        "speedup": 1.0,
        "speedup_ceiling": 1.0,
        "efficiency": None,
        "perplexity": whole["perplexity"].iloc[0] / (1 + whole["dppl_pct"].iloc[0] / 100),
    }
    rows = [
        {
            "kept": one.asked,
            "kernel": one.kernel,
            "tokens_per_second": one.sparse.median,
            "tps_lo": one.sparse.low,
            "tps_hi": one.sparse.high,
            "speedup": one.speedup.median,
            "speedup_ceiling": ceiling,
            "efficiency": (one.speedup.median - 1) / (ceiling - 1) if ceiling > 1 else None,
            "perplexity": perplexity[one.rule, one.asked],
        }
        for one, ceiling in zip(found, ceilings, strict=True)
    ]
    return pd.DataFrame([dense, *rows]).assign(threads=found[0].threads, repeats=found[0].repeats)


def headline(tables: DynamicKTables, timed_rule: str) -> Headline:
    """A row a rule and share, over all chosen layers together: what it costs, what as many random units would cost, and how fast it was."""
    scope = tables.quality["scope"].iloc[0]
    rows = tables.quality[tables.quality["scope"] == scope]
    chance = tables.null[tables.null["scope"] == scope].set_index("kept")["dppl_pct"]
    columns = ["rule", "asked", "kept", "perplexity", "change in %", "with random units", "KL (nats)"]
    notes = [
        "[95 % interval over texts]; the change of perplexity is paired by text. With random units: its change when as many are drawn anew for every token."
    ]
    speed = None
    if tables.speed is not None:
        speed = tables.speed[tables.speed["kernel"] != "dense"].set_index("kept")
        columns += ["speed-up", "at most"]
        notes.append(
            "speed-up: of decoding one text, median of rounds; at most: if the rows that are skipped cost nothing."
        )
    body = []
    for row in rows.to_dict("records"):
        kept = row["kept"]
        cells = [row["rule"], f"{kept:g}", percent(row["kept_measured"])]
        cells.append(spread(row["perplexity"], _ends(row, "ppl_lo", "ppl_hi"), "{:.3f}".format))
        cells.append(spread(row["dppl_pct"], _ends(row, "dppl_lo", "dppl_hi"), _change))
        cells.append(_change(chance[kept]) if kept in chance.index else "")
        cells.append(number(row["kl_to_dense"]))
        if speed is not None:
            there = row["rule"] == timed_rule and kept in speed.index
            cells += [f"{speed.loc[kept, c]:.2f}×" if there else "" for c in ("speedup", "speedup_ceiling")]
        body.append(cells)
    title = f"What leaving out hidden units costs, {'all layers' if scope == 'all' else scope}"
    return Headline(title, columns, body, notes)


def _change(percent_: float) -> str:
    return f"{percent_:+.2f}" if abs(percent_) < 100 else f"{percent_:+,.0f}"


def _ends(row: Mapping[str, float], low: str, high: str) -> tuple[float, float] | None:
    import pandas as pd

    return None if pd.isna(row[low]) else (row[low], row[high])
