"""Which code ran, where, and how it was asked: collected once a run, from metadata and git, with an allow-list and no host names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import trialplate
from trialplate.plugin import devices, filters, options
from trialplate.report.model import Code, Environment, Setting
from trialplate.report.plain import printable
from trialplate.report.source_digest import package_digest, tree_digest

VARIABLES = (
    "CI", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONHASHSEED",
    "TOKENIZERS_PARALLELISM", "TRANSFORMERS_OFFLINE",
)  # fmt: skip
PACKAGES = (
    "hypothesis", "msgspec", "numpy", "peft", "pyarrow", "pytest", "pytest-benchmark", "pytest-xdist", "safetensors", "scipy",
    "tokenizers", "torch", "transformers",
)  # fmt: skip


def code(config: pytest.Config) -> Code:
    """Digests of this package and of the evals, and the commit of the folder that the run was started in."""
    evals = options.evals_folders(config)
    commit, dirty, diff = _git(config.rootpath)
    return Code(
        trialplate=trialplate.__version__,
        trialplate_sha256=package_digest(),
        evals_sha256=tree_digest(evals) if evals else None,
        commit=commit,
        dirty=dirty,
        diff_sha256=diff,
    )


@cache
def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(threads: int) -> Environment:
    """Interpreter, machine, devices and versions."""
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cpu_count=os.cpu_count() or 1,
        threads=threads,
        gpus=[{"name": g.name, "memory_mb": g.memory_mb} for g in devices.cuda_gpus()],
        cuda=devices.cuda_driver(),
        packages=_installed(),
        variables={v: os.environ[v] for v in VARIABLES if v in os.environ},
    )


def settings(config: pytest.Config) -> dict[str, Setting]:
    """Every option of the plugin with its value and origin, and the selections of pytest's own."""
    found = {}
    for option in options.OPTIONS:
        value, origin = options.resolved(config, option.name)
        found[option.name] = Setting(value=private(value), origin=origin)
    for name, attribute in (("-m", "markexpr"), ("-k", "keyword")):
        expression = config.getoption(attribute, "") or ""
        found[name] = Setting(value=expression, origin="command line" if expression else "default")
    chosen = filters.filters(config)
    found["selection"] = Setting(value=private(chosen), origin="command line" if chosen else "default")
    found["paths"] = Setting(value=private(filters.paths(config)), origin="command line")
    return found


def private(value: Any) -> Any:
    """The value with the user's home folder written as ~ and credentials in addresses cut out; paths name people."""
    if isinstance(value, list):
        return [private(v) for v in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"//[^/@\s]+@", "//", printable(value))
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=/|$)", "~", text) if home not in ("/", "") else text


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"model name\s*: (.+)", info.read_text(errors="replace"))
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _git(folder: Path) -> tuple[str | None, bool | None, str | None]:
    """(commit, dirty, digest of the uncommitted changes); all None outside git or without it."""
    commit = _run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None, None
    status = _run_git(folder, "status", "--porcelain")
    changes = _run_git(folder, "diff", "HEAD") if status else None
    return commit.strip(), bool(status), hashlib.sha256(changes.encode()).hexdigest() if changes else None


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
