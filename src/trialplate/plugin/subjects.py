"""Subjects of a run: every model on every device in every dtype, from the options, without loading anything.

The options are checked here, before any case runs: an absent device, an unknown dtype and a model that cannot be found are usage errors.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import devices, hookspec, keys, options


def subjects(config: pytest.Config) -> list[Any]:
    """The model specifications of this run, in the order of models, revisions, devices and dtypes; computed once."""
    found = config.stash.get(keys.SUBJECTS, None)
    if found is None:
        found = config.stash[keys.SUBJECTS] = _expand(config)
    return found


def present_devices(config: pytest.Config) -> dict[str, str]:
    """Devices present, {name: torch device}: the suite's own answer, or detection."""
    return hookspec.own_hooks(config).trialplate_devices() or devices.detect()


def stand_ins(config: pytest.Config) -> list[str]:
    """Sentences on devices that another device plays; such a run is a rehearsal and cannot pass."""
    return [
        f"device {name} is played by {torch}"
        for name, torch in sorted(present_devices(config).items())
        if torch.split(":")[0] != name.split(":")[0] and any(s.device == name for s in subjects(config))
    ]


def is_gpu(device: str) -> bool:
    """Whether cases on this device carry the mark `gpu`."""
    return device.split(":")[0] in ("cuda", "mps")


def _expand(config: pytest.Config) -> list[Any]:
    from trialplate.models.spec import DTYPES, ModelSpec

    chosen = _devices(config)
    dtypes = options.value(config, "dtype") or ["float32"]
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise pytest.UsageError(f"--dtype {dtype}: not one of {', '.join(DTYPES)}")
    adapter = options.value(config, "adapter")
    names = options.value(config, "model")
    for name in names:
        _refuse_moved_root(config, name)
    specs = [
        ModelSpec(name=name, revision=revision, adapter=adapter, device=device, dtype=dtype)
        for name in names
        for revision in (options.value(config, "revision") or [None])
        for device in chosen
        for dtype in dtypes
    ]
    unique = list({s.key: s for s in specs}.values())
    _refuse_unknown(config, unique)
    _refuse_shared_gpu(config, unique)
    return unique


def _devices(config: pytest.Config) -> list[str]:
    present = present_devices(config)
    asked = options.value(config, "device") or devices.default_devices(present)
    for name in asked:
        if name not in present:
            raise pytest.UsageError(
                f"--device {name}: not present; this machine has {', '.join(sorted(present))}"
                + ("" if devices.torch_has_cuda() or name == "mps" else " (the installed torch is a CPU build)")
            )
    return list(dict.fromkeys(asked))


def _refuse_unknown(config: pytest.Config, specs: list[Any]) -> None:
    """Every model must be findable now, unless the suite brings its own loader, which is asked when a case needs the model."""
    from trialplate.models.resolve import ModelNotFound, resolve

    online = options.value(config, "online")
    for spec in specs:
        try:
            resolve(spec, online=online)
        except ModelNotFound as e:
            if not hookspec.has_own_loader(config):
                raise pytest.UsageError(str(e)) from e


def _refuse_shared_gpu(config: pytest.Config, specs: list[Any]) -> None:
    workers = config.getoption("numprocesses", None) or 0
    if workers > 1 and any(is_gpu(s.device) for s in specs):
        raise pytest.UsageError(f"-n {workers} with a GPU: one process a GPU; leave -n out, or give --device cpu")


def _refuse_moved_root(config: pytest.Config, name: str) -> None:
    """`--model PATH` with a space lets pytest take PATH for a test path while it looks for its ini file."""
    args = [str(a) for a in config.invocation_params.args]
    spaced = any(a in ("--model", options.flag("model")) and b == name for a, b in itertools.pairwise(args))
    path = Path(config.invocation_params.dir, name)
    if not spaced or not path.exists():
        return
    meant = _ini_of([Path(config.invocation_params.dir, str(a).split("::")[0]) for a in config.args])
    if meant is not None and config.inipath is not None and meant.resolve() != config.inipath.resolve():
        raise pytest.UsageError(
            f"--model {name} made pytest take that folder for a test path: it read {config.inipath} instead of "
            f"{meant}. Write --model={name}, with an equals sign"
        )


def _ini_of(paths: list[Path]) -> Path | None:
    for path in paths:
        for folder in (path, *path.parents):
            for file in ("pytest.toml", "pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"):
                if _configures_pytest(folder / file):
                    return folder / file
    return None


def _configures_pytest(file: Path) -> bool:
    if not file.is_file():
        return False
    return file.name in ("pytest.ini", "pytest.toml") or "pytest" in file.read_text(encoding="utf-8", errors="replace")
