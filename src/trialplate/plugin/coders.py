"""Coders that a run is asked to judge: found and described before any case runs, loaded when a case needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import options


def paths(config: pytest.Config) -> list[Path]:
    """What --sae names, relative to where the run was started. Raises UsageError for a place that is named twice, and for two of one label."""
    found = [Path(config.invocation_params.dir, given) for given in options.value(config, "sae")]
    seen: dict[str, Path] = {}
    for path in found:
        other = seen.setdefault(label(path), path)
        if other is not path and other.resolve() == path.resolve():
            raise pytest.UsageError(f"--sae {path}: named twice")
        if other is not path:
            raise pytest.UsageError(
                f"--sae {other} and {path} would both be called {label(path)} in the report; judge them in runs of their own, or rename a folder"
            )
    return found


def check(config: pytest.Config) -> None:
    """Every coder must be one that can be read, and made for a model of this run where it names one, before any case runs. Raises UsageError."""
    models = options.value(config, "model")
    for path in paths(config):
        from trialplate.sae.errors import CoderError
        from trialplate.sae.formats import describe
        from trialplate.sae.model_names import same_model

        try:
            meant = describe(path).model
        except (CoderError, OSError) as e:
            raise pytest.UsageError(f"--sae {path}: {e}") from e
        if meant and models and not any(same_model(meant, name) for name in models):
            raise pytest.UsageError(
                f"--sae {path} was made for the model {meant}, and this run has {', '.join(models)}; give --model={meant}"
            )


def label(path: Path) -> str:
    """What a case calls a coder: the last two parts of its folder tell seeds and sites of one release apart; before the name of a file they stand too."""
    return "/".join(path.resolve().parts[-3 if path.is_file() else -2 :])


def load(path: Path, model: Any) -> Any:
    """The coder, on the model's device. Raises FormatError, or CoderError where it was made for another model."""
    from trialplate.sae.errors import CoderError
    from trialplate.sae.formats import load_coder
    from trialplate.sae.model_names import same_model

    coder = load_coder(path, device=str(model.device))
    meant, name = coder.config.model, model.spec.name
    if meant and not same_model(meant, name):
        raise CoderError(f"{path} was made for the model {meant}, and this is {name}; give --model {meant}")
    return coder
