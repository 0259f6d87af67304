"""Result files in the form of SAEBench 0.6, so that its readers and pages take them: built, checked, written.

A file says what was evaluated and how, metrics by category (flat: category -> metric -> number), and details by latent, data set or letter. Numbers
are finite; null stands only where the form allows it. NaN is no JSON and is never written."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trialplate.sae.config import CoderConfig
from trialplate.sae.saebench_fields import CATEGORIES, DETAILS, Fields, Kind

NOT_SAEBENCH = "not run by SAEBench"
_LATEST = 9_999_999_999_999
_TOP = (
    "eval_type_id",
    "eval_config",
    "eval_id",
    "datetime_epoch_millis",
    "eval_result_metrics",
    "eval_result_details",
    "sae_bench_commit_hash",
    "sae_lens_id",
    "sae_lens_release_id",
    "sae_lens_version",
    "sae_cfg_dict",
    "eval_result_unstructured",
)


def saebench_result(
    eval_type: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float | None]],
    details: Sequence[Mapping[str, Any]] | None = None,
    *,
    coder: CoderConfig,
    release: str,
    sae_id: str,
    unstructured: Any = None,
    sae_lens_version: str | None = None,
    commit: str = NOT_SAEBENCH,
    eval_id: uuid.UUID | None = None,
    epoch_millis: int | None = None,
) -> dict[str, Any]:
    """The content of a result file, checked. Optional metrics that are not given are null.

    eval_type  core, sparse_probing, absorption_first_letter, scr or tpp
    config     what was asked for: flat, numbers, texts and lists of them
    release, sae_id   what names the coder; they make the file's name
    commit     of the SAEBench that ran, where it did
    eval_id, epoch_millis   None: a new one, and now

    ValueError as `check`."""
    if eval_type not in CATEGORIES:
        raise ValueError(f"eval_type_id: wanted one of {', '.join(CATEGORIES)}, got {eval_type!r}")
    filled = {name: _filled(CATEGORIES[eval_type].get(name, {}), found) for name, found in metrics.items()}
    entries = None if details is None else [_filled(DETAILS[eval_type], entry) for entry in details]
    result = {
        "eval_type_id": eval_type,
        "eval_config": dict(config),
        "eval_id": str(eval_id or uuid.uuid4()),
        "datetime_epoch_millis": time.time_ns() // 1_000_000 if epoch_millis is None else epoch_millis,
        "eval_result_metrics": filled,
        "eval_result_details": entries,
        "sae_bench_commit_hash": commit,
        "sae_lens_id": sae_id,
        "sae_lens_release_id": release,
        "sae_lens_version": sae_lens_version,
        "sae_cfg_dict": cfg_dict(coder),
        "eval_result_unstructured": unstructured,
    }
    check(result)
    return result


def cfg_dict(config: CoderConfig) -> dict[str, Any]:
    """A coder's description under the names that readers of these files look for, beside our own."""
    return {
        **asdict(config),
        "prefixes": list(config.prefixes),
        "about": dict(config.about),
        "model_name": config.model,
        "hook_name": config.site_in,
        "apply_b_dec_to_input": config.centre_input,
    }


def check(result: Mapping[str, Any]) -> None:
    """ValueError, with the path of what is wrong, for anything that is not a result file: fields missing or unknown, nested metrics, numbers not finite."""
    if wrong := sorted(set(_TOP) ^ set(result)):
        raise ValueError(f"a result file has the fields {', '.join(_TOP)}; missing or unknown: {', '.join(wrong)}")
    kind = result["eval_type_id"]
    if kind not in CATEGORIES:
        raise ValueError(f"eval_type_id: wanted one of {', '.join(CATEGORIES)}, got {kind!r}")
    _check_header(result)
    metrics = _mapping("eval_result_metrics", result["eval_result_metrics"])
    if wrong := sorted(set(CATEGORIES[kind]) ^ set(metrics)):
        raise ValueError(
            f"eval_result_metrics: {kind} has the categories {', '.join(CATEGORIES[kind])}; missing or unknown: {', '.join(wrong)}"
        )
    for name, fields in CATEGORIES[kind].items():
        _check_fields(f"eval_result_metrics.{name}", fields, metrics[name])
    details = result["eval_result_details"]
    if details is not None:
        if not isinstance(details, list):
            raise ValueError(f"eval_result_details: wanted a list of objects or null, got {type(details).__name__}")
        for i, entry in enumerate(details):
            _check_fields(f"eval_result_details[{i}]", DETAILS[kind], entry)


