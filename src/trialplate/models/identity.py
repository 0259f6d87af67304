"""What names a model besides its weights: its configuration and its adapter."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Fields that say where a model came from or how it is run, not what it computes.
_NOT_COMPUTED = {
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "architectures",
    "auto_map",
}
_NOT_COMPUTED |= {
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "problem_type",
    "id2label",
    "label2id",
}


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A PEFT adapter that was attached: its folder, digest (tensors and settings), kind, and how much of the model it touches."""

    path: Path
    digest: str
    kind: str
    n_modules: int
    n_parameters: int


def config_digest(module: Any) -> str:
    """sha256 (hex) over the class of a module and the fields of its configuration that decide what it computes."""
    fields = module.config.to_dict() if hasattr(module.config, "to_dict") else vars(module.config)
    kept = {name: value for name, value in fields.items() if name not in _NOT_COMPUTED and value is not None}
    return settings_digest({"class": type(module).__name__, "config": kept})


def settings_digest(settings: dict[str, Any]) -> str:
    """sha256 (hex) of plain data in canonical JSON; sets become sorted lists, other objects their text."""
    return hashlib.sha256(
        json.dumps(settings, sort_keys=True, default=_plain, separators=(",", ":")).encode()
    ).hexdigest()


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(getattr(value, "value", value))
