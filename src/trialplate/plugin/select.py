"""Which collected items run, and in which order. What is left out is left out with a reason that reaches the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import keys, options, resume
from trialplate.plugin.cases import case_id


class SelectPlugin:
    """Arranges the items of a run of evals, in every process that collects."""

    def __init__(self, config: pytest.Config, done: dict[str, str] | None = None) -> None:
        self.config, self.done = config, done or {}
        self.all_cases: list[str] = []
        self.gates: list[tuple[str, int]] = []
        config.stash.setdefault(keys.NOT_COLLECTED, [])

    @pytest.hookimpl(trylast=True)  # after the selections by -k and -m
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what applies, gates last."""
        kept = self._keep_task(items)
        kept = [i for i in kept if self._applies(i)]
        self.all_cases = [case_id(i.nodeid, self.config) for i in kept]
        kept = [
            i for i in kept if not resume.unchanged(case_id(i.nodeid, self.config), i.nodeid, self.done, self.config)
        ]
        gates = [i for i in kept if i.get_closest_marker("gate")]
        measuring = _ordered(self.config, [i for i in kept if not i.get_closest_marker("gate")])
        self.gates = [(i.nodeid, _index(i, "trialplate_gate")) for i in gates if "trialplate_gate" in _params(i)]
        chosen = measuring + (gates if self._judges(measuring) else [])
        left = {id(i) for i in chosen}
        if dropped := [i for i in items if id(i) not in left]:
            self.config.hook.pytest_deselected(items=dropped)
        items[:] = chosen

    def _judges(self, measuring: list[pytest.Item]) -> bool:
        """Gates run here unless they are judged elsewhere (in the controller), not at all, or have nothing to judge."""
        if options.is_worker(self.config) or options.value(self.config, "no_judge"):
            return False
        return bool(measuring or self.done or options.value(self.config, "measured"))

    def _keep_task(self, items: list[pytest.Item]) -> list[pytest.Item]:
        wanted = options.value(self.config, "task")
        if not wanted:
            return list(items)
        known = {str(_params(i)["task"]) for i in items if "task" in _params(i)}
        for name in wanted:
            if name not in known:
                raise pytest.UsageError(
                    f"--task {name}: no collected case has that task{resume.nearest(name, sorted(known))}; "
                    f"known: {', '.join(sorted(known))}"
                )
        gates = [i for i in items if i.get_closest_marker("gate")]
        return [i for i in items if "task" in _params(i) and str(_params(i)["task"]) in wanted] + gates

    def _applies(self, item: pytest.Item) -> bool:
        for reason in _objections(self.config, item):
            spec = _params(item).get("trialplate_subject")
            self.config.stash[keys.NOT_COLLECTED].append(
                {"case": case_id(item.nodeid, self.config), "subject": spec.key if spec else "", "reason": reason}
            )
            return False
        return True


def filters(config: pytest.Config) -> list[str]:
    """The selections of this run, as they are typed: everything that may have left a required case out."""
    found = []
    for name, attribute in (("-m", "markexpr"), ("-k", "keyword")):
        if expression := config.getoption(attribute, ""):
            found.append(f"{name} {expression!r}")
    found += [f"--task {t}" for t in options.value(config, "task")]
    found += [f"--deselect {d}" for d in config.getoption("deselect", None) or []]
    if (limit := options.value(config, "limit")) is not None:
        found.append(f"--limit {limit}")
    for name, attribute in (("--last-failed", "lf"), ("--stepwise", "stepwise")):
        if config.getoption(attribute, False):
            found.append(name)
    return found + _narrow_paths(config)


def _narrow_paths(config: pytest.Config) -> list[str]:
    evals = options.evals_folders(config)
    narrow = []
    for arg in config.args:
        path = Path(config.invocation_params.dir, str(arg).split("::")[0]).resolve()
        if "::" in str(arg) or any(e in path.parents for e in evals):
            narrow.append(str(arg))
        elif any(path == e or path in e.parents for e in evals):
            return []
    return [f"the path {arg}" for arg in narrow]


def _objections(config: pytest.Config, item: pytest.Item) -> Iterable[str]:
    """Why an item cannot run or does not apply here."""
    if "benchmark" in getattr(item, "fixturenames", ()) and (why := _timing_off(config)):
        yield why
    spec = _params(item).get("trialplate_subject")
    checks: dict[str, Callable[[pytest.Config, Any, str], str | None]] = {
        "requires_tokens": _lacks_tokens,
        "requires_data": _lacks_data,
        "requires_golden": _lacks_golden,
    }
    for name, check in checks.items():
        for mark in item.iter_markers(name):
            for argument in mark.args:
                if why := check(config, spec, argument):
                    yield why


def _timing_off(config: pytest.Config) -> str | None:
    if options.is_worker(config) or config.getoption("numprocesses", None):
        return "timing is off under xdist; run it without -n"
    if config.getoption("benchmark_disable", False):
        return "timing is off by --benchmark-disable"
    return None


def _lacks_tokens(config: pytest.Config, spec: Any, name: str) -> str | None:
    from trialplate.tasks.requirements import REQUIREMENTS

    if name not in REQUIREMENTS:
        raise pytest.UsageError(
            f"requires_tokens({name!r}): not known{resume.nearest(name, list(REQUIREMENTS))}; "
            f"known: {', '.join(sorted(REQUIREMENTS))}"
        )
    from trialplate.plugin.loading import tokenizer

    answers = config.stash.setdefault(keys.ENCODERS, {})
    key = f"{spec.label}:{name}"
    if key not in answers:
        answers[key] = REQUIREMENTS[name](tokenizer(config, spec).encode)
    return answers[key]


def _lacks_data(config: pytest.Config, spec: Any, name: str) -> str | None:
    path = options.folder(config, "data") / name
    return (
        None
        if path.exists()
        else f"needs {name} in the data folder (docs/data.md, --data DIR)"
    )


def _lacks_golden(config: pytest.Config, spec: Any, name: str) -> str | None:
    from trialplate.plugin.loading import golden_file

    if options.value(config, "golden_update") or golden_file(config, spec, name).is_file():
        return None
    return f"no golden {name} of {spec.label}; record them with --golden-update"


def _index(item: pytest.Item, name: str) -> int:
    indices: dict[str, int] = item.callspec.indices  # type: ignore[attr-defined]
    return indices[name]


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}


def _ordered(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """Stable order by device and model, so that each model is loaded once; left alone where the user asked for an order."""
    if config.pluginmanager.hasplugin("randomly") or config.getoption("failedfirst", False):
        return items
    specs = {id(i): _params(i)["trialplate_subject"] for i in items if "trialplate_subject" in _params(i)}
    order = list(dict.fromkeys((s.device, s.key) for s in specs.values()))

    def rank(item: pytest.Item) -> int:
        spec = specs.get(id(item))
        return -1 if spec is None else order.index((spec.device, spec.key))

    return sorted(items, key=rank)
