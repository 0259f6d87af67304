"""The selections of a run as they were typed: everything on the command line that may have left a required case out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trialplate.plugin import options


def filters(config: pytest.Config) -> list[str]:
    """Every selection of this run, in the words of the command line."""
    found = []
    for name, attribute in (("-m", "markexpr"), ("-k", "keyword")):
        if expression := config.getoption(attribute, ""):
            found.append(f"{name} {expression!r}")
    found += [f"--task {t}" for t in options.value(config, "task")]
    for name, attribute in (("--deselect", "deselect"), ("--ignore", "ignore"), ("--ignore-glob", "ignore_glob")):
        found += [f"{name} {given}" for given in config.getoption(attribute, None) or []]
    if (limit := options.value(config, "limit")) is not None:
        found.append(f"--limit {limit}")
    for name, attribute in (("--last-failed", "lf"), ("--stepwise", "stepwise")):
        if config.getoption(attribute, False):
            found.append(name)
    return found + _narrow_paths(config)


def _narrow_paths(config: pytest.Config) -> list[str]:
    """Arguments that are less than all evals; a folder of evals that was not named leaves its cases out too."""
    evals = options.evals_folders(config)
    given = {str(a): Path(config.invocation_params.dir, str(a).partition("::")[0]).resolve() for a in config.args}
    whole = {e for e in evals for arg, path in given.items() if "::" not in arg and (path == e or path in e.parents)}
    if evals and whole == set(evals):
        return []
    return [f"the path {a}" for a, p in given.items() if "::" in a or any(p == e or e in p.parents for e in evals)]


def paths(config: pytest.Config) -> list[str]:
    """The paths of this run, relative to the ini file's folder."""
    base = config.inipath.parent if config.inipath else config.rootpath
    found = []
    for arg in config.args:
        path, sep, rest = str(arg).partition("::")
        found.append(Path(os.path.relpath(Path(config.invocation_params.dir, path), base)).as_posix() + sep + rest)
    return sorted(found)
