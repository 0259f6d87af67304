"""PEFT adapters: attached whole, to the base they fit, and shown to change something; else an error. A base model never runs under an adapter's name.

The adapter's layers are injected into the base module and stay unmerged: merging would round in half precision."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trialplate.checkpoints.digest import weights_digest
from trialplate.checkpoints.files import find_weights
from trialplate.checkpoints.keys import KeyManifest
from trialplate.checkpoints.manifest import read_manifest
from trialplate.models.errors import AdapterError
from trialplate.models.identity import AdapterInfo, settings_digest
from trialplate.models.spec import ModelSpec

_STEM = "adapter_model"
# Settings that do not change what is computed.
_NOT_COMPUTED = {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping", "task_type"}


def attach(
    module: nn.Module, folder: Path, spec: ModelSpec, hub_id: str | None = None
) -> tuple[nn.Module, AdapterInfo]:
    """The base module with the adapter's layers injected, and what was attached.

    Raises AdapterError for an adapter that is incomplete, of another base, of an unsupported kind, without effect, or where peft is not installed."""
    settings = _settings(folder)
    _require_base(settings, folder, spec, hub_id)
    stored = _stored_keys(folder)
    try:
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as error:
        raise AdapterError(
            f"{spec.label}: adapters need the extra `peft`: pip install 'trialplate[peft]' ({error})"
        ) from error
    probe = torch.arange(1, 9).unsqueeze(0) % int(module.config.vocab_size)  # type: ignore[union-attr, arg-type]
    before = _logits(module, probe)
    # Its layers start at random before the stored ones arrive; what it has to say about keys is checked below, as errors.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            peft_model = PeftModel.from_pretrained(
                module, str(folder), is_trainable=False, autocast_adapter_dtype=False, torch_device="cpu"
            )
        except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
            raise AdapterError(
                f"{spec.label}: the adapter in {folder} does not fit this base: {' '.join(str(error).split())[:400]}"
            ) from error
    layers = [name for name, part in module.named_modules() if isinstance(part, BaseTunerLayer)]
    _require_all_targets(settings, layers, folder, spec)
    _require_all_keys(peft_model, stored, folder, spec)
    with _recording_calls(module) as called:
        after = _logits(module, probe)
    _require_all_called(module, layers, called, folder, spec)
    if torch.equal(before, after):
        raise AdapterError(
            f"{spec.label}: the adapter in {folder} changes no logit (an untrained adapter starts at zero): its results would be those of the base model"
        )
    info = AdapterInfo(
        folder,
        adapter_digest(folder),
        str(settings["peft_type"]),
        len(layers),
        sum(entry.numel for entry in stored.values()),
    )
    return module, info


def adapter_digest(folder: Path) -> str:
    """sha256 (hex) of an adapter: its tensors and the settings that decide what they do."""
    settings = {
        name: value
        for name, value in _settings(folder).items()
        if name not in _NOT_COMPUTED and value not in (None, {}, [])
    }
    if isinstance(targets := settings.get("target_modules"), list):
        settings["target_modules"] = sorted(targets)  # peft writes a set, in any order
    return settings_digest({"weights": weights_digest(find_weights(folder, _STEM)), "settings": settings})


@contextmanager
def without_adapter(module: nn.Module) -> Iterator[None]:
    """The base model for a while: adapters are disabled inside the block and enabled after it."""
    layers = [part for part in module.modules() if hasattr(part, "enable_adapters") and hasattr(part, "base_layer")]
    if not layers:
        raise AdapterError(f"this {type(module).__name__} has no adapter to disable")
    for layer in layers:
        layer.enable_adapters(False)  # type: ignore[operator]
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)  # type: ignore[operator]
        module.requires_grad_(False)  # enabling turns gradients on


def base_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict of the base model under its own names, without what an adapter added; the plain state_dict where there is no adapter."""
    places = [f"{name}." for name, part in module.named_modules() if hasattr(part, "base_layer")]
    state: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        place = next((place for place in places if name.startswith(place)), None)
        if place is None or name.startswith(f"{place}base_layer."):
            state[name.replace(".base_layer.", ".")] = tensor
    return state


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "adapter_config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise AdapterError(f"no adapter at {folder}: adapter_config.json cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{file} is not JSON: {error}. Fetch or write it again.") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("peft_type"), str):
        raise AdapterError(f"{file} names no peft_type: wanted the settings of a PEFT adapter")
    if "PROMPT" in settings["peft_type"] or settings["peft_type"] in {
        "PREFIX_TUNING",
        "P_TUNING",
        "ADAPTION_PROMPT",
        "CPT",
    }:
        raise AdapterError(
            f"{file} is a {settings['peft_type']} adapter: wanted one that changes layers (LORA, IA3, …); prompts change the input and are not supported"
        )
    return settings


