"""Values that others published for public models (`golden/published.json`), each with the drift that a correct run may show.

A result is a benchmark score and has bounds; a pin is a number that float32 on a CPU must reproduce within a tolerance. Nothing
here judges: policies state their numbers themselves and are tested against `bounds`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from trialplate.tasks.jsonl import Record, RowError, did_you_mean, read_document

SCHEMA = 1
Drift = Literal["absolute", "relative", "stderrs"]
PinKind = Literal["loss", "rolling", "choices", "token_ids"]

_RESULT_KEYS = frozenset(
    {
        "model",
        "revision",
        "task",
        "metric",
        "value",
        "stderr",
        "stderr_from",
        "n",
        "shots",
        "rounding",
        "drift",
        "source",
    }
)
_PIN_KEYS = frozenset({"kind", "model", "revision", "of", "values", "tolerance", "source"})


class PublishedError(RowError):
    """A golden file of published values that cannot be used; the message names the entry and the key."""


@dataclass(frozen=True, slots=True)
class Result:
    """One published score of (model, revision) on a task with `n` items and `shots` examples before each.

    metric    as lm-evaluation-harness names it: acc, acc_norm, perplexity
    stderr    published, or computed from value and n (`stderr_from`); None if neither was possible
    drift     what a correct run may differ by: an absolute amount, a share of the value, or a number of standard errors
    rounding  half a unit of the last digit that was published"""

    model: str
    revision: str
    task: str
    metric: str
    value: float
    stderr: float | None
    stderr_from: str
    n: int
    shots: int
    rounding: float
    drift: Drift
    drift_amount: float
    source: str

    @property
    def margin(self) -> float:
        """Half the width of `bounds`, before these are cut to the range of the metric."""
        unit = {"absolute": 1.0, "relative": abs(self.value), "stderrs": self.stderr or 0.0}[self.drift]
        return self.drift_amount * unit + self.rounding

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high): value -/+ drift and rounding; accuracies within [0, 1], perplexities at least 1."""
        low, high = self.value - self.margin, self.value + self.margin
        return (max(low, 1.0), high) if self.metric == "perplexity" else (max(low, 0.0), min(high, 1.0))


@dataclass(frozen=True, slots=True)
class Pin:
    """Exact numbers of a model: kind `loss` (nats/token of a text behind BOS), `rolling` and `choices` (log-likelihoods), `token_ids`."""

    kind: PinKind
    model: str
    revision: str
    of: str
    values: tuple[float, ...]
    tolerance: float
    source: str


@dataclass(frozen=True, slots=True)
class Published:
    """All results and pins of one golden file."""

    results: tuple[Result, ...]
    pins: tuple[Pin, ...]

    def find(self, model: str, task: str, metric: str, *, revision: str = "step143000", shots: int = 0) -> Result:
        """The one result of these coordinates. KeyError with the nearest that exists when there is none."""
        name = _coordinates(model, revision, task, metric, shots)
        known = {_coordinates(r.model, r.revision, r.task, r.metric, r.shots): r for r in self.results}
        if name not in known:
            raise KeyError(f"no published value for {name}{did_you_mean(name, known)}")
        return known[name]

    def bounds(
        self, model: str, task: str, metric: str, *, revision: str = "step143000", shots: int = 0
    ) -> tuple[float, float]:
        """(low, high) that a correct run stays in; what a gate built on the published value may ask for."""
        return self.find(model, task, metric, revision=revision, shots=shots).bounds

    def pins_of(self, model: str, kind: PinKind | None = None) -> tuple[Pin, ...]:
        """The pins of a model, of one kind or of all; empty where nothing was published."""
        return tuple(pin for pin in self.pins if pin.model == model and kind in (None, pin.kind))


def load_published(path: Path | str) -> Published:
    """Reads a golden file. PublishedError for an unknown schema or key, a wrong type, or two results with the same coordinates."""
    record = read_document(path, PublishedError)
    record.refuse_others({"schema", "notes", "results", "pins"})
    if record.whole("schema") != SCHEMA:
        record.fail("schema", f"wanted {SCHEMA}, got {record.data.get('schema')!r}; a newer release may read it")
    results: dict[str, Result] = {}
    for inner in record.inners("results"):
        result = _result(inner)
        name = _coordinates(result.model, result.revision, result.task, result.metric, result.shots)
        if name in results:
            inner.fail("", f"{name} was published twice; keep one")
        results[name] = result
    return Published(tuple(results.values()), tuple(_pin(inner) for inner in record.inners("pins")))


def _result(record: Record) -> Result:
    record.refuse_others(_RESULT_KEYS)
    drift = record.inner("drift")
    drift.refuse_others(get_args(Drift))
    if len(drift.data) != 1:
        record.fail("drift", f"wanted one of {', '.join(get_args(Drift))}, got {sorted(drift.data)}")
    kind = cast(Drift, next(iter(drift.data)))
    stderr = record.number("stderr")
    if kind == "stderrs" and stderr is None:
        record.fail("stderr", "a drift in standard errors needs a standard error, got none")
    return Result(
        model=record.text("model"),
        revision=record.text("revision"),
        task=record.text("task"),
        metric=record.choice("metric", ("acc", "acc_norm", "perplexity")),
        value=_required(record, "value"),
        stderr=stderr,
        stderr_from=record.choice("stderr_from", ("published", "binomial", "unknown")),
        n=int(_required(record, "n")),
        shots=int(_required(record, "shots")),
        rounding=_required(record, "rounding"),
        drift=kind,
        drift_amount=_required(drift, kind),
        source=record.text("source"),
    )


def _pin(record: Record) -> Pin:
    record.refuse_others(_PIN_KEYS)
    return Pin(
        kind=cast(PinKind, record.choice("kind", get_args(PinKind))),
        model=record.text("model"),
        revision=record.text("revision"),
        of=record.text("of"),
        values=_numbers(record, "values"),
        tolerance=_required(record, "tolerance"),
        source=record.text("source"),
    )


def _required(record: Record, key: str) -> float:
    value = record.number(key)
    if value is None or value < 0:
        record.fail(key, f"wanted a number that is not negative, got {value}")
    return value


def _numbers(record: Record, key: str) -> tuple[float, ...]:
    values: Sequence[object] = record.data.get(key) or ()
    if not isinstance(values, list) or not values or not all(type(value) in (int, float) for value in values):
        record.fail(key, f"wanted a list of at least one number, got {values!r}")
    return tuple(float(value) for value in values)


def _coordinates(model: str, revision: str, task: str, metric: str, shots: int) -> str:
    return f"{model}@{revision} {task} {metric} {shots}-shot"
