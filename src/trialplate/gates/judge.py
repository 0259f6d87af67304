"""The judge: a gate, a subject and the evidence in; a verdict out. Pure: no clock, no file, no global.

Order of the questions: is there valid evidence at all (MISSING, INVALID, STALE), does it keep the bound (FAIL), is it enough (THIN), and does
its interval keep the bound too (UNDECIDED)? PASS is written explicitly and needs every answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from trialplate.gates.bind import Binding
from trialplate.gates.policy import Gate
from trialplate.report.model import Case, Measurement, Scalar, Status, Verdict, measurement_key

_SEVERITY: tuple[Status, ...] = ("INVALID", "STALE", "FAIL", "THIN", "UNDECIDED", "PASS")


@dataclass(frozen=True)
class Evidence:
    """What a judge may look at.

    `stale` maps a case id to the reason why its measurements are of something else by now (other weights, other eval code).
    `filters` are the selections that left cases out, `absent` sentences on what was not collected for a subject key.
    """

    measurements: Sequence[Measurement]
    cases: Mapping[str, Case]
    stale: Mapping[str, str] = field(default_factory=dict)
    filters: Sequence[str] = ()
    absent: Mapping[str, Sequence[str]] = field(default_factory=dict)


def judge(bindings: Iterable[Binding], evidence: Evidence) -> list[Verdict]:
    """One verdict per binding, in their order."""
    by_metric: dict[tuple[str, str], list[Measurement]] = {}
    for m in evidence.measurements:
        by_metric.setdefault((m.subject, m.metric), []).append(m)
    gaps = _gaps(evidence)
    return [
        _write(b, "INVALID", gaps[b.subject], None, 0)
        if b.subject in gaps
        else _verdict(b, by_metric.get((b.subject, b.gate.metric), []), evidence)
        for b in bindings
    ]


def interval(m: Measurement, level: float) -> tuple[float, float] | None:
    """Two-sided interval of a measurement at `level`; None where it was recorded without one.

    Its own where the levels agree. Else for a share Wilson's at its effective number of items; for other metrics its own with both arms
    stretched by the ratio of the normal quantiles, or value +- z * stderr. A stderr of 0 alone is no interval: a few equal items are no
    certainty. Nothing at a higher level lies inside the measurement's own interval.
    """
    z = _quantile(level)
    if m.ci is not None and math.isclose(m.level, level):
        return m.ci
    if m.unit == "fraction" and m.stderr is not None:
        low, high = _wilson(m.value, _effective_n(m), z)
    elif m.ci is not None:
        stretch = z / _quantile(m.level)
        low, high = (m.value + stretch * (end - m.value) for end in m.ci)
    elif m.stderr:
        low, high = m.value - z * m.stderr, m.value + z * m.stderr
    else:
        return None
    return (low, high) if m.ci is None or level < m.level else (min(low, m.ci[0]), max(high, m.ci[1]))


def _effective_n(m: Measurement) -> float:
    """Independent items that a share's standard error stands for, p (1 - p) / stderr^2, at most n. All right or all wrong shows no spread: n."""
    variance = m.value * (1 - m.value)
    return min(m.n, variance / m.stderr**2) if m.stderr and variance > 0 else m.n


def _wilson(share: float, n: float, z: float) -> tuple[float, float]:
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (max(0.0, middle - half), min(1.0, middle + half))


def least_n_for(bound: float, level: float) -> int:
    """Fewest items with which a perfect score has a Wilson lower limit of `bound` < 1 at `level`: n / (n + z^2) >= bound."""
    if not 0 <= bound < 1:
        raise ValueError(f"no number of items gives a Wilson lower limit of {bound}; give a bound in [0, 1)")
    z = _quantile(level)
    return max(1, math.ceil(z * z * bound / (1 - bound)))


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _gaps(evidence: Evidence) -> dict[str, str]:
    """{subject: sentence} where a case of the subject recorded more or fewer measurements than there are: what is gone may have failed."""
    there: dict[str, int] = {}
    for m in evidence.measurements:
        there[m.case] = there.get(m.case, 0) + 1
    return {
        c.subject: f"case {c.id} recorded {c.measured} measurements, {there.get(c.id, 0)} are here"
        for c in sorted(evidence.cases.values(), key=lambda c: c.id, reverse=True)
        if there.get(c.id, 0) != c.measured
    }


def _verdict(b: Binding, candidates: list[Measurement], evidence: Evidence) -> Verdict:
    matched = [m for m in candidates if _where(b.gate, m)]
    lacking = _uncovered(b.gate, matched)
    if not matched or lacking:
        return _write(b, "MISSING", _missing(b, candidates, lacking, evidence), None, len(matched))
    answers = [(_one(b.gate, m, evidence), m) for m in matched]
    (status, reason), worst = min(
        answers, key=lambda a: (_SEVERITY.index(a[0][0]), _headroom(b.gate, a[1]), measurement_key(a[1]))
    )
    if status != "PASS" and worst.params:
        reason = f"{reason} [{', '.join(f'{k}={v}' for k, v in sorted(worst.params.items()))}]"
    return _write(b, status, reason, worst, len(matched))


def _where(gate: Gate, m: Measurement) -> bool:
    return all(_has(m, k, v) for k, v in gate.where.items())


