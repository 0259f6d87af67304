"""What a case records, before it is written: plain data, checked at the moment it is recorded, where the eval that did it can be named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trialplate.report import plain
from trialplate.report.catalogue import Metric, lookup
from trialplate.report.plain import RecordError

__all__ = ["RecordError", "Recorder"]

_DATA_FIELDS = {"seed": int, "revision": str, "license": str}


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
        self.degradations: list[Callable[[], str | None]] = []

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
        metric = plain.text("the name of a metric", metric)
        row = _row(metric, unit, direction, self._metrics)
        given = {plain.printable(k): plain.scalar(f"{metric}: parameter {k}", v) for k, v in params.items()}
        number = plain.number(metric, "value", value)
        measurement = {
            "case": self.case,
            "subject": self.subject,
            "metric": metric,
            "params": given,
            "value": number,
            "n": plain.count(metric, n),
            "stderr": plain.stderr(metric, stderr),
            "ci": plain.interval(metric, ci),
            "level": plain.level(metric, level),
            "null": _null(metric, null),
            "unit": row.unit,
            "direction": row.direction,
            "range": (row.low, row.high),
        }
        _refuse_out_of_range(metric, number, row)
        kept = [_sample(metric, given, s) for s in samples]
        self._refuse_duplicate(metric, given)
        self.measurements.append(measurement)
        self.samples += kept
        return number

    def uses(self, name: str, sha256: str, n_items: int, **more: Any) -> None:
        """Name the items that this case used, by content. `more`: seed (int), revision, license (str). Raises RecordError."""
        place = f"data set {name}"
        extra = {k: plain.scalar(f"{place}: {k}", v) for k, v in more.items() if v is not None}
        for key, value in extra.items():
            if not isinstance(value, _DATA_FIELDS.get(key, ())):
                raise RecordError(
                    f"{place}: {key}={value!r} is not kept; a data set has seed (int), revision and license (text)"
                )
        self.data.append(
            {
                "name": plain.text("the name of a data set", name),
                "sha256": plain.text(f"{place}: sha256", sha256),
                "n_items": plain.count(place, n_items, "n_items"),
                **extra,
            }
        )

    def payload(self) -> dict[str, Any]:
        """Plain data for the test report."""
        return {
            "subject": self.subject,
            "identity": self.identity,
            "measurements": self.measurements,
            "samples": self.samples,
            "data": self.data,
            "degraded": [text for say in self.degradations if (text := say())],
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
    found = lookup(metric, extra)
    if found is not None:
        return found
    if not unit or direction not in ("higher", "lower", "none"):
        raise RecordError(
            f"{metric!r} is not in the metric catalogue; add it through the hook trialplate_metrics, or record it "
            f"with unit='...' and direction='higher', 'lower' or 'none'"
        )
    return Metric(plain.text(f"{metric}: unit", unit), direction, None, None, "")  # type: ignore[arg-type]


def _null(metric: str, null: Any) -> dict[str, Any] | None:
    if null is None:
        return None
    try:
        kind, value = null
    except (TypeError, ValueError) as e:
        raise RecordError(f"{metric}: null must be (kind, number) or (kind, estimate), got {null!r}") from e
    n = ci = None
    if hasattr(value, "value") and hasattr(value, "ci"):
        n, ci, value = value.n, value.ci, value.value
    return {
        "kind": plain.text(f"{metric}: the kind of its null", kind),
        "value": plain.number(metric, "null", value),
        "n": None if n is None else plain.count(metric, n, "n of the null"),
        "ci": plain.interval(metric, ci),
    }


def _sample(metric: str, params: dict[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    if "item" not in sample or "value" not in sample:
        raise RecordError(f"{metric}: a sample needs `item` and `value`, got keys {sorted(sample)}")
    extra = {k: plain.scalar(f"{metric}: sample field {k}", v) for k, v in sample.items() if k not in ("item", "value")}
    return {
        "metric": metric,
        "params": params,
        "item": plain.printable(sample["item"]),
        "value": plain.number(metric, "sample", sample["value"]),
        "extra": extra,
    }


def _refuse_out_of_range(metric: str, value: float, row: Metric) -> None:
    # a rounding error at the edge is not a wrong definition: 1e-9 of slack
    if (row.low is not None and value < row.low - 1e-9) or (row.high is not None and value > row.high + 1e-9):
        raise RecordError(
            f"{metric}: {value} lies outside what it can attain, [{row.low}, {row.high}] {row.unit}; "
            f"the metric is computed wrongly or has another name"
        )
