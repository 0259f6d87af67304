"""Loading: a name becomes a CausalLM whose weights are those of its files, every one of them, in the dtype and on the device asked for, or an error.

Nothing is filled in: transformers initialises missing weights at random and goes on; here that is refused. Nothing is executed: no remote code, no
pickle with code. Nothing is fetched unless `online`."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from trialplate.checkpoints.files import WeightFiles, find_weights
from trialplate.checkpoints.manifest import read_manifest
from trialplate.models.asm import load_module
from trialplate.models.causal_lm import CausalLM, cast_weights, initialise
from trialplate.models.errors import ModelLoadError
from trialplate.models.hub import go_offline
from trialplate.models.resolve import Source, resolve, resolve_adapter
from trialplate.models.spec import ModelSpec
from trialplate.models.tied import require_tied_as_declared
from trialplate.models.tokenizers import source_tokenizer, wrap_tokenizer

# A user's own way to make a model: (name, revision, device, dtype) -> CausalLM, (module, tokenizer), or None for "not mine".
Factory = Callable[[str, str | None, str, str], Any]
# What transformers raises for files that do not make a model; each becomes a ModelLoadError.
_LOADING = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,
    KeyError,
    TypeError,
    AttributeError,
    SafetensorError,
    pickle.UnpicklingError,
)


def load(
    spec: ModelSpec, online: bool = False, factory: Factory | None = None, torch_device: torch.device | None = None
) -> CausalLM:
    """Load a model. `factory` is asked first; `torch_device` overrides where the tensors lie, the spec keeps its name.

    Raises ModelNotFound, ModelLoadError, AdapterError, TokenizerError or CheckpointError."""
    if not online:
        go_offline()
    device = present_device(spec, torch_device)
    made = factory(spec.name, spec.revision, str(device), spec.dtype) if factory else None
    if made is not None:
        model = from_factory(spec, made, device)
    else:
        model = _from_files(spec, resolve(spec, online), device, online)
    require_dtype(model.module, getattr(torch, spec.dtype), spec)
    require_on_device(model.module, device, spec)
    try:
        _ = model.splits_head  # a short forward pass: a dtype that the device cannot compute in is an error now
    except (RuntimeError, NotImplementedError) as error:
        raise ModelLoadError(
            f"{model.label}: the model does not run on {device} in {spec.dtype}: {error}. Choose another --dtype or --device."
        ) from error
    return model


def from_factory(spec: ModelSpec, made: object, device: torch.device) -> CausalLM:
    """Make a CausalLM of what a factory returned. Its identity is that of the weights in memory: nobody can say what became of a file."""
    if spec.adapter:
        raise ModelLoadError(
            f"{spec.label}: --adapter cannot be combined with a model from the trialplate_load_model hook; attach the adapter in the hook"
        )
    if type(made) is CausalLM:
        return CausalLM(spec, made.module, made.tokenizer, torch_device=device)
    if isinstance(made, CausalLM):
        made.spec, made.source = spec, None
        for remembered in ("weights_digest", "key_manifest_digest"):
            made.__dict__.pop(remembered, None)
        return made
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        return CausalLM(spec, made[0], wrap_tokenizer(made[1]), torch_device=device)
    raise ModelLoadError(
        f"{spec.label}: the trialplate_load_model hook returned a {type(made).__name__}: wanted a CausalLM, a pair (module, tokenizer), or None"
    )


def _from_files(spec: ModelSpec, source: Source, device: torch.device, online: bool) -> CausalLM:
    adapter_folder = resolve_adapter(spec.adapter, online) if spec.adapter else None  # before the slow part
    tokenizer = source_tokenizer(source)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    if source.checkpoint is not None:
        module = cast_weights(load_module(source.checkpoint, spec), dtype)
    elif source.random_seed is not None:
        module = cast_weights(_initialised(source, spec), dtype)
    else:
        module = load_weights(source, spec, dtype)
    adapter = None
    if adapter_folder:
        from trialplate.models.adapters import attach

        module, adapter = attach(module, adapter_folder, spec, source.hub_id)
    return CausalLM(spec, module.to(device), tokenizer, source=source, torch_device=device, adapter=adapter)


def load_weights(source: Source, spec: ModelSpec, dtype: torch.dtype) -> nn.Module:
    """The module of a folder with the weights of its files, on the CPU; strict. Raises ModelLoadError or CheckpointError."""
    from transformers import AutoModelForCausalLM

    weights = find_weights(source.path)
    manifest = read_manifest(weights)  # a damaged file or an unsafe index is named here, before anything is allocated
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        try:
            module, info = AutoModelForCausalLM.from_pretrained(
                str(source.path),
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=weights.format == "safetensors",
                weights_only=True,
                output_loading_info=True,
            )
        except _LOADING as error:
            raise ModelLoadError(_cannot_load(spec, source, error)) from error
    _require_strict(spec, weights, info)
    require_tied_as_declared(module, weights, manifest, spec)
    return cast_weights(module, dtype)


def _initialised(source: Source, spec: ModelSpec) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(str(source.path), local_files_only=True, trust_remote_code=False)
            model_class = AutoModelForCausalLM._model_mapping[type(config)]
        except _LOADING as error:
            raise ModelLoadError(_cannot_load(spec, source, error)) from error
        return initialise(model_class, config, source.random_seed or 0)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, tables or warnings from transformers; what they say is raised here. Settings are restored."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _require_strict(spec: ModelSpec, weights: WeightFiles, info: dict[str, Any]) -> None:
    problems = []
    for kind, text in (
        ("missing_keys", "the model wants and the file lacks"),
        ("unexpected_keys", "the file has and the model does not know"),
        ("mismatched_keys", "have another shape"),
    ):
        keys = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get(kind) or ())
        if keys:
            problems.append(f"{len(keys)} keys that {text}, first {keys[0]!r}")
    problems += [str(message) for message in info.get("error_msgs") or ()]
    if problems:
        raise ModelLoadError(
            f"{spec.label}: the weights in {weights.folder} do not fit the model of its config.json: {'; '.join(problems)}. "
            f"Weights are never filled in or left out: fetch the checkpoint again, or correct config.json."
        )


def present_device(spec: ModelSpec, torch_device: torch.device | None = None) -> torch.device:
    """The device of a spec (or its stand-in), known to exist. Raises ModelLoadError otherwise: there is no fallback to the CPU."""
    try:
        device = torch_device or torch.device(spec.device)
    except RuntimeError as error:
        raise ModelLoadError(
            f"{spec.label}: unknown device {spec.device!r}: wanted cpu, cuda, cuda:N or mps"
        ) from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    present = counts.get(device.type)
    if present is None:
        raise ModelLoadError(f"{spec.label}: unsupported device {spec.device!r}: wanted cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= present:
        raise ModelLoadError(
            f"{spec.label}: wanted device {device}, found {present} {device.type} device(s) with torch {torch.__version__}. Choose another with --device."
        )
    return device


def require_dtype(module: nn.Module, dtype: torch.dtype, spec: ModelSpec) -> None:
    """Raise ModelLoadError unless every floating parameter and stored buffer has the dtype."""
    wrong = {
        name: tensor.dtype
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and tensor.dtype != dtype
    }
    if wrong:
        name, got = next(iter(sorted(wrong.items(), key=lambda row: row[0])))
        raise ModelLoadError(
            f"{spec.label}: wanted {dtype} throughout, got {got} for {len(wrong)} tensors, first {name!r}"
        )


def require_on_device(module: nn.Module, device: torch.device, spec: ModelSpec) -> None:
    """Raise ModelLoadError unless every parameter and buffer lies on the device."""
    everything = [*module.named_parameters(), *module.named_buffers()]
    wrong = [
        name
        for name, tensor in everything
        if tensor.device.type != device.type or (device.index is not None and tensor.device.index != device.index)
    ]
    if wrong:
        raise ModelLoadError(f"{spec.label}: {len(wrong)} tensors are not on {device}, first {wrong[0]!r}")


def _cannot_load(spec: ModelSpec, source: Source, error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        text = "its architecture needs code from the repository, which is never run (trust_remote_code is off); load it yourself in the trialplate_load_model hook"
    return f"{spec.label}: the files in {source.path} do not make a causal language model: {type(error).__name__}: {text[:400]}"
