"""The probe manifest: one task a line, in JSON Lines. Version 1 lists texts; version 2 adds answers, foils, hashes and generators.

    {"task_id": "proverbs", "domain": "prose", "source": {"type": "prompt_list", "prompts": ["A stitch in time"]}}
    {"task_id": "sums", "domain": "math", "version": 2, "kind": "scored", "metric": "margin",
     "items": [{"prompt": "2 + 3 =", "answer": " 5", "foils": [" 4", " 6"]}]}          (one line in the file)
    {"task_id": "domain_code", "domain": "code", "version": 2, "kind": "stimulus",
     "source": {"type": "generator", "name": "domain_code", "num_docs": 512, "seed": 0}}          (one line in the file)

A generator makes items, and its line is scored unless it says `stimulus`; or it makes texts (`trialplate.tasks.domains`), and its line is a
stimulus. Reading is strict: an unknown key, a repeated id, a wrong type or an empty file is a `ManifestError` that names file, line and key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

from trialplate.tasks.domains import DOMAINS
from trialplate.tasks.items import Item, make_item
from trialplate.tasks.jsonl import Record, RowError, did_you_mean, parse_records
from trialplate.tasks.manifest_model import Kind, Positions, ProbeTask, Source, SourceAbsent, SourceType
from trialplate.tasks.text_files import CUTS, Cut

__all__ = ["ManifestError", "ProbeTask", "Source", "SourceAbsent", "load_manifest", "parse_manifest", "select"]

_V1_KEYS = frozenset({"task_id", "domain", "description", "max_tokens", "repeat", "source"})
_V2_KEYS = frozenset({"version", "kind", "items", "metric", "positions", "min_tokens", "dedupe", "license"})
_ITEM_KEYS = frozenset({"prompt", "answer", "foils", "group"})
_SOURCE_KEYS: dict[str, frozenset[str]] = {
    "prompt": frozenset({"type", "text", "repeat"}),
    "prompt_list": frozenset({"type", "prompts", "repeat"}),
    "dataset": frozenset({"type", "name", "config", "split", "text_key", "num_docs", "repeat", "revision", "sha256"}),
    "file": frozenset(
        {"type", "name", "config", "split", "path", "documents", "num_docs", "repeat", "revision", "sha256"}
    ),
    "generator": frozenset({"type", "name", "num_docs", "seed"}),
}
_V2_SOURCE_KEYS = frozenset({"revision", "sha256", "seed"})
_V2_SOURCES = frozenset({"file", "generator"})
_VERSION_2 = '; it belongs to version 2, add "version": 2 to the line'
_MOST_REPEATS = 100_000
_ID = re.compile(r"\w[\w.+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestError(RowError):
    """A manifest that cannot be used; the message names file, line and key, what was wanted and what was found."""


def load_manifest(path: Path | str) -> list[ProbeTask]:
    """The tasks of a manifest file, in order. ManifestError when it cannot be read, is empty or has a line that is not a task."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise ManifestError(path, 0, "", f"the manifest cannot be read: {cause.strerror or cause}") from cause
    return parse_manifest(content, path)


def parse_manifest(content: bytes, path: Path | str) -> list[ProbeTask]:
    """As `load_manifest`, from bytes; `path` names the manifest in messages, and its folder anchors relative paths."""
    tasks: dict[str, ProbeTask] = {}
    lines: dict[str, int] = {}
    for record in parse_records(content, path, ManifestError):
        task = _task(record)
        if task.task_id in tasks:
            record.fail(
                "task_id", f"{task.task_id!r} is already the task of line {lines[task.task_id]}; ids are unique"
            )
        tasks[task.task_id], lines[task.task_id] = task, record.line
    if not tasks:
        raise ManifestError(path, 0, "", "no task in it; a manifest has at least one line that is a JSON object")
    return list(tasks.values())


def select(tasks: Sequence[ProbeTask], ids: Iterable[str] | None = None) -> list[ProbeTask]:
    """The tasks with these ids, in the order of the ids, each once; all tasks for None or no ids.

    KeyError for an id that no task has, with the nearest one that exists."""
    by_id = {task.task_id: task for task in tasks}
    wanted = list(dict.fromkeys(ids or ()))
    for name in wanted:
        if name not in by_id:
            raise KeyError(f"no task {name!r} in the manifest{did_you_mean(name, by_id)}; it has: {', '.join(by_id)}")
    return [by_id[name] for name in wanted] if wanted else list(tasks)