def _has(m: Measurement, key: str, value: Scalar) -> bool:
    found = m.params.get(key)
    return found == value and type(found) is type(value)  # 1, 1.0 and true are three values


def _uncovered(gate: Gate, matched: list[Measurement]) -> list[str]:
    return [
        f"{key}={value}"
        for key, values in gate.covers.items()
        for value in values
        if not any(_has(m, key, value) for m in matched)
    ]


def _missing(b: Binding, candidates: list[Measurement], lacking: list[str], evidence: Evidence) -> str:
    where = ", ".join(f"{k}={v}" for k, v in b.gate.where.items())
    text = f"no measurement of {b.gate.metric}" + (f" where {where}" if where else "")
    if lacking:
        text += f" for {', '.join(lacking)}"
    elif candidates:
        text += f" ({len(candidates)} with other parameters)"
    if evidence.filters:
        text += f"; deselected by {', '.join(evidence.filters)}"
    measuring = [c for c in evidence.cases.values() if not c.gate and c.outcome != "passed"]
    if unrun := sum(c.outcome == "not run" for c in measuring):
        text += f"; {unrun} cases did not run"
    if unfinished := sum(c.subject == b.subject and c.outcome != "not run" for c in measuring):
        text += f"; {unfinished} cases of this subject did not pass"
    absent = evidence.absent.get(b.subject, ())
    if absent:
        text += (
            f"; {len(absent)} cases of this subject were not collected ({'; '.join(list(dict.fromkeys(absent))[:2])})"
        )
    return text


def _one(gate: Gate, m: Measurement, evidence: Evidence) -> tuple[Status, str]:
    """The answer for a single measurement."""
    invalid = _invalid(m, evidence)
    if invalid:
        return "INVALID", invalid
    if m.case in evidence.stale:
        return "STALE", evidence.stale[m.case]
    low, high = _limits(gate)
    bounds = (m.value, m.value) if gate.basis == "point" else interval(m, gate.level)
    if bounds is None:
        return "INVALID", f"basis {gate.basis} needs an interval, and {m.metric} was recorded without stderr or ci"
    if not (bounds[1] >= low and bounds[0] <= high):
        return "FAIL", f"{m.value:.4g}{_shown(gate, bounds)} does not keep {gate.bound}"
    if m.n < gate.min_n:
        limits = [f for f in evidence.filters if f.startswith("--limit")]
        limit = f"; cut by {limits[0]}" if limits else ""
        return "THIN", f"n={m.n}, the gate wants at least {gate.min_n}{limit}"
    x = bounds[1] if gate.basis == "ucb" else bounds[0]
    if low <= x <= high:
        return "PASS", ""
    return "UNDECIDED", f"{m.value:.4g}{_shown(gate, bounds)} straddles {gate.bound}" + _advice(gate, m)


def _shown(gate: Gate, bounds: tuple[float, float]) -> str:
    return "" if gate.basis == "point" else f" [{bounds[0]:.4g}, {bounds[1]:.4g}]"


def _invalid(m: Measurement, evidence: Evidence) -> str:
    case = evidence.cases.get(m.case)
    if case is None:
        return f"its case {m.case} is unknown"
    if case.outcome != "passed":
        return f"its case {m.case} ended as {case.outcome}, so the number is not valid"
    numbers = [m.value, m.level, *(m.ci or ()), *([m.stderr] if m.stderr is not None else [])]
    if not all(math.isfinite(x) for x in numbers):
        return f"{m.metric} holds a number that is not finite"
    if not (0 < m.level < 1) or not (m.stderr is None or m.stderr >= 0) or not (m.ci is None or m.ci[0] <= m.ci[1]):
        return f"{m.metric} holds an interval that is none"
    low, high = m.range
    if not (low is None or m.value >= low - 1e-9) or not (high is None or m.value <= high + 1e-9):
        return f"{m.value:.4g} lies outside what {m.metric} can attain"
    return ""


def _advice(gate: Gate, m: Measurement) -> str:
    if gate.basis == "lcb" and gate.min is not None and m.unit == "fraction":
        need = least_n_for(gate.min, gate.level) if 0 <= gate.min < 1 else 0
        if m.n < need:
            return f"; even a perfect score needs n >= {need}"
    return ""


def _limits(gate: Gate) -> tuple[float, float]:
    return (-math.inf if gate.min is None else gate.min, math.inf if gate.max is None else gate.max)


def _headroom(gate: Gate, m: Measurement) -> float:
    """How far inside the bound the value is; NaN sorts first, as the worst."""
    low, high = _limits(gate)
    room = min(m.value - low, high - m.value)
    return room if math.isfinite(room) else -math.inf


def _write(b: Binding, status: Status, reason: str, m: Measurement | None, matched: int) -> Verdict:
    return Verdict(
        gate=b.gate.name,
        subject=b.subject,
        status=status,
        required=b.gate.required,
        policy=b.policy.name,
        metric=b.gate.metric,
        bound=b.gate.bound,
        value=m.value if m is not None and math.isfinite(m.value) else None,
        n=m.n if m is not None else None,
        matched=matched,
        reason=reason,
        why=b.gate.why,
    )
