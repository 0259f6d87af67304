"""What was caught, and by which eval: cases that no longer pass, and gates that an eval's own measurements no longer pass."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from tests.kill_matrix.bench import Bench, BenchError
from tests.kill_matrix.inner import EVALS
from tests.kill_matrix.sabotage import ASM, SUBJECT, Sabotage

from trialplate.gates.bind import Binding, bind
from trialplate.gates.judge import Evidence, judge
from trialplate.gates.policy import Gate, Policy, load_policy
from trialplate.report.model import Case, Measurement, Report

EXEMPT = ("performance", "release")
POLICIES = {SUBJECT: "embedded", ASM: "embedded-asm"}
PIN_GATES = ("arc-easy-loglikelihoods", "wikitext2-rolling")
"""Gates of published log-likelihoods; here they judge an embedded model against its own."""


@dataclass
class Row:
    """One sabotage: the reason by eval function that caught it, and what the loader said where it refused the model."""

    sabotage: Sabotage
    caught: dict[str, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def is_caught(self) -> bool:
        """Whether the report would be red."""
        return bool(self.caught or self.refused)


def judging_functions(paths: Iterable[str] = ("evals",)) -> list[str]:
    """Every test function under the paths that judges, as folder/function: all but performance and the gates themselves."""
    names = []
    for file in sorted(EVALS.rglob("test_*.py")):
        inside = any(file.is_relative_to(EVALS.parent / path) for path in paths)
        if inside and file.parent.name not in EXEMPT:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            tests = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
            names += [f"{file.parent.name}/{n.name}" for n in tests if not _waits(tree, n)]
    return names


def _waits(module: ast.Module, test: ast.FunctionDef) -> bool:
    """Whether a test is never collected unless it is asked for: it or its file is slow, or it judges coders of --sae."""
    marks = [ast.unparse(mark) for mark in test.decorator_list]
    for node in module.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            marks.append(ast.unparse(node.value))
    slow = any(
        "mark.slow" in mark and "parametrize" not in mark for mark in marks
    )  # parametrized: some of its cases are
    return slow or any("requires_sae(3)" in mark for mark in marks)


def function_of(case: str) -> str:
    """probes/test_ioi.py::test_ioi[...] -> probes/test_ioi."""
    file, _, name = case.partition("::")
    return f"{Path(file).parent.name}/{name.partition('[')[0]}"


class Judge:
    """Compares reports with the one without any fault."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.cases = _by_function(bench.baseline)
        gates = _gates(bench.subject)
        self.bindings = {name: _bound(gates, bench.baseline, name) for name in self.cases}
        for name in self.cases:
            for gate, status in self._status(bench.baseline, name).items():
                if status != "PASS":
                    raise BenchError(
                        f"without any fault, gate {gate} is {status} on {name}: it could not catch anything"
                    )

    def row(self, sabotage: Sabotage) -> Row:
        """Run the evals under a sabotage and say who noticed."""
        report = self.bench.under(sabotage)
        row, now = Row(sabotage), _by_function(report)
        for name, before in self.cases.items():
            errors = [c for c in now.get(name, {}).values() if c.outcome == "error"]
            if errors:  # the model never reached the eval: the loader is to be praised
                row.refused = row.refused or _plain(errors[0].reason)
            elif reason := _not_passed(before, now.get(name, {}), report) or self._gate_lost(report, name):
                row.caught[name] = reason
        return row

    def _gate_lost(self, report: Report, function: str) -> str:
        """The first gate that an eval's measurements no longer pass, or nothing."""
        return next((f"gate {gate}: {status}" for gate, status in self._status(report, function).items() if status != "PASS"), "")  # fmt: skip

    def _status(self, report: Report, function: str) -> dict[str, str]:
        """Status by gate, judged on the measurements of one eval function alone."""
        cases = {c.id: c for c in report.cases if function_of(c.id) == function}
        return {v.gate: v.status for v in judge(self.bindings[function], Evidence(_measured(report, function), cases))}


def _gates(subject: str) -> list[Gate]:
    """Gates of the subject's policy, and those of published log-likelihoods. On few items the value itself must keep the bound: its
    interval would be too wide for any model, and a single wrong answer would look like a catch."""
    own, pythia = (load_policy(EVALS / "policies" / f"{name}.toml") for name in (POLICIES[subject], "pythia"))
    gates = [*own.gates, *(g for g in pythia.gates if g.name in PIN_GATES)]
    return [msgspec.structs.replace(g, min_n=1, basis="point", models=None) for g in gates]


def _bound(gates: Iterable[Gate], baseline: Report, function: str) -> list[Binding]:
    """The gates that an eval function has measurements for. A gate may cover values that several functions measure; each answers for its own."""
    measurements, found = _measured(baseline, function), []
    for gate in gates:
        own = [m for m in measurements if m.metric == gate.metric and gate.where.items() <= m.params.items()]
        covers = {key: [v for v in values if any(m.params.get(key) == v for m in own)] for key, values in gate.covers.items()}  # fmt: skip
        if own:
            found.append(msgspec.structs.replace(gate, covers={key: values for key, values in covers.items() if values}))  # fmt: skip
    policy = Policy(name="kill matrix", models=["*"], gates=found, sha256="", path="")
    return bind([policy], [(s.key, s.label) for s in baseline.subjects], explicit=True)


def _measured(report: Report, function: str) -> list[Measurement]:
    return [m for m in report.measurements if function_of(m.case) == function]


def _by_function(report: Report) -> dict[str, dict[str, Case]]:
    found: dict[str, dict[str, Case]] = defaultdict(dict)
    for case in report.cases:
        if Path(case.id).parts[0] not in EXEMPT:
            found[function_of(case.id)][case.id] = case
    return dict(found)


def _not_passed(before: dict[str, Case], now: dict[str, Case], report: Report) -> str:
    """Why a case that passed does not pass any more, or nothing."""
    for name in before:
        if name not in now:
            absent = next((n.reason for n in report.not_collected if n.case == name), "not run")
            return f"not collected: {_plain(absent)}"
        if now[name].outcome != "passed":
            return f"case {now[name].outcome}: {_plain(now[name].reason)}"
    return ""


def _plain(reason: str, most: int = 110) -> str:
    """The beginning of a reason without what differs between machines and runs: paths, numbers, the modules of errors."""
    text = re.sub(r"/\S*/", "…/", reason).replace("|", "/")
    for subject in POLICIES:
        text = text.replace(f"{subject}: ", "")
    text = re.sub(r"\b(?:\w+\.)+(\w+Error)\b", r"\1", text)
    text = re.sub(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", "N", text)
    return text if len(text) <= most else f"{text[:most].rstrip()}…"
