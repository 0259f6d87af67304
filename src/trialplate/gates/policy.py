"""Policy files: which bounds a model must keep before it is released, as TOML that a person can diff.

A policy that could not mean what it says is refused when it is loaded, naming the gate and the field: unknown keys, NaN, no bound, two
gates of one name, empty covers, a bound that nothing can pass or that nothing can fail.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from trialplate.report.catalogue import METRICS, Metric
from trialplate.report.model import Scalar

Basis = Literal["point", "lcb", "ucb"]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class PolicyError(Exception):
    """A policy that is refused; the text names file, gate and field, and what would be right."""


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One bound on one metric.

    All measurements of `metric` whose params match `where` must satisfy min <= x <= max, where x is the value (basis "point"), or the
    lower ("lcb") or upper ("ucb") end of the two-sided confidence interval at `level`. `covers` lists, by parameter, the values
    that must all be present. `models` narrows the policy's own. `min_n` is the least number of observations of each measurement.
    """

    name: Text
    metric: Text
    models: list[Text] | None = None
    where: dict[str, Scalar] = {}
    covers: dict[str, list[Scalar]] = {}
    min: float | None = None
    max: float | None = None
    basis: Basis = "point"
    level: float = 0.95
    min_n: int = 1
    required: bool = True
    why: str = ""

    @property
    def bound(self) -> str:
        """The bound as a reader writes it: "lcb95 >= 0.9"."""
        name = "value" if self.basis == "point" else f"{self.basis}{100 * self.level:g}"
        if self.min is not None and self.max is not None:
            return f"{self.min:g} <= {name} <= {self.max:g}"
        return f"{name} >= {self.min:g}" if self.min is not None else f"{name} <= {self.max:g}"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of gates and the models it is meant for (globs on subject labels). `sha256` is that of the file's bytes."""

    name: str
    models: list[str]
    gates: list[Gate]
    sha256: str
    path: str
    why: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: Text
    models: list[Text]
    gate: list[Gate]
    why: str = ""


def load_policy(path: Path, metrics: Mapping[str, Metric] | None = None) -> Policy:
    """Read and check one policy file. `metrics` adds a suite's own catalogue rows. Raises PolicyError."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise PolicyError(f"cannot read policy {path}: {e.strerror}; give a TOML file of gates") from e
    return parse_policy(data, str(path), metrics)


def parse_policy(data: bytes, where: str, metrics: Mapping[str, Metric] | None = None) -> Policy:
    """Check the bytes of a policy file; `where` is named in errors. Raises PolicyError."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise PolicyError(f"{where} is not TOML: {e}") from e
    if not table.get("gate"):
        near = difflib.get_close_matches("gate", table, 1)
        hint = f"; [[{near[0]}]] is not read, did you mean [[gate]]?" if near and near[0] != "gate" else ""
        raise PolicyError(
            f"{where} holds no gate{hint}; a policy without gates would pass everything. Add a [[gate]] table"
        )
    try:
        file = msgspec.convert(table, _File)
    except msgspec.ValidationError as e:
        raise PolicyError(_explain(str(e), table, where)) from e
    if not file.models:
        raise PolicyError(f'{where}: models is empty; name the subjects it judges, such as models = ["pythia-70m"]')
    known = {**METRICS, **(metrics or {})}
    seen: set[str] = set()
    for gate in file.gate:
        place = f"{where}: gate {gate.name!r}"
        if gate.name in seen:
            raise PolicyError(f"{place}: name is used twice; every gate needs its own")
        seen.add(gate.name)
        _check_fields(gate, place)
        _check_metric(gate, place, known)
    return Policy(
        name=file.name,
        models=file.models,
        gates=file.gate,
        sha256=hashlib.sha256(data).hexdigest(),
        path=where,
        why=file.why,
    )