def _task(record: Record) -> ProbeTask:
    version = record.whole("version") or 1
    if version not in (1, 2):
        record.fail("version", f"wanted 1 or 2, got {version}; a newer release may read it")
    known = _V1_KEYS | _V2_KEYS if version == 2 else _V1_KEYS | {"version"}
    record.refuse_others(known, lambda key: _VERSION_2 if key in _V2_KEYS else "")
    task_id = record.text("task_id")
    if not _ID.fullmatch(task_id):
        record.fail(
            "task_id", f"wanted letters, digits and . _ + - only (it becomes a file name), got {task_id[:60]!r}"
        )
    scored = _items(record, task_id)
    source = (
        _source(record.inner("source"), version, record.whole("repeat", most=_MOST_REPEATS))
        if record.has("source")
        else None
    )
    if source is None and not scored:
        record.fail("source", "wanted a source of text" + (", or items" if version == 2 else "") + ", got neither")
    return ProbeTask(
        task_id=task_id,
        domain=record.text("domain"),
        description=record.text("description", "", empty=True),
        version=version,
        kind=_kind(record, source, bool(scored)),
        source=source,
        scored=scored,
        metric=record.text("metric", ""),
        positions=cast(Positions, record.choice("positions", get_args(Positions), "all")),
        min_tokens=record.whole("min_tokens"),
        max_tokens=_max_tokens(record),
        dedupe=record.flag("dedupe", True),
        license=record.text("license", ""),
        folder=record.path.parent,
    )


def _kind(record: Record, source: Source | None, has_items: bool) -> Kind:
    generator = source.name if source is not None and source.type == "generator" else ""
    makes_items = bool(generator) and generator not in DOMAINS
    kind = cast(Kind, record.choice("kind", get_args(Kind), "scored" if has_items or makes_items else "stimulus"))
    if kind == "scored" and generator in DOMAINS:
        record.fail(
            "kind", f"generator {generator!r} makes texts, with nothing to score; wanted stimulus, and no items"
        )
    if kind == "scored" and not has_items and not makes_items:
        record.fail("items", "a scored task needs items, or a generator that makes them; got neither")
    if kind == "stimulus" and has_items:
        record.fail("kind", "the task has items, so it is scored; leave `kind` out or take the items away")
    return kind


def _max_tokens(record: Record) -> int | None:
    least, most = record.whole("min_tokens"), record.whole("max_tokens")
    if least is not None and most is not None and least > most:
        record.fail("min_tokens", f"wanted at most max_tokens = {most}, got {least}; no prompt could count")
    return most


def _items(record: Record, task_id: str) -> tuple[Item, ...]:
    items: dict[str, Item] = {}
    for inner in record.inners("items"):
        inner.refuse_others(_ITEM_KEYS)
        answer, foils = inner.text("answer"), inner.texts("foils", least=0)
        if answer in foils or len(set(foils)) < len(foils):
            inner.fail("foils", f"wanted different foils, none of them the answer {answer!r}, got {list(foils)!r}")
        item = make_item(task_id, inner.text("prompt"), answer, foils, inner.text("group", ""))
        if item.id in items:
            inner.fail("prompt", "the same item stands earlier in the list; an item counts once")
        items[item.id] = item
    return tuple(items.values())


def _source(record: Record, version: int, repeat: int | None) -> Source:
    kind = cast(SourceType, record.choice("type", tuple(_SOURCE_KEYS)))
    if version == 1 and kind in _V2_SOURCES:
        record.fail("type", f'{kind!r} belongs to version 2; add "version": 2 to the line')
    later = _V2_SOURCE_KEYS & _SOURCE_KEYS[kind] if version == 1 else frozenset()
    record.refuse_others(_SOURCE_KEYS[kind] - later, lambda key: _VERSION_2 if key in later else "")
    digest = record.text("sha256", "")
    if digest and not _SHA256.fullmatch(digest):
        record.fail("sha256", f"wanted 64 lower-case hexadecimal digits, got {digest[:70]!r}")
    texts = {"prompt": lambda: (record.text("text"),), "prompt_list": lambda: record.texts("prompts")}
    counts_documents = kind in ("dataset", "file")
    return Source(
        type=kind,
        prompts=texts[kind]() if kind in texts else (),
        name=record.text("name", None if kind in ("dataset", "generator") else ""),
        config=record.text("config", ""),
        split=record.text("split", "train"),
        text_key=record.text("text_key", "text"),
        num_docs=record.whole("num_docs") or (repeat if counts_documents else None),
        repeat=record.whole("repeat", most=_MOST_REPEATS) or (1 if counts_documents else repeat) or 1,
        path=_relative(record) if kind == "file" else "",
        documents=cast(Cut, record.choice("documents", CUTS, "blank_line")),
        revision=record.text("revision", ""),
        sha256=digest,
        seed=_seed(record) if kind == "generator" else None,
    )


def _relative(record: Record) -> str:
    path = record.text("path")
    if Path(path).is_absolute() or "\x00" in path:
        record.fail("path", f"wanted a path relative to the manifest's folder, got {path[:80]!r}")
    return path


def _seed(record: Record) -> int:
    seed = record.whole("seed", least=0)
    return 0 if seed is None else seed
