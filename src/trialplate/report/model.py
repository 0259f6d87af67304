"""The report as types. One struct an idea; every reader and writer in the project goes through these.

Symbols: a *case* is one pytest case; a *subject* is a model on a device in a dtype; a *measurement* belongs to one case and one
subject; a *verdict* belongs to one gate and one subject. Nothing here computes: see fold.py (events -> report) and conclude.py (pass_all).
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA_VERSION = 1
"""Version of the report file. A reader refuses any other."""

Scalar = str | int | float | bool
Direction = Literal["higher", "lower", "none"]
Outcome = Literal["passed", "failed", "error", "skipped", "xfailed", "xpassed", "crashed", "not run"]
Status = Literal["PASS", "FAIL", "UNDECIDED", "MISSING", "THIN", "STALE", "INVALID"]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything that is written: immutable, and unknown keys are refused when read."""


class Null(Record, frozen=True, kw_only=True):
    """What the metric gives when the claim is false: chance, a random-weights twin, shuffled labels."""

    kind: str
    value: float
    n: int | None = None
    ci: tuple[float, float] | None = None


class Measurement(Record, frozen=True, kw_only=True):
    """One number with its evidence; unique under (case, subject, metric, params).

    n counts the observations behind the value, stderr is in the metric's unit, ci is two-sided at `level`,
    `range` bounds what the metric can attain (None: unbounded on that side).
    """

    case: str
    subject: str
    metric: str
    params: dict[str, Scalar] = {}
    value: float
    n: int
    stderr: float | None = None
    ci: tuple[float, float] | None = None
    level: float = 0.95
    null: Null | None = None
    unit: str
    direction: Direction
    range: tuple[float | None, float | None] = (None, None)


class Sample(Record, frozen=True, kw_only=True):
    """One item behind a measurement. `item` is stable across runs; `extra` holds what a reader of failures wants to see."""

    metric: str
    params: dict[str, Scalar] = {}
    item: str
    value: float
    extra: dict[str, Scalar] = {}


class Dataset(Record, frozen=True, kw_only=True):
    """Items that a case used, by content: the digest covers every prompt and answer."""

    name: str
    sha256: str
    n_items: int
    seed: int | None = None
    revision: str | None = None
    license: str | None = None


class Case(Record, frozen=True, kw_only=True):
    """One pytest case and how it ended. `source` is the SHA-256 of the file that defines it; `gate` marks cases that only judge.

    `measured` counts what it recorded: a measurement that goes missing later leaves a gap that can be seen.
    """

    id: str
    subject: str = ""
    outcome: Outcome
    reason: str = ""
    duration_s: float = 0.0
    source: str = ""
    gate: bool = False
    measured: int = 0


class Subject(Record, frozen=True, kw_only=True):
    """What was measured, by content. Two subjects with one weights digest differ by device or dtype at most."""

    key: str
    label: str
    device: str
    dtype: str
    weights_digest: str = ""
    tokenizer_digest: str = ""
    config_digest: str = ""
    key_manifest_digest: str = ""
    adapter_digest: str | None = None
    source: str = ""
    hub_id: str | None = None
    revision: str | None = None
    commit: str | None = None
    architecture: str = ""
    n_parameters: int = 0


class Verdict(Record, frozen=True, kw_only=True):
    """The word of one gate on one subject. Only PASS passes; `required = false` is shown and never counts."""

    gate: str
    subject: str
    status: Status
    required: bool = True
    policy: str
    metric: str
    bound: str
    value: float | None = None
    n: int | None = None
    matched: int = 0
    reason: str = ""
    why: str = ""

    @property
    def passed(self) -> bool:
        """True for PASS alone."""
        return self.status == "PASS"

    def explain(self) -> str:
        """The verdict in one sentence, with the reason why the gate exists."""
        value = "" if self.value is None else f" (value {self.value:.4g}, n={self.n})"
        why = f"\n  why this gate: {self.why}" if self.why else ""
        return f"{self.gate}: {self.status}: {self.metric} {self.bound}{value}: {self.reason}{why}"

    @property
    def acceptable(self) -> bool:
        """True when the verdict gives no reason for red: passed, or not required."""
        return self.passed or not self.required


class NotCollected(Record, frozen=True, kw_only=True):
    """A case that does not apply to a subject, or cannot run here, and why. Never a success: a gate on it is MISSING."""

    case: str
    subject: str
    reason: str


class Setting(Record, frozen=True, kw_only=True):
    """One resolved option and where it came from (command line, ini file, default)."""

    value: str | int | float | bool | list[str] | None
    origin: str


class Policy(Record, frozen=True, kw_only=True):
    """A policy that was judged: its file, digest, and the subjects it was bound to."""

    name: str
    sha256: str
    n_gates: int
    subjects: list[str]


class Run(Record, frozen=True, kw_only=True):
    """When, how and how far. `state` is "started" until the run itself says otherwise; `subjects` are the keys that it selected cases of."""

    id: str
    state: Literal["started", "finished", "interrupted"]
    started_at: str
    finished_at: str | None = None
    argv: list[str] = []
    exit_status: int | None = None
    attempts: int = 1
    seed: int = 0
    judged: bool = False
    filters: list[str] = []
    subjects: list[str] = []
    workers: int = 0


class Code(Record, frozen=True, kw_only=True):
    """Which code measured: the project's own commit (None outside git), whether it was clean, and digests of what ran."""

    trialplate: str
    trialplate_sha256: str
    evals_sha256: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    diff_sha256: str | None = None


class Environment(Record, frozen=True, kw_only=True):
    """Where it ran. Variables come from an allow-list; names of hosts and users are never taken."""

    python: str
    platform: str
    cpu: str
    cpu_count: int
    threads: int | None = None
    gpus: list[dict[str, Scalar]] = []
    cuda: str | None = None
    packages: dict[str, str] = {}
    variables: dict[str, str] = {}


class Report(Record, frozen=True, kw_only=True):
    """A whole run. `pass_all` and `reasons` are computed from the rest (conclude.py), and a reader recomputes them."""

    schema_version: int = SCHEMA_VERSION
    pass_all: bool
    reasons: list[str]
    run: Run
    subjects: list[Subject]
    code: Code
    config: dict[str, Setting]
    data: list[Dataset]
    environment: Environment
    cases: list[Case]
    measurements: list[Measurement]
    policies: list[Policy]
    gates: list[Verdict]
    not_collected: list[NotCollected] = []
    degraded: list[str] = []
    errors: list[str] = []


def measurement_key(m: Measurement) -> tuple[str, str, str, str]:
    """What a measurement is unique under, and the order it is written in."""
    return (m.case, m.subject, m.metric, params_key(m.params))


def params_key(params: dict[str, Scalar]) -> str:
    """Canonical JSON of params: equal exactly when the params are equal."""
    return msgspec.json.encode(params, order="sorted").decode()
