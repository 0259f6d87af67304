"""The metric catalogue as a page, so that docs/metrics.md is made from what the code uses."""

from __future__ import annotations

from trialplate.report.catalogue import METRICS


def catalogue_page() -> str:
    """Markdown: one row a metric."""
    rows = "\n".join(
        f"| `{name}` | {m.unit} | {m.direction} | {_end(m.low)} .. {_end(m.high)} | {m.text} |"
        for name, m in METRICS.items()
    )
    return (
        "# Metrics\n\n"
        "Made by `trialplate metrics` from `src/trialplate/report/catalogue.py`; every recorded measurement has a row here, or says its unit and\n"
        "direction itself. Better: whether a higher or a lower value is better. Range: what the metric can attain; a value outside is refused.\n\n"
        "| metric | unit | better | range | what |\n|---|---|---|---|---|\n" + rows + "\n"
    )


def _end(x: float | None) -> str:
    return "unbounded" if x is None else f"{x:g}"
