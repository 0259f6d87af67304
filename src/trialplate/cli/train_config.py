"""The settings of `asa train-mini`: defaults, then a TOML file, then `--set`, then options; every value typed, every key known.

A file has the tables [model], [train] and [data]. Keys are the fields of the configuration of a model, of `TrainSettings` and of
`DataSettings`; a key belongs to one table only, so `--set total_steps=100` is as good as `--set train.total_steps=100`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from asa.asa import AddressedStateAttention
from asa.asm_lm import ASMLanguageModel
from asa.config import ASMTrainConfig
from asa.train import TrainSettings
from trialplate.training_data.settings import DataSettings

MINI: dict[str, Any] = {
    "embed_dim": 128,
    "num_layers": 4,
    "num_heads": 4,
    "num_slots": 16,
    "slotspace_dim": 32,
    "dropout": 0.0,
    "slot_dropout": 0.0,
    "slotspace_dropout": 0.0,
}
"""The model where nothing else is said: one million parameters with a vocabulary of 2,000. Other fields keep their published defaults."""

WARMUP_SHARE = 10
"""Where warmup_steps is not given, it is one step in so many."""


class ConfigFileError(ValueError):
    """A setting that is misspelt or of another type; the text says where it stands."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it was given: `file:line` or the option."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All settings of a training; `model` holds the fields that differ from the published defaults."""

    model: dict[str, Any]
    train: TrainSettings
    data: DataSettings


def model_fields() -> dict[str, Any]:
    """Field -> type of what decides the model: fields of the configuration that the language model or its layers take."""
    taken = {*inspect.signature(ASMLanguageModel).parameters, *inspect.signature(AddressedStateAttention).parameters}
    return {name: hint for name, hint in typing.get_type_hints(ASMTrainConfig).items() if name in taken}


def tables() -> dict[str, dict[str, Any]]:
    """Table -> key -> type."""
    return {
        "model": model_fields(),
        "train": typing.get_type_hints(TrainSettings),
        "data": typing.get_type_hints(DataSettings),
    }


def resolve(layers: Sequence[Mapping[str, Given]]) -> TrainConfig:
    """Settings from layers of dotted keys, the later ones stronger. Raises ConfigFileError, SettingsError, DataError."""
    given: dict[str, Given] = {}
    for layer in layers:
        given |= layer
    values: dict[str, dict[str, Any]] = {name: {} for name in tables()}
    for key, entry in given.items():
        table, _, name = key.partition(".")
        values[table][name] = _typed(key, entry)
    steps = values["train"].get("total_steps", TrainSettings().total_steps)
    values["train"].setdefault("warmup_steps", min(TrainSettings().warmup_steps, steps // WARMUP_SHARE))
    model = {**MINI, **values["model"]}
    model.setdefault("max_seq_len", values["train"].get("seq_len", TrainSettings().seq_len))
    return TrainConfig(model, TrainSettings(**values["train"]), DataSettings(**values["data"]))


def read_file(path: Path) -> dict[str, Given]:
    """The values of a TOML file by dotted key. ConfigFileError for what is not TOML, or a table or key that nothing reads."""
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise ConfigFileError(f"cannot read {path}: {error.strerror}; give a TOML file with [model], [train], [data]") from error  # fmt: skip
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"{path} is not TOML: {error}") from error
    found = {}
    for table, values in content.items():
        if table not in tables() or not isinstance(values, dict):
            raise ConfigFileError(f"{_at(path, text, '', table)}: {_unknown(table, tables(), 'a table')}")
        for name, value in values.items():
            origin = _at(path, text, table, name)
            found[f"{table}.{_known(name, table, origin)}"] = Given(value, origin)
    return found


def read_set(option: str) -> dict[str, Given]:
    """The value of one `--set key=value`: TOML as in a file, where a bare word is a string. ConfigFileError as for files."""
    key, equals, text = option.partition("=")
    origin = f"--set {option}"
    if not equals or not key.strip():
        raise ConfigFileError(f"{origin}: wanted key=value, such as train.total_steps=600")
    table, dot, name = key.strip().rpartition(".")
    if not dot:
        table = _table_of(name, origin)
    elif table not in tables():
        raise ConfigFileError(f"{origin}: {_unknown(table, tables(), 'a table')}")
    return {f"{table}.{_known(name, table, origin)}": Given(_value(text.strip()), origin)}


def to_toml(config: TrainConfig, model: ASMTrainConfig) -> str:
    """All settings as a file that `read_file` reads back; `model` gives every field of the model, as it was built."""
    parts = {
        "model": {name: getattr(model, name) for name in model_fields()},
        "train": dataclasses.asdict(config.train),
        "data": dataclasses.asdict(config.data),
    }
    return "\n".join(
        f"[{table}]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())
        for table, values in parts.items()
    )


def _typed(key: str, entry: Given) -> Any:
    table, _, name = key.partition(".")
    try:
        return msgspec.convert(entry.value, tables()[table][name])
    except msgspec.ValidationError as error:
        raise ConfigFileError(f"{entry.origin}: {key}: {error} ({entry.value!r})") from error


def _known(name: str, table: str, origin: str) -> str:
    keys = tables()[table]
    if name in keys:
        return name
    others = [other for other, known in tables().items() if name in known]
    hint = f"; [{others[0]}] has it" if others else ""
    raise ConfigFileError(f"{origin}: {_unknown(name, keys, f'a key of [{table}]')}{hint}")


def _table_of(name: str, origin: str) -> str:
    for table, keys in tables().items():
        if name in keys:
            return table
    every = {f"{table}.{key}": key for table, keys in tables().items() for key in keys}
    near = difflib.get_close_matches(name, every.values(), 1)
    full = next((dotted for dotted, key in every.items() if near and key == near[0]), "")
    raise ConfigFileError(f"{origin}: no setting is named {name!r}" + (f"; did you mean {full}?" if full else ""))


def _unknown(name: str, known: Mapping[str, Any], what: str) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    return f"{name!r} is not {what}" + (f"; did you mean {near[0]}?" if near else f"; wanted one of {', '.join(known)}")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word: a name or a path


def _at(path: Path, text: str, table: str, name: str) -> str:
    """`path:line` of a key in its table; the parser does not tell."""
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            here = header[1]
            if not table and here.partition(".")[0] == name:
                return f"{path}:{number}"
        elif here == table and re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*[=.]", line):
            return f"{path}:{number}"
    return str(path)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