def _require_base(settings: Mapping[str, Any], folder: Path, spec: ModelSpec, hub_id: str | None) -> None:
    """Same shapes are not the same model: an adapter of pythia-70m-deduped fits pythia-70m. Where both name a hub model, the names must agree."""
    named = settings.get("base_model_name_or_path")
    if hub_id is None or not isinstance(named, str) or named.count("/") != 1 or named.startswith((".", "/", "~")):
        return
    if named.rsplit("/", 1)[-1].lower() != hub_id.rsplit("/", 1)[-1].lower():
        raise AdapterError(
            f"{spec.label}: the adapter in {folder} was trained for {named}, the base model is {hub_id}. Name its own base with --model, or another --adapter."
        )


def _stored_keys(folder: Path) -> KeyManifest:
    if (folder / f"{_STEM}.bin").is_file() and not (folder / f"{_STEM}.safetensors").is_file():
        raise AdapterError(
            f"{folder} stores its adapter as {_STEM}.bin: wanted {_STEM}.safetensors. Save it with peft's save_pretrained, which writes safetensors."
        )
    if not (folder / f"{_STEM}.safetensors").is_file():
        raise AdapterError(
            f"{folder} has adapter_config.json and no {_STEM}.safetensors: the adapter is incomplete. Fetch or save it again."
        )
    return read_manifest(find_weights(folder, _STEM))


def _require_all_targets(settings: Mapping[str, Any], layers: list[str], folder: Path, spec: ModelSpec) -> None:
    targets = settings.get("target_modules")
    unmatched = (
        [name for name in targets if not any(f".{layer}".endswith(f".{name}") for layer in layers)]
        if isinstance(targets, list)
        else []
    )
    if not layers or unmatched:
        raise AdapterError(
            f"{spec.label}: the adapter in {folder} is for modules {targets}, of which this model lacks {unmatched or 'all'}; it is an adapter of another architecture"
        )


@contextmanager
def _recording_calls(module: nn.Module) -> Iterator[set[str]]:
    """Names of the parts that a forward pass calls."""
    called: set[str] = set()
    hooks = [
        part.register_forward_hook(lambda *_, name=name: called.add(name)) for name, part in module.named_modules()
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def _require_all_called(module: nn.Module, layers: list[str], called: set[str], folder: Path, spec: ModelSpec) -> None:
    """Code that takes a layer's weight without calling the layer leaves the adapter out: raise AdapterError. An expert that no token was
    sent to is not called either, but then neither is the part that holds its layers."""
    passed_by = [name for name in layers if name not in called and name.rpartition(".")[0] in called]
    if passed_by:
        raise AdapterError(
            f"{spec.label}: {len(passed_by)} of {len(layers)} layers that the adapter in {folder} changes are passed by in a forward pass, first "
            f"{passed_by[0]!r}: {type(module).__name__} reads their weights directly, so the adapter would be left out. Adapt other layers."
        )


def _require_all_keys(peft_model: Any, stored: KeyManifest, folder: Path, spec: ModelSpec) -> None:
    from peft import get_peft_model_state_dict

    wanted = set(get_peft_model_state_dict(peft_model, save_embedding_layers=False))
    missing, unexpected = sorted(wanted - stored.keys()), sorted(stored.keys() - wanted)
    if missing or unexpected:
        parts = [f"lacks {len(missing)} tensors, first {missing[0]!r}"] if missing else []
        parts += [f"has {len(unexpected)} that find no place, first {unexpected[0]!r}"] if unexpected else []
        raise AdapterError(
            f"{spec.label}: the adapter in {folder} {' and '.join(parts)}. It is incomplete or belongs to another base model."
        )


@torch.no_grad()
def _logits(module: Any, ids: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = module.eval()(input_ids=ids, use_cache=False).logits
    return output
