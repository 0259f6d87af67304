"""Options of the plugin: prefixed, each with an ini twin, and the short names that a repository's own conftest may add.

A value is looked up in the order command line, ini file, default, and its origin goes into the report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

PREFIX = "trialplate"


class Option(NamedTuple):
    """One option. `kind`: "one" | "many" | "flag" | "int"; `ini` names the ini key, or is empty where a default would be a trap."""

    name: str
    kind: str
    text: str
    ini: str = ""
    metavar: str | None = None
    default: Any = None


OPTIONS = (
    Option("model", "many", "embedded name, local folder, hub id or catalog name; repeatable", "models", "NAME"),
    Option("revision", "many", "revision or training checkpoint of every model; repeatable", "", "REV"),
    Option("device", "many", "cpu, cuda, cuda:N or mps; repeatable; default every device present", "devices", "DEV"),
    Option("dtype", "many", "float32, bfloat16 or float16; repeatable; default float32", "dtypes", "DTYPE"),
    Option("adapter", "one", "folder of a PEFT adapter that is put on every model", "", "DIR"),
    Option("task", "many", "run only cases of this task; repeatable", "", "TASK"),
    Option(
        "sae", "many", "folder or file of a sparse autoencoder or transcoder that is judged; repeatable", "", "PATH"
    ),
    Option("report", "one", "folder of the run; default reports/<run>", "", "DIR"),
    Option("policy", "many", "policy file that judges every subject; repeatable", "", "FILE"),
    Option("measured", "many", "run folder whose measurements are judged too; repeatable", "", "DIR"),
    Option("limit", "int", "at most N items a case; gates then say THIN", "", "N"),
    Option("seed", "int", "seed of the run; every case derives its own", "seed", "N", 0),
    Option("resume", "one", "continue the run in this folder: run what is missing or did not pass", "", "DIR"),
    Option("no_judge", "flag", "measure only: no gate is judged, and the report does not pass"),
    Option("online", "flag", "allow access to the hub"),
    Option("golden_update", "flag", "write golden values instead of comparing with them"),
    Option("data", "one", "folder of local texts and data sets", "data", "DIR", "data"),
    Option("golden", "one", "folder of golden values", "golden", "DIR", "golden"),
    Option("threads", "int", "threads of a CPU case", "threads", "N", 1),
    Option("cache", "one", "file of the response cache; default none", "cache", "FILE"),
    Option("junit_properties", "flag", "write measurements as JUnit properties"),
)
SHORT = (
    "model", "revision", "device", "dtype", "adapter", "task", "sae", "report", "policy", "measured", "limit", "seed", "resume",
    "no_judge", "online", "golden_update", "data", "cache",
)  # fmt: skip
MARKS = (
    "gpu: runs on a GPU (every case on a cuda or mps device, and cases that carry it themselves)",
    "slow: heavy study, outside the default tier: not collected unless -m speaks of slow",
    "fast: part of the one-minute subset",
    "gate: judges measurements, measures nothing; runs last",
    "network: needs the network",
    "requires_tokens(name): needs a tokenizer that can do this (see tasks/requirements.py), else not collected",
    "requires_data(file): needs this file in the data folder, else not collected",
    "requires_window(n): needs a model that reads n tokens at once, else not collected",
    "requires_architecture(model_type, **settings): needs a model of this architecture, configured like this, else not collected",
    "requires_files: needs a model whose weights come from files, else not collected",
    "requires_golden(folder): needs a golden file of the model, else not collected",
    "requires_extra(package): needs this package, an extra of trialplate, else not collected",
    "requires_subject(device=..., dtype=...): needs a subject on this device or in this dtype, else not collected",
    "requires_sites: needs a model whose architecture has a map of sites, else not collected",
    "requires_no_adapter: needs a model without an adapter, else not collected",
    "requires_sae(n): needs n coders or more from --sae, or none at all where n is 0, else not collected",
)
NO_MODEL = "this case needs a model: give --trialplate-model NAME, or set trialplate_models in the ini file"
_BY_NAME = {o.name: o for o in OPTIONS}
_IDLE = ("collectonly", "showfixtures", "show_fixtures_per_test", "markers", "help", "version", "cacheshow")


def dest(name: str) -> str:
    """Attribute of the parsed options."""
    return f"{PREFIX}_{name}"


def flag(name: str, prefix: str = f"{PREFIX}-") -> str:
    """The option as it is typed."""
    return f"--{prefix}{name.replace('_', '-')}"


def add_options(parser: pytest.Parser) -> None:
    """Register the prefixed options, their ini twins, and the ini keys without an option."""
    group = parser.getgroup(PREFIX, "trialplate: measure, report and judge language models")
    for option in OPTIONS:
        group.addoption(flag(option.name), **_arguments(option))
        if option.ini:
            if option.kind == "many":
                parser.addini(f"{PREFIX}_{option.ini}", option.text, type="linelist", default=[])
            else:
                parser.addini(f"{PREFIX}_{option.ini}", option.text, type="string", default=None)
    parser.addini(f"{PREFIX}_evals", "folders of evals: naming one starts a report", type="paths", default=[])
    parser.addini(f"{PREFIX}_policies", "folders or files of policies", type="paths", default=[])


def add_short_options(parser: pytest.Parser) -> None:
    """For a root conftest: `--model` beside `--trialplate-model`, and so on. Raises ValueError where another plugin has the name."""
    group = parser.getgroup(PREFIX)
    for name in SHORT:
        group.addoption(flag(name, ""), **_arguments(_BY_NAME[name]))


def _arguments(option: Option) -> dict[str, Any]:
    common: dict[str, Any] = {"dest": dest(option.name), "help": option.text, "default": None}
    if option.kind == "flag":
        return {**common, "action": "store_true", "default": False}
    if option.kind == "int":
        return {**common, "type": int, "metavar": option.metavar}
    return {**common, "action": "append" if option.kind == "many" else "store", "metavar": option.metavar}


def value(config: pytest.Config, name: str) -> Any:
    """The resolved value of an option."""
    return resolved(config, name)[0]


def resolved(config: pytest.Config, name: str) -> tuple[Any, str]:
    """(value, origin): origin is "command line", the ini key, or "default". Raises UsageError for an ini value of the wrong type."""
    option = _BY_NAME[name]
    given = config.getoption(dest(name), None)
    if given is not None and given is not False and given != []:  # 0 was given too
        return given, "command line"
    if option.ini:
        ini = config.getini(f"{PREFIX}_{option.ini}")
        if ini not in (None, [], ""):
            return _typed(option, ini), f"ini: {PREFIX}_{option.ini}"
    return (False if option.kind == "flag" else [] if option.kind == "many" else option.default), "default"


def _typed(option: Option, ini: Any) -> Any:
    if option.kind != "int":
        return ini
    try:
        return int(ini)
    except ValueError as e:
        raise pytest.UsageError(f"ini {PREFIX}_{option.ini} must be a whole number, got {ini!r}") from e


def folder(config: pytest.Config, name: str) -> Path:
    """An option that names a folder, relative to the ini file's folder unless it came from the command line."""
    given, origin = resolved(config, name)
    base = (
        config.invocation_params.dir
        if origin == "command line"
        else (config.inipath.parent if config.inipath else config.rootpath)
    )
    return Path(base, given)


