"""Which policies judge which subjects. A policy that was named on the command line judges every subject; others go by their globs."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from trialplate.gates.policy import Gate, Policy


class Binding(NamedTuple):
    """A gate that judges a subject. `subject` is the subject's key, `label` the name that globs are matched with."""

    policy: Policy
    gate: Gate
    subject: str
    label: str


def bind(policies: Iterable[Policy], subjects: Iterable[tuple[str, str]], *, explicit: bool = False) -> list[Binding]:
    """Every (gate, subject) that must be judged, in the order of subjects, policies and gates.

    `subjects` are (key, label) pairs. The glob `pythia-70m` does not match the label `pythia-70m@step1000`: another checkpoint is
    another subject. `explicit` says that the policies were asked for by name and judge whatever was measured.
    """
    policies = list(policies)
    return [
        Binding(policy, gate, key, label)
        for key, label in sorted(set(subjects))
        for policy in policies
        if explicit or _matches(label, policy.models)
        for gate in policy.gates
        if explicit or gate.models is None or _matches(label, gate.models)
    ]


def _matches(label: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(label, glob) for glob in globs)