def file_name(release: str, sae_id: str) -> str:
    """`{release}_{sae_id}_eval_results.json`, every / as _. ValueError for names that are empty or lead out of the folder."""
    name = f"{release}_{sae_id}_eval_results.json".replace("/", "_")
    if not release or not sae_id or "\\" in name or "\0" in name:
        raise ValueError(f"wanted a release and an id that can name a file, got {release!r} and {sae_id!r}")
    return name


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write a checked result into a folder under its `file_name`, and return its place. An earlier result is never written over: FileExistsError."""
    check(result)
    path = folder / file_name(result["sae_lens_release_id"] or "", result["sae_lens_id"] or "")
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text + "\n")
    return path


def _filled(fields: Fields, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and null for optional fields that were not."""
    return {**{name: None for name, kind in fields.items() if kind is Kind.OPTIONAL}, **given}


def _check_header(result: Mapping[str, Any]) -> None:
    for name, value in _mapping("eval_config", result["eval_config"]).items():
        parts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(part, list | tuple | Mapping) for part in parts):
            raise ValueError(f"eval_config.{name}: wanted a number, a text or a list of them, got {value!r}")
    try:
        uuid.UUID(result["eval_id"])
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"eval_id: wanted a UUID, got {result['eval_id']!r}") from error
    when = result["datetime_epoch_millis"]
    if type(when) is not int or not 0 <= when <= _LATEST:
        raise ValueError(f"datetime_epoch_millis: wanted whole milliseconds since 1970, below 1e13, got {when!r}")
    if not isinstance(result["sae_bench_commit_hash"], str):
        raise ValueError(f"sae_bench_commit_hash: wanted a text, got {result['sae_bench_commit_hash']!r}")
    for name in ("sae_lens_id", "sae_lens_release_id", "sae_lens_version"):
        if not isinstance(result[name], str | None):
            raise ValueError(f"{name}: wanted a text or null, got {result[name]!r}")
    if result["sae_cfg_dict"] is not None:
        _mapping("sae_cfg_dict", result["sae_cfg_dict"])
    for name in ("eval_config", "sae_cfg_dict", "eval_result_unstructured"):
        _require_plain(name, result[name])


def _check_fields(path: str, fields: Fields, given: Any) -> None:
    found = _mapping(path, given)
    if wrong := sorted(set(fields) ^ set(found)):
        raise ValueError(f"{path}: missing or unknown: {', '.join(wrong)}")
    for name, kind in fields.items():
        if not _holds(kind, found[name]):
            raise ValueError(f"{path}.{name}: wanted {kind.value}, got {found[name]!r}")


def _holds(kind: Kind, value: Any) -> bool:
    if kind is Kind.TEXT:
        return isinstance(value, str) and bool(value)
    if kind is Kind.LETTER:
        return isinstance(value, str) and len(value) == 1 and value.isalpha()
    if kind is Kind.COUNT:
        return type(value) is int and value >= 0
    if value is None:
        return kind is Kind.OPTIONAL
    return type(value) in (int, float) and math.isfinite(value)


def _mapping(path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: wanted an object, got {type(value).__name__}")
    return value


def _require_plain(path: str, value: Any) -> None:
    """Whether JSON can say it: numbers finite, keys texts."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{path}: wanted texts as names, got {name!r}")
            _require_plain(f"{path}.{name}", part)
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            _require_plain(f"{path}[{i}]", part)
    elif not (value is None or isinstance(value, str | bool | int) or (type(value) is float and math.isfinite(value))):
        raise ValueError(f"{path}: wanted plain data with finite numbers, got {value!r}")
