"""Models for fixtures: one pool a process, the suite's own loader asked first."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import hookspec, keys, options, subjects


def pool(config: pytest.Config) -> Any:
    """The pool of this process; made at first use."""
    found = config.stash.get(keys.POOL, None)
    if found is None:
        from trialplate.models.pool import ModelPool

        found = config.stash[keys.POOL] = ModelPool(lambda spec: load(config, spec))
    return found


def load(config: pytest.Config, spec: Any) -> Any:
    """Load a model as its specification says, on the device that plays its device."""
    import torch

    from trialplate.models.load import load as load_model

    torch.set_num_threads(options.value(config, "threads"))
    hooks = hookspec.own_hooks(config)

    def factory(name: str, revision: str | None, device: str, dtype: str) -> Any:
        return hooks.trialplate_load_model(name=name, revision=revision, device=device, dtype=dtype)

    return load_model(
        spec,
        online=options.value(config, "online"),
        factory=factory if hookspec.has_own_loader(config) else None,
        torch_device=torch.device(subjects.present_devices(config)[spec.device]),
    )


def encoder(config: pytest.Config, spec: Any) -> Callable[[str], list[int]]:
    """Text to ids for a subject: from its tokenizer file, without torch, unless only the suite's own loader knows the model."""
    from trialplate.models.tokenizers import peek_encode

    if hookspec.has_own_loader(config):
        return pool(config).lease(spec).tokenizer.encode
    return peek_encode(spec, online=options.value(config, "online"))


def cache(config: pytest.Config) -> Any:
    """The response cache of this process, or None."""
    found = config.stash.get(keys.CACHE, None)
    if found is None and (given := options.value(config, "cache")):
        from trialplate.scoring.cache import ResponseCache

        found = config.stash[keys.CACHE] = ResponseCache(Path(config.invocation_params.dir, given))
    return found


def golden_file(config: pytest.Config, spec: Any, kind: str) -> Path:
    """Where the golden values of a kind are for a subject's model: golden/<kind>/<label>.json."""
    name = re.sub(r"[^\w.@+-]+", "_", Path(spec.label).name if spec.label.startswith("/") else spec.label)
    return options.folder(config, "golden") / kind / f"{name}.json"


def weights_digest_of(spec: Any, *, online: bool) -> str:
    """The digest of a model's weights as they are now; files are hashed without loading them. Raises ModelNotFound."""
    from trialplate.models.resolve import resolve

    found = resolve(spec, online=online)
    if found.random_seed is None and spec.adapter is None:
        from trialplate.checkpoints.digest import weights_digest

        return weights_digest(found.path)
    from trialplate.models.load import load as load_model

    return load_model(spec, online=online).weights_digest