def load_policies(paths: list[Path], metrics: Mapping[str, Metric] | None = None) -> list[Policy]:
    """Read policy files, and every *.toml of a folder in name order. Two policies of one name are refused."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not found:
            raise PolicyError(f"{path} holds no policy; put a *.toml with gates there, or give another folder")
        files += found
    policies = [load_policy(f, metrics) for f in files]
    names: dict[str, str] = {}
    for p in policies:
        if p.name in names:
            raise PolicyError(f"{p.path} and {names[p.name]} are both named {p.name!r}; rename one")
        names[p.name] = p.path
    return policies


def _check_fields(gate: Gate, place: str) -> None:
    if gate.min is None and gate.max is None:
        raise PolicyError(f"{place}: has neither min nor max; a gate without a bound passes everything")
    for field in ("min", "max", "level"):
        x = getattr(gate, field)
        if x is not None and not math.isfinite(x):
            raise PolicyError(f"{place}: {field} is {x}; give a finite number")
    if gate.min is not None and gate.max is not None and gate.min > gate.max:
        raise PolicyError(f"{place}: min {gate.min:g} is above max {gate.max:g}; nothing can pass")
    if gate.basis == "lcb" and (gate.min is None or gate.max is not None):
        raise PolicyError(
            f"{place}: basis lcb bounds from below; give min alone (an upper bound goes with ucb, in a gate of its own)"
        )
    if gate.basis == "ucb" and (gate.max is None or gate.min is not None):
        raise PolicyError(
            f"{place}: basis ucb bounds from above; give max alone (a lower bound goes with lcb, in a gate of its own)"
        )
    if not 0.5 <= gate.level < 1:
        raise PolicyError(f"{place}: level must lie in [0.5, 1), got {gate.level:g}")
    if gate.min_n < 1:
        raise PolicyError(f"{place}: min_n must be at least 1, got {gate.min_n}")
    if gate.models is not None and not gate.models:
        raise PolicyError(f"{place}: models is empty; leave it out to judge all models of the policy")
    for key, values in gate.covers.items():
        if not values:
            raise PolicyError(f"{place}: covers.{key} is empty; list the values of {key} that must be present")
        if len({repr(v) for v in values}) != len(values):
            raise PolicyError(f"{place}: covers.{key} lists a value twice")
        if key in gate.where:
            raise PolicyError(f"{place}: covers.{key} asks for values that where.{key} leaves out; give one of the two")
    for key, x in [*gate.where.items(), *((k, v) for k, vs in gate.covers.items() for v in vs)]:
        if isinstance(x, float) and not math.isfinite(x):
            raise PolicyError(f"{place}: {key} is {x}; give a finite number")


def _check_metric(gate: Gate, place: str, known: Mapping[str, Metric]) -> None:
    if gate.metric not in known:
        near = difflib.get_close_matches(gate.metric, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "; see docs/metrics.md"
        raise PolicyError(f"{place}: metric {gate.metric!r} is not in the catalogue{hint}")
    row = known[gate.metric]
    attainable = f"{gate.metric} lies in [{_end(row.low)}, {_end(row.high)}]"
    if gate.min is not None and row.high is not None and gate.min > row.high:
        raise PolicyError(f"{place}: min {gate.min:g} can never be reached: {attainable}")
    if gate.max is not None and row.low is not None and gate.max < row.low:
        raise PolicyError(f"{place}: max {gate.max:g} can never be kept: {attainable}")
    if row.unit == "fraction" and (
        (gate.basis == "lcb" and gate.min is not None and row.high is not None and gate.min >= row.high)
        or (gate.basis == "ucb" and gate.max is not None and row.low is not None and gate.max <= row.low)
    ):
        raise PolicyError(f"{place}: bound {gate.bound} can never be reached: no finite number of items proves it")
    free_below = gate.min is None or (row.low is not None and gate.min <= row.low)
    free_above = gate.max is None or (row.high is not None and gate.max >= row.high)
    if free_below and free_above:
        raise PolicyError(f"{place}: bound {gate.bound} can never fail: {attainable}")


def _end(x: float | None) -> str:
    return "unbounded" if x is None else f"{x:g}"


def _explain(message: str, table: dict[str, Any], where: str) -> str:
    """msgspec names the path ($.gate[0].min); a reader looks for the gate's name."""
    found = re.search(r"\$\.gate\[(\d+)\]\.?(\S*)", message)
    text = message.split(" - at ")[0]
    if found is None:
        field = re.search(r"\$\.(\w+)", message)
        return f"{where}: {field[1] + ': ' if field else ''}{text}{_meant(text, _File.__struct_fields__)}"
    field_name = found[2].strip("`")
    hint = _meant(text, Gate.__struct_fields__)
    if field_name == "basis":
        hint = "; give point, lcb or ucb"
    return f"{where}: gate {_name(table, int(found[1]))!r}: {field_name + ': ' if field_name else ''}{text}{hint}"


def _name(table: dict[str, Any], index: int) -> str:
    """The name of a gate that could not be read, or its number."""
    gates = table["gate"]
    entry = gates[index] if isinstance(gates, list) else None
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else f"number {index + 1}"


def _meant(text: str, fields: tuple[str, ...]) -> str:
    unknown = re.search(r"unknown field `([^`]+)`", text)
    near = difflib.get_close_matches(unknown[1], fields, 1) if unknown else []
    return f"; did you mean {near[0]!r}?" if near else ""
