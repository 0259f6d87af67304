"""Which collected items run, and in which order. What is left out is left out with a reason that reaches the report."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest

from trialplate.plugin import isolation, keys, options, resume
from trialplate.plugin.cases import case_id


class SelectPlugin:
    """Arranges the items of a run of evals, and isolates each case, in every process that collects.

    `done` maps the cases that need not run again to the digest of their file; `known` are all cases of the run that is continued.
    """

    def __init__(self, config: pytest.Config, done: dict[str, str] | None = None, known: Iterable[str] = ()) -> None:
        self.config, self.done, self.known = config, done or {}, set(known)
        self.all_cases: list[str] = []
        self.gates: list[tuple[str, int, str]] = []  # (node id, index of its binding, subject)
        self.subjects: set[str] = set()
        self.is_whole = True
        self._isolation: isolation.Isolation | None = None
        config.stash.setdefault(keys.NOT_COLLECTED, [])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that could not be collected hides its cases."""
        self.is_whole = self.is_whole and report.passed

    @pytest.hookimpl(
        wrapper=True, tryfirst=True
    )  # after -k and -m, and after --failed-first has brought gates to the front
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Keep what applies, gates last."""
        yield
        self.arrange(items)

    def arrange(self, items: list[pytest.Item]) -> None:
        """Cut and order the items in place. Raises UsageError."""
        kept = self._keep_task(items)
        if modelless := [i for i in kept if _params(i).get("trialplate_subject", i) is None]:
            raise pytest.UsageError(f"{modelless[0].nodeid}: {options.NO_MODEL}")
        kept = [i for i in kept if _is_gate(i) or self._applies(i)]
        self.subjects |= {s.key for i in kept if (s := _params(i).get("trialplate_subject")) is not None}
        self.subjects |= {n["subject"] for n in self.config.stash[keys.NOT_COLLECTED]} - {""}
        kept = [i for i in kept if not _is_gate(i) or self._is_judged(i)]
        self.all_cases = [case_id(i.nodeid, self.config) for i in kept]
        measuring = _ordered(self.config, [i for i in kept if not _is_gate(i) and not self._is_done(i)])
        gates = [i for i in kept if _is_gate(i)]
        self.gates = [(i.nodeid, _index(i, "trialplate_gate"), _judged_subject(i)) for i in gates]
        chosen = measuring + (gates if self._judges(measuring) else [])
        left = {id(i) for i in chosen}
        if dropped := [i for i in items if id(i) not in left]:
            self.config.hook.pytest_deselected(items=dropped)
        items[:] = chosen

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Global generators are seeded for the case and restored after it."""
        self._isolation = isolation.Isolation(self.config, item.nodeid)
        try:
            return (yield)
        finally:
            self._isolation.restore()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """A fixture may have imported a library, and with it a generator."""
        if self._isolation is not None:
            self._isolation.seed()

    def gone(self) -> list[str]:
        """Cases of the run that is continued which the evals no longer have; none where a file could not be collected."""
        return sorted(self.known - set(self.all_cases)) if self.is_whole else []

    def _is_done(self, item: pytest.Item) -> bool:
        return resume.unchanged(case_id(item.nodeid, self.config), item.nodeid, self.done, self.config)

    def _is_judged(self, gate: pytest.Item) -> bool:
        """Whether anything of the gate's subject takes part: `-m gpu` says nothing about the same model on the CPU."""
        return _judged_subject(gate) in ("", *self.subjects, *self.config.stash[keys.MEASURED])

    def _judges(self, measuring: list[pytest.Item]) -> bool:
        """Gates run here unless they are judged elsewhere (in the controller), not at all, or have nothing to judge."""
        if options.is_worker(self.config) or options.value(self.config, "no_judge"):
            return False
        return bool(measuring or self.done or options.value(self.config, "measured"))

    def _keep_task(self, items: list[pytest.Item]) -> list[pytest.Item]:
        wanted = options.value(self.config, "task")
        if not wanted or not items:
            return list(items)
        known = {str(_params(i)["task"]) for i in items if "task" in _params(i)}
        for name in wanted:
            if name not in known:
                raise pytest.UsageError(
                    f"--task {name}: no collected case has that task{resume.nearest(name, sorted(known))}; "
                    f"known: {', '.join(sorted(known))}"
                )
        gates = [i for i in items if _is_gate(i)]
        return [i for i in items if "task" in _params(i) and str(_params(i)["task"]) in wanted] + gates

    def _applies(self, item: pytest.Item) -> bool:
        from trialplate.models.errors import ModelError

        try:
            reason = next(iter(_objections(self.config, item)), None)
        except ModelError as e:  # a folder without a tokenizer, a loader of one's own that cannot load
            raise pytest.UsageError(str(e)) from e
        if reason is None:
            return True
        spec = _params(item).get("trialplate_subject")
        self.config.stash[keys.NOT_COLLECTED].append(
            {"case": case_id(item.nodeid, self.config), "subject": spec.key if spec else "", "reason": reason}
        )
        return False


