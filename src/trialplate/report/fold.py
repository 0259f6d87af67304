"""Events -> report. A pure function of the set of events: the order in which workers delivered their cases does not matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


class FoldError(Exception):
    """The events do not make a report: nothing started."""


def fold(events: Iterable[AnyEvent], *, torn: bool = False) -> Report:
    """Fold a journal into the report it stands for. Of a case that ran in several attempts the last attempt counts.

    Raises FoldError when no run started.
    """
    events = list(events)
    started = {e.attempt: e for e in events if isinstance(e, Started)}
    if not started:
        raise FoldError("no run started in these events")
    last = started[max(started)]
    errors = sorted(e.text for e in events if isinstance(e, Noted) and e.kind == "error" and e.attempt == last.attempt)
    if torn:
        errors.append("the journal ends in a torn line; the case that was being written is lost")
    cases, measurements, data, clashes = _finished(events)
    subjects, changed = _subjects(events)
    selected, not_collected, filters = _selection(events)
    cases += [Case(id=i, outcome="not run") for i in sorted(selected - {c.id for c in cases})]
    policies, verdicts = _judgement(events, last.attempt)
    run = _run(events, started[min(started)].run, last, filters)
    errors += clashes + changed
    why = reasons(run, subjects, cases, measurements, verdicts, errors, not_collected)
    return Report(
        pass_all=not why,
        reasons=why,
        run=run,
        subjects=subjects,
        code=last.code,
        config=last.config,
        data=data,
        environment=last.environment,
        cases=sorted(cases, key=lambda c: (c.gate, c.id)),
        measurements=measurements,
        policies=policies,
        gates=verdicts,
        not_collected=not_collected,
        degraded=sorted({e.text for e in events if isinstance(e, Noted) and e.kind == "degraded"}),
        errors=errors,
    )


def current(events: Iterable[AnyEvent]) -> Iterator[Finished | Carried]:
    """The events that count: for every case the one of its last attempt, in the order of case ids."""
    best: dict[str, Finished | Carried] = {}
    for e in events:
        if isinstance(e, Finished | Carried):
            old = best.get(e.case.id)
            if old is None or _rank(e) > _rank(old):
                best[e.case.id] = e
    for case in sorted(best):
        yield best[case]


def samples(events: Iterable[AnyEvent]) -> Iterator[tuple[Case, str, Sample]]:
    """(case, subject key, sample) for every item of every case that counts."""
    for e in current(events):
        if isinstance(e, Finished):
            for sample in e.samples:
                yield e.case, e.case.subject, sample


def _rank(e: Finished | Carried) -> tuple[int, bytes]:
    # the encoded bytes settle a double delivery the same way in whatever order the two arrive
    return e.attempt, msgspec.json.encode(e, order="sorted")


def _finished(events: list[AnyEvent]) -> tuple[list[Case], list[Measurement], list[Dataset], list[str]]:
    counts: dict[tuple[str, int], int] = {}
    for e in events:
        if isinstance(e, Finished | Carried):
            counts[e.case.id, e.attempt] = counts.get((e.case.id, e.attempt), 0) + 1
    errors = [f"case {case} finished {n} times in one run" for (case, _), n in sorted(counts.items()) if n > 1]
    cases: list[Case] = []
    measurements: dict[tuple[str, ...], Measurement] = {}
    data: dict[tuple[str, str], Dataset] = {}
    for e in current(events):
        cases.append(e.case)
        for m in e.measurements:
            if measurement_key(m) in measurements:
                errors.append(f"measured twice: {m.metric} {m.params} in {m.case}")
            measurements[measurement_key(m)] = m
        data |= {(d.name, d.sha256): d for d in e.data}
    return cases, [measurements[k] for k in sorted(measurements)], [data[k] for k in sorted(data)], errors


def _subjects(events: list[AnyEvent]) -> tuple[list[Subject], list[str]]:
    found: dict[str, Subject] = {}
    errors = []
    for e in current(events):
        s = e.subject
        if s is None:
            continue
        if found.setdefault(s.key, s) != s:
            errors.append(
                f"subject {s.key} was not the same model in all cases (first {found[s.key].weights_digest[:12]}, "
                f"then {s.weights_digest[:12]})"
            )
    return [found[k] for k in sorted(found)], sorted(set(errors))


def _selection(events: list[AnyEvent]) -> tuple[set[str], list[NotCollected], list[str]]:
    """Of the last attempt that came as far as a selection; several events of it (one a worker) add up."""
    chosen = [e for e in events if isinstance(e, Selected)]
    if not chosen:
        return set(), [], []
    attempt = max(e.attempt for e in chosen)
    chosen = [e for e in chosen if e.attempt == attempt]
    left_out = {(n.case, n.subject, n.reason): n for e in chosen for n in e.not_collected}
    filters = dict.fromkeys(f for e in chosen for f in e.filters)
    return {c for e in chosen for c in e.cases}, [left_out[k] for k in sorted(left_out)], sorted(filters)


def _judgement(events: list[AnyEvent], attempt: int) -> tuple[list[Policy], list[Verdict]]:
    judged = [e for e in events if isinstance(e, Judged) and e.attempt == attempt]
    if not judged:
        return [], []
    return judged[-1].policies, judged[-1].verdicts


def _run(events: list[AnyEvent], first: Run, last: Started, filters: list[str]) -> Run:
    ended = [e for e in events if isinstance(e, Ended) and e.attempt == last.attempt]
    base = msgspec.structs.replace(
        last.run, id=first.id, started_at=first.started_at, attempts=last.attempt, filters=filters
    )
    if not ended:
        return base
    end = ended[-1]
    state = "finished" if end.state == "finished" else "interrupted"
    return msgspec.structs.replace(
        base, state=state, finished_at=end.finished_at, exit_status=end.exit_status, judged=end.judged
    )
