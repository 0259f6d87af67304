"""What a case records, before it is written: plain data that survives a process boundary, checked at the moment it is recorded.

A numpy or torch scalar on a test report crashes a distributed run, and NaN passes comparisons that are written the wrong way round:
both are settled here, by float() and by refusing what is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from trialplate.report.catalogue import Metric, lookup


class RecordError(ValueError):
    """A measurement that cannot be recorded; the text says what was wanted and what was got."""


class Recorder:
    """Collects the measurements, samples and data sets of one case as plain dictionaries. It only records: the assert is the eval's."""

    def __init__(self, case: str, subject: str, metrics: Mapping[str, Metric] | None = None) -> None:
        self.case, self.subject = case, subject
        self.measurements: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.data: list[dict[str, Any]] = []
        self._metrics = dict(metrics or {})
        self._seen: set[tuple[str, str]] = set()
        self.identity: dict[str, Any] | None = None

    def __call__(
        self,
        metric: str,
        value: Any,
        *,
        n: int | None = None,
        stderr: Any = None,
        ci: Any = None,
        level: float = 0.95,
        null: Any = None,
        samples: Iterable[Mapping[str, Any]] = (),
        unit: str | None = None,
        direction: str | None = None,
        **params: Any,
    ) -> float:
        """Record one measurement and return it as a plain float.

        `value` is a number, or an estimate (an object with value, n, stderr, ci, level). `null` is (kind, number), or
        (kind, estimate), or None where the metric has none. `samples` are mappings with `item`, `value` and anything else worth reading.
        Raises RecordError for a non-finite number, an unknown metric without unit and direction, and a duplicate.
        """
        if hasattr(value, "value") and hasattr(value, "stderr"):
            n = value.n if n is None else n
            stderr = value.stderr if stderr is None else stderr
            ci = value.ci if ci is None else ci
            level, value = value.level, value.value
        row = _row(metric, unit, direction, self._metrics)
        plain = {k: _scalar(f"{metric}: parameter {k}", v) for k, v in params.items()}
        self._refuse_duplicate(metric, plain)
        number = _finite(metric, "value", value)
        measurement = {
            "case": self.case,
            "subject": self.subject,
            "metric": metric,
            "params": plain,
            "value": number,
            "n": _count(metric, n),
            "stderr": None if stderr is None else _finite(metric, "stderr", stderr),
            "ci": _pair(metric, ci),
            "level": float(level),
            "null": _null(metric, null),
            "unit": row.unit,
            "direction": row.direction,
            "range": (row.low, row.high),
        }
        _refuse_out_of_range(metric, number, row)
        kept = [_sample(metric, plain, s) for s in samples]
        self.measurements.append(measurement)
        self.samples += kept
        return number

    def uses(self, name: str, sha256: str, n_items: int, **more: Any) -> None:
        """Name the items that this case used, by content."""
        self.data.append({"name": name, "sha256": sha256, "n_items": int(n_items), **more})

    def payload(self) -> dict[str, Any]:
        """Plain data for the test report."""
        return {
            "subject": self.subject,
            "identity": self.identity,
            "measurements": self.measurements,
            "samples": self.samples,
            "data": self.data,
        }

    def _refuse_duplicate(self, metric: str, params: dict[str, Any]) -> None:
        key = (metric, repr(sorted(params.items())))
        if key in self._seen:
            raise RecordError(
                f"{metric} with {params or 'no parameters'} was already recorded in {self.case}; "
                f"give the second one a parameter that tells them apart"
            )
        self._seen.add(key)


def _row(metric: str, unit: str | None, direction: str | None, extra: Mapping[str, Metric]) -> Metric:
    found = lookup(metric, dict(extra))
    if found is not None:
        return found
    if unit is None or direction not in ("higher", "lower", "none"):
        raise RecordError(
            f"{metric!r} is not in the metric catalogue; add it through the hook trialplate_metrics, or record it "
            f"with unit='...' and direction='higher', 'lower' or 'none'"
        )
    return Metric(unit, direction, None, None, "")  # type: ignore[arg-type]


def _number(metric: str, what: str, x: Any) -> float:
    try:
        return float(x)
    except (TypeError, ValueError, RuntimeError) as e:  # RuntimeError: a tensor with several elements
        raise RecordError(f"{metric}: {what} must be one number, got {type(x).__name__} {str(x)[:60]!r}") from e


def _finite(metric: str, what: str, x: Any) -> float:
    number = _number(metric, what, x)
    if not math.isfinite(number):
        raise RecordError(
            f"{metric}: {what} is {number}; only finite numbers are recorded. Assert the cause first, or leave it unrecorded: "
            f"a gate then says MISSING"
        )
    return number


def _count(metric: str, n: Any) -> int:
    if n is None:
        raise RecordError(f"{metric}: say how many observations it rests on: record(..., n=...)")
    number = int(n)
    if number < 1:
        raise RecordError(f"{metric}: n must be at least 1, got {number}; nothing was observed")
    return number


def _pair(metric: str, ci: Any) -> tuple[float, float] | None:
    if ci is None:
        return None
    low, high = (_finite(metric, "ci", x) for x in ci)
    if not low <= high:
        raise RecordError(f"{metric}: ci must be (low, high), got ({low}, {high})")
    return (low, high)


def _null(metric: str, null: Any) -> dict[str, Any] | None:
    if null is None:
        return None
    kind, value = null
    if hasattr(value, "value") and hasattr(value, "ci"):
        return {
            "kind": str(kind),
            "value": _finite(metric, "null", value.value),
            "n": int(value.n),
            "ci": _pair(metric, value.ci),
        }
    return {"kind": str(kind), "value": _finite(metric, "null", value), "n": None, "ci": None}


def _scalar(what: str, x: Any) -> str | int | float | bool:
    if isinstance(x, str | bool | int):
        return x
    if hasattr(x, "item"):  # a numpy scalar, which msgspec would refuse
        x = x.item()
    if isinstance(x, str | bool | int):
        return x
    if isinstance(x, float) and math.isfinite(x):
        return x
    raise RecordError(f"{what} must be a string, a boolean or a finite number, got {type(x).__name__} {str(x)[:60]!r}")


def _sample(metric: str, params: dict[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    if "item" not in sample or "value" not in sample:
        raise RecordError(f"{metric}: a sample needs `item` and `value`, got keys {sorted(sample)}")
    extra = {k: _scalar(f"{metric}: sample field {k}", v) for k, v in sample.items() if k not in ("item", "value")}
    return {
        "metric": metric,
        "params": params,
        "item": str(sample["item"]),
        "value": _finite(metric, "sample", sample["value"]),
        "extra": extra,
    }


def _refuse_out_of_range(metric: str, value: float, row: Metric) -> None:
    # a rounding error at the edge is not a wrong definition: 1e-9 of slack
    if (row.low is not None and value < row.low - 1e-9) or (row.high is not None and value > row.high + 1e-9):
        raise RecordError(
            f"{metric}: {value} lies outside what it can attain, [{row.low}, {row.high}] {row.unit}; "
            f"the metric is computed wrongly or has another name"
        )