def _objections(config: pytest.Config, item: pytest.Item) -> Iterable[str]:
    """Why an item cannot run or does not apply here."""
    if "benchmark" in getattr(item, "fixturenames", ()) and (why := _timing_off(config)):
        yield why
    if item.get_closest_marker("slow") and not _asks_for_slow(config):
        yield SLOW
    if not any(mark.name.startswith("requires_") for mark in item.iter_markers()):
        return
    for mark in item.iter_markers("requires_extra"):
        yield from (why for name in mark.args if (why := _lacks_extra(name)))
    spec = _params(item).get("trialplate_subject")
    checks: dict[str, Callable[[pytest.Config, Any, Any], str | None]] = {
        "requires_tokens": _lacks_tokens,
        "requires_data": _lacks_data,
        "requires_golden": _lacks_golden,
        "requires_window": _lacks_window,
    }
    if spec is None and (marked := [name for name in _NEED_MODEL if item.get_closest_marker(name)]):
        raise pytest.UsageError(
            f"{item.nodeid}: marked {marked[0]}, and it uses no model; let it use `subject` or `model`"
        )
    if spec is not None and spec.adapter and item.get_closest_marker("requires_no_adapter"):
        yield "does not apply to a model with an adapter"
    if item.get_closest_marker("requires_files") and (why := _lacks_files(config, spec)):
        yield why
    for mark in item.iter_markers("requires_subject"):
        yield from (why for name, value in mark.kwargs.items() if (why := _lacks_setting(spec, name, value)))
    if item.get_closest_marker("requires_sites") and (why := _lacks_sites(config, spec)):
        yield why
    for mark in item.iter_markers("requires_sae"):
        if why := _lacks_coders(config, *mark.args):
            yield why
    for mark in item.iter_markers("requires_architecture"):
        if why := _lacks_architecture(config, spec, *mark.args, **mark.kwargs):
            yield why
    for name, check in checks.items():
        for mark in item.iter_markers(name):
            for argument in mark.args:
                if why := check(config, spec, argument):
                    yield why


SLOW = "a heavy study, outside the default tier; -m slow runs it"
_NEED_MODEL = (
    "requires_tokens",
    "requires_sites",
    "requires_subject",
    "requires_files",
    "requires_golden",
    "requires_window",
    "requires_architecture",
)


def _is_gate(item: pytest.Item) -> bool:
    return "trialplate_gate" in _params(item)


def _judged_subject(gate: pytest.Item) -> str:
    value = _params(gate)["trialplate_gate"]
    return value if isinstance(value, str) else str(value.subject)


def _timing_off(config: pytest.Config) -> str | None:
    if config.getoption("benchmark_disable", None) is None:
        return "timing needs the plugin pytest-benchmark"
    if options.is_worker(config) or config.getoption("numprocesses", None):
        return "timing is off under xdist; run it without -n"
    if config.getoption("benchmark_disable", False):
        return "timing is off by --benchmark-disable"
    return None


def _asks_for_slow(config: pytest.Config) -> bool:
    """Whether the expression of -m speaks of slow cases at all: then the expression decides."""
    return re.search(r"\bslow\b", config.getoption("markexpr", "") or "") is not None


def _lacks_extra(name: str) -> str | None:
    if importlib.util.find_spec(name) is not None:
        return None
    extra = {"leidenalg": "leiden", "igraph": "leiden"}.get(name, name)
    return f"needs the package {name}, which is not installed: pip install 'trialplate[{extra}]'"


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
    folder = options.folder(config, "data")
    if (folder / name).exists():
        return None
    if options.value(config, "online"):
        from trialplate.plugin import hub_data

        if name in hub_data.FILES:
            try:
                hub_data.fetch(name, folder)
            except hub_data.HubDataError as e:
                return str(e)
            return None
    return f"needs {name} in the data folder (docs/data.md, --data DIR)"


def _lacks_files(config: pytest.Config, spec: Any) -> str | None:
    from trialplate.plugin.loading import source_of

    found = source_of(config, spec)
    if found is not None and found.random_seed is None:
        return None
    return f"the weights of {spec.label} come from no file"


def _lacks_window(config: pytest.Config, spec: Any, n: int) -> str | None:
    from trialplate.plugin.loading import window

    length = window(config, spec)
    return f"needs a window of {n} tokens, {spec.label} has {length}" if length is not None and length < n else None


def _lacks_architecture(config: pytest.Config, spec: Any, model_type: str, **settings: Any) -> str | None:
    from trialplate.plugin.loading import configuration

    found = configuration(config, spec)
    if (has := found.get("model_type", "unknown")) != model_type:
        return f"is for models of type {model_type}, {spec.label} is of type {has}"
    other = (f"{k}={v}, {spec.label} has {found[k]}" for k, v in settings.items() if found.get(k, v) != v)
    return next((f"is for models with {text}" for text in other), None)


def _lacks_setting(spec: Any, name: str, value: str) -> str | None:
    if name not in ("device", "dtype"):
        raise pytest.UsageError(f"requires_subject({name}=...): a subject has a device and a dtype")
    has = str(getattr(spec, name))
    return None if has == value else f"is for {name} {value}, the subject has {has}"


def _lacks_sites(config: pytest.Config, spec: Any) -> str | None:
    from trialplate.activations.families import FAMILIES
    from trialplate.plugin.loading import configuration

    has = configuration(config, spec).get("model_type", "unknown")
    return None if has in FAMILIES else f"there is no map of sites for models of type {has} ({spec.label})"


def _lacks_coders(config: pytest.Config, n: int) -> str | None:
    given = len(options.value(config, "sae"))
    if n == 0:
        return "only the coders of --sae are judged in this run" if given else None
    return None if given >= n else f"needs {n} of --sae, which names {given}"


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
