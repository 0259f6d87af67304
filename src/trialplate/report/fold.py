"""Events -> report. A pure function of the set of events: the order in which workers delivered their cases does not matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from trialplate.report.conclude import reasons
from trialplate.report.journal import AnyEvent, Carried, Ended, Finished, Judged, Noted, Selected, Started
from trialplate.report.model import (
    Case,
    Dataset,
    Measurement,
    NotCollected,
    Policy,
    Report,
    Run,
    Sample,
    Subject,
    Verdict,
    measurement_key,
)

_E = TypeVar("_E", Started, Judged, Ended)


class FoldError(Exception):
    """The events do not make a report: nothing started."""


class _Selection(NamedTuple):
    attempt: int
    cases: set[str]
    not_collected: list[NotCollected]
    filters: list[str]
    subjects: list[str]
    gates: set[str]
    gone: set[str]


def fold(events: Iterable[AnyEvent], *, torn: bool = False) -> Report:
    """Fold a journal into the report it stands for. Of a case that ran in several attempts the last attempt counts.

    Raises FoldError when no run started.
    """
    events = list(events)
    started = _by_attempt(events, Started)
    if not started:
        raise FoldError("no run started in these events")
    last = started[max(started)]
    errors = sorted(
        {e.text for e in events if isinstance(e, Noted) and e.kind == "error" and e.attempt == last.attempt}
    )
    if torn:
        errors.append("the journal ends in a torn line; the case that was being written is lost")
    selection = _selection(events)
    kept = [e for e in current(events) if not _is_gone(e, selection)]
    cases, measurements, data = _finished(kept)
    subjects, changed = _subjects(kept)
    there = {c.id for c in cases}
    cases += [Case(id=i, outcome="not run", gate=i in selection.gates) for i in selection.cases - there]
    cases.sort(key=lambda c: (c.gate, c.id))
    policies, verdicts = _judgement(events, last.attempt)
    run = _run(events, started[min(started)].run, last, selection)
    errors += _clashes(events, kept) + changed
    why = reasons(run, subjects, cases, measurements, verdicts, errors, selection.not_collected)
    return Report(
        pass_all=not why,
        reasons=why,
        run=run,
        subjects=subjects,
        code=last.code,
        config=last.config,
        data=data,
        environment=last.environment,
        cases=cases,
        measurements=measurements,
        policies=policies,
        gates=verdicts,
        not_collected=selection.not_collected,
        degraded=_degraded(events, started),
        errors=errors,
    )


def current(events: Iterable[AnyEvent]) -> Iterator[Finished | Carried]:
    """The events that count: for every case the one of its last attempt, in the order of case ids."""
    best: dict[str, Finished | Carried] = {}
    for e in events:
        if isinstance(e, Finished | Carried):
            old = best.get(e.case.id)
            if old is None or e.attempt > old.attempt or (e.attempt == old.attempt and _bytes(e) > _bytes(old)):
                best[e.case.id] = e
    for case in sorted(best):
        yield best[case]


def samples(events: Iterable[AnyEvent]) -> Iterator[tuple[Case, str, Sample]]:
    """(case, subject key, sample) for every item of every case that counts."""
    events = list(events)
    selection = _selection(events)
    for e in current(events):
        if isinstance(e, Finished) and not _is_gone(e, selection):
            for sample in e.samples:
                yield e.case, e.case.subject, sample


def _is_gone(e: Finished | Carried, selection: _Selection) -> bool:
    """Whether a case is one of an earlier attempt that the evals no longer have."""
    return e.attempt < selection.attempt and e.case.id in selection.gone


def _bytes(e: AnyEvent) -> bytes:
    # settles a double delivery the same way in whatever order the two arrive
    return msgspec.json.encode(e, order="sorted")


def _by_attempt(events: Iterable[AnyEvent], kind: type[_E]) -> dict[int, _E]:
    """The one event of a kind in every attempt."""
    found: dict[int, _E] = {}
    for e in events:
        if isinstance(e, kind):
            old = found.get(e.attempt)
            if old is None or _bytes(e) > _bytes(old):
                found[e.attempt] = e
    return found


def _finished(kept: list[Finished | Carried]) -> tuple[list[Case], list[Measurement], list[Dataset]]:
    cases: list[Case] = []
    measurements: dict[tuple[str, ...], Measurement] = {}
    data: dict[tuple[str, str], Dataset] = {}
    for e in kept:
        # a carried case keeps the count of the run that measured it
        same = isinstance(e, Carried) or e.case.measured == len(e.measurements)
        cases.append(e.case if same else msgspec.structs.replace(e.case, measured=len(e.measurements)))
        measurements |= {measurement_key(m): m for m in e.measurements}
        data |= {(d.name, d.sha256): d for d in e.data}
    return cases, [measurements[k] for k in sorted(measurements)], [data[k] for k in sorted(data)]


def _clashes(events: Iterable[AnyEvent], kept: list[Finished | Carried]) -> list[str]:
    """What was delivered twice: cases within one attempt, measurements within one case."""
    counts: dict[tuple[str, int], int] = {}
    for e in events:
        if isinstance(e, Finished | Carried):
            counts[e.case.id, e.attempt] = counts.get((e.case.id, e.attempt), 0) + 1
    errors = [f"case {case} finished {n} times in one run" for (case, _), n in sorted(counts.items()) if n > 1]
    seen: set[tuple[str, ...]] = set()
    for e in kept:
        for m in e.measurements:
            key = measurement_key(m)
            if key in seen:
                errors.append(f"measured twice: {m.metric} {m.params} in {m.case}")
            seen.add(key)
    return errors


def _subjects(kept: list[Finished | Carried]) -> tuple[list[Subject], list[str]]:
    found: dict[str, Subject] = {}
    errors = []
    for e in kept:
        s = e.subject
        if s is None:
            continue
        if found.setdefault(s.key, s) != s:
            errors.append(
                f"subject {s.key} was not the same model in all cases (first {found[s.key].weights_digest[:12]}, "
                f"then {s.weights_digest[:12]})"
            )
    return [found[k] for k in sorted(found)], sorted(set(errors))


def _selection(events: Iterable[AnyEvent]) -> _Selection:
    """Of the last attempt that came as far as a selection; several events of it (one a worker) add up."""
    chosen = [e for e in events if isinstance(e, Selected)]
    attempt = max((e.attempt for e in chosen), default=0)
    chosen = [e for e in chosen if e.attempt == attempt]
    left_out = {(n.case, n.subject, n.reason): n for e in chosen for n in e.not_collected}
    return _Selection(
        attempt=attempt,
        cases={c for e in chosen for c in e.cases},
        not_collected=[left_out[k] for k in sorted(left_out)],
        filters=sorted({f for e in chosen for f in e.filters}),
        subjects=sorted({s for e in chosen for s in e.subjects}),
        gates={g for e in chosen for g in e.gates},
        # each worker says which cases its collection lacks; all collect the same
        gone={c for e in chosen for c in e.gone},
    )


def _judgement(events: Iterable[AnyEvent], attempt: int) -> tuple[list[Policy], list[Verdict]]:
    judged = _by_attempt(events, Judged).get(attempt)
    return (judged.policies, judged.verdicts) if judged else ([], [])


def _run(events: Iterable[AnyEvent], first: Run, last: Started, selection: _Selection) -> Run:
    base = msgspec.structs.replace(
        last.run,
        id=first.id,
        started_at=first.started_at,
        attempts=last.attempt,
        filters=selection.filters,
        subjects=selection.subjects,
    )
    end = _by_attempt(events, Ended).get(last.attempt)
    if end is None:
        return base
    state = "finished" if end.state == "finished" else "interrupted"
    return msgspec.structs.replace(
        base, state=state, finished_at=end.finished_at, exit_status=end.exit_status, judged=end.judged
    )


def _degraded(events: Iterable[AnyEvent], started: dict[int, Started]) -> list[str]:
    """What was not as asked for, in any attempt: its measurements may still count."""
    found = {e.text for e in events if isinstance(e, Noted) and e.kind == "degraded"}
    for attempt, e in started.items():
        before = started.get(attempt - 1, e)
        if (e.code.trialplate_sha256, e.code.evals_sha256) != (before.code.trialplate_sha256, before.code.evals_sha256):
            found.add(f"attempt {attempt} ran with other code than attempt {attempt - 1}")
        if e.environment.packages != before.environment.packages:
            found.add(f"attempt {attempt} ran with other versions of its libraries than attempt {attempt - 1}")
    return sorted(found)