def evals_folders(config: pytest.Config) -> list[Path]:
    """Folders whose cases are evals, absolute."""
    return [Path(p).resolve() for p in config.getini(f"{PREFIX}_evals")]


def check(config: pytest.Config) -> None:
    """Refuse numbers that could not be meant. Raises UsageError."""
    for name in ("limit", "threads"):
        given, origin = resolved(config, name)
        if given is not None and given < 1:
            raise pytest.UsageError(f"{flag(name)} {given} ({origin}): wanted a whole number of at least 1")


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is an xdist worker."""
    return hasattr(config, "workerinput")


def is_active(config: pytest.Config) -> bool:
    """Whether this run writes a report: asked for by --report or --resume, or an argument lies in a folder of evals.

    Never with --collect-only, --fixtures, --help and the like, which run nothing.
    """
    return _is_meant(config) and not _is_idle(config)


def is_dry(config: pytest.Config) -> bool:
    """Whether this would write a report if it ran anything: its collection is arranged in the same way."""
    return _is_meant(config) and bool(config.getoption("collectonly", False))


def _is_idle(config: pytest.Config) -> bool:
    return any(config.getoption(name, False) for name in _IDLE)


def _is_meant(config: pytest.Config) -> bool:
    if config.getoption(dest("report"), None) or config.getoption(dest("resume"), None):
        return True
    evals = evals_folders(config)
    if not evals:
        return False
    paths = [Path(config.invocation_params.dir, str(a).split("::")[0]).resolve() for a in config.args]
    return any(path == e or e in path.parents for path in paths for e in evals)
