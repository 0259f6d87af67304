"""Coders that a run is asked to judge: found and described before any case runs, loaded when a case needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import options


def paths(config: pytest.Config) -> list[Path]:
    """What --sae names, relative to where the run was started. Raises UsageError for a place that is named twice."""
    found = [Path(config.invocation_params.dir, given) for given in options.value(config, "sae")]
    if twice := sorted({str(p) for p in found if found.count(p) > 1}):
        raise pytest.UsageError(f"--sae {twice[0]}: named twice")
    return found


def check(config: pytest.Config) -> None:
    """Every coder must be one that can be read, before any case runs. Raises UsageError."""
    for path in paths(config):
        from trialplate.sae.errors import CoderError
        from trialplate.sae.formats import describe

        try:
            describe(path)
        except (CoderError, OSError) as e:
            raise pytest.UsageError(f"--sae {path}: {e}") from e


def label(path: Path) -> str:
    """What a case calls a coder: the last two parts of its path tell seeds and sites of one release apart."""
    return "/".join(path.resolve().parts[-2:])


def load(path: Path, model: Any) -> Any:
    """The coder, on the model's device. Raises FormatError, or CoderError where it was made for another model."""
    from trialplate.sae.errors import CoderError
    from trialplate.sae.formats import load_coder

    coder = load_coder(path, device=str(model.device))
    meant, name = coder.config.model, model.spec.name
    if meant and _last(meant) != _last(name):
        raise CoderError(f"{path} was made for the model {meant}, and this is {name}; give --model {meant}")
    return coder


def _last(name: str) -> str:
    """The name of a model without the folders or the owner before it: files name it in either way."""
    return Path(name).name.removeprefix("embedded:")
