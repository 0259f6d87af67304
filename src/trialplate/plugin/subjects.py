"""Subjects of a run: every model on every device in every dtype, from the options, without loading anything.

The options are checked here, before any case runs: an absent device, an unknown dtype and a model that cannot be found are usage errors.
"""

from __future__ import annotations

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
    try:
        specs = [
            ModelSpec(name=name, revision=revision, adapter=adapter, device=device, dtype=dtype)
            for name in options.value(config, "model")
            for revision in (options.value(config, "revision") or [None])
            for device in chosen
            for dtype in dtypes
        ]
    except ValueError as e:
        raise pytest.UsageError(str(e)) from e
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
    from trialplate.models.errors import AdapterError, ModelNotFound
    from trialplate.models.resolve import resolve, resolve_adapter

    online = options.value(config, "online")
    for spec in specs:
        try:
            if spec.adapter:
                resolve_adapter(spec.adapter, online)
            resolve(spec, online=online)
        except AdapterError as e:
            raise pytest.UsageError(str(e)) from e
        except ModelNotFound as e:
            if not hookspec.has_own_loader(config):
                raise pytest.UsageError(str(e)) from e


def _refuse_shared_gpu(config: pytest.Config, specs: list[Any]) -> None:
    workers = config.getoption("numprocesses", None) or 0
    if workers > 1 and any(is_gpu(s.device) for s in specs):
        raise pytest.UsageError(f"-n {workers} with a GPU: one process a GPU; leave -n out, or give --device cpu")
