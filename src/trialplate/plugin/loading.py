"""Models for fixtures: one pool a process, the suite's own loader asked first."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import devices, hookspec, keys, options, subjects


def pool(config: pytest.Config) -> Any:
    """The pool of this process; made at first use."""
    found = config.stash.get(keys.POOL, None)
    if found is None:
        from trialplate.models.pool import ModelPool

        found = config.stash[keys.POOL] = ModelPool(lambda spec: load(config, spec), byte_budget=_byte_budget())
    return found


def _byte_budget() -> int:
    """Two thirds of the smallest memory that models may lie in: a run over a hundred training checkpoints must not keep them all."""
    sizes = [
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        *(g.memory_mb << 20 for g in devices.cuda_gpus()),
    ]
    return min(sizes) * 2 // 3


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


def tokenizer(config: pytest.Config, spec: Any) -> Any:
    """A subject's tokenizer: from its files, without torch, unless only the suite's own loader knows the model."""
    from trialplate.models.tokenizers import peek_tokenizer

    if hookspec.has_own_loader(config):
        return pool(config).lease(spec).tokenizer
    return peek_tokenizer(spec, online=options.value(config, "online"))


def source_of(config: pytest.Config, spec: Any) -> Any:
    """Where a subject's files are, or None for a model that the suite's own loader made in memory."""
    from trialplate.models.resolve import resolve

    if hookspec.has_own_loader(config) and not (model := pool(config).lease(spec)).has_files:
        return model.source if model.source is not None and model.source.kind != "factory" else None
    return resolve(spec, online=options.value(config, "online"))


def window(config: pytest.Config, spec: Any) -> int | None:
    """How many tokens a subject reads at once, from its configuration without loading it; None where that does not say."""
    from trialplate.models.stored import context_length

    found = source_of(config, spec)
    return int(pool(config).lease(spec).max_length) if found is None else context_length(found)


def configuration(config: pytest.Config, spec: Any) -> dict[str, Any]:
    """What a subject's configuration says, `model_type` among it, without loading its weights. Raises ModelLoadError for a torn file."""
    found = source_of(config, spec)
    if found is None:
        content: dict[str, Any] = pool(config).lease(spec).module.config.to_dict()
    elif found.checkpoint is not None:
        content = {**_stored_settings(found.checkpoint), "model_type": "asm"}
    else:
        content = json.loads((found.path / "config.json").read_text(encoding="utf-8"))
    return content


def _stored_settings(file: Path) -> dict[str, Any]:
    from asa.checkpoint import CheckpointError
    from asa.checkpoint_files import read_stored
    from trialplate.models.errors import ModelLoadError

    try:
        return dict(read_stored(file, meta=True).cfg or {})
    except CheckpointError as error:
        raise ModelLoadError(str(error)) from error


def cache(config: pytest.Config) -> Any:
    """The response cache of this process, or None."""
    found = config.stash.get(keys.CACHE, None)
    if found is None and (given := options.value(config, "cache")):
        from trialplate.scoring.cache import ResponseCache

        found = config.stash[keys.CACHE] = ResponseCache(Path(config.invocation_params.dir, given))
    return found


def golden_file(config: pytest.Config, spec: Any, kind: str) -> Path:
    """The golden file of a kind that names the subject's model among its `models`; where there is none, the one it would be written to."""
    from trialplate.models.catalog import canonical_name

    folder, name = options.folder(config, "golden") / kind, canonical_name(spec.name)
    for path in sorted(folder.glob("*.json")):
        if name in json.loads(path.read_text(encoding="utf-8")).get("models", ()):
            return path
    return folder / (re.sub(r"[^0-9A-Za-z._@+-]+", "-", name) + ".json")  # the rule of checkpoints.golden


def weights_digest_of(spec: Any, *, online: bool) -> str:
    """The digest of a model's weights as they are now; files are hashed without loading them. Raises ModelNotFound."""
    from trialplate.models.resolve import resolve

    found = resolve(spec, online=online)
    if found.random_seed is None and spec.adapter is None:
        from trialplate.models.stored import stored_digest

        return stored_digest(found)
    from trialplate.models.load import load as load_model

    return load_model(spec, online=online).weights_digest
