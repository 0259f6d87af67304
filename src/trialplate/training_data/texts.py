"""Documents to train on and documents held out, from the corpus, from a file, or from a data set of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialplate.models.hub import transport_errors
from trialplate.tasks.corpus import corpus, corpus_digest, heldout_documents
from trialplate.tasks.document import Document, split_of
from trialplate.tasks.jsonl import read_records
from trialplate.tasks.text_files import read_text_documents
from trialplate.training_data.settings import DataError, DataSettings

HUB = "hub:"


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents of the two splits; `parts` are those of the corpus with their parts kept apart; `checksums` say what was read."""

    train: Sequence[str]
    held_out: Sequence[str]
    checksums: dict[str, Any]
    parts: Sequence[Document] = ()


def read_texts(settings: DataSettings, *, online: bool) -> Texts:
    """The documents that the settings name. DataError for what is absent, empty, or would have to be fetched without `online`."""
    if settings.source == "corpus":
        return _corpus(settings)
    if settings.source.startswith(HUB):
        documents, checksums = _hub(settings, online)
    else:
        documents = _file(Path(settings.source), settings)
        checksums = {"source": settings.source, "file_sha256": _sha256(Path(settings.source).read_bytes())}
    if settings.val_source:
        train, held_out = documents, _file(Path(settings.val_source), settings)
        checksums["val_source"] = settings.val_source
    else:
        train, held_out = _split(documents)
    train = train[: settings.max_documents or None]
    _require_both(train, held_out, settings)
    return Texts(train, held_out, {**checksums, **_digests(train, held_out)})


def _corpus(settings: DataSettings) -> Texts:
    size = min(settings.corpus_documents, settings.max_documents or settings.corpus_documents)
    documents = corpus(settings.corpus_seed, size)
    held_out = heldout_documents(settings.val_documents, settings.val_seed)
    train = [document.text for document in documents]
    checksums = {"source": "corpus", "corpus_seed": settings.corpus_seed, "corpus_sha256": corpus_digest(documents)}
    return Texts(train, held_out, {**checksums, **_digests(train, held_out)}, documents)


def _file(path: Path, settings: DataSettings) -> list[str]:
    if not path.is_file():
        raise DataError(
            f"no text at {path.absolute()}: wanted a .txt, .jsonl or .parquet file, `corpus`, or hub:ORG/NAME"
        )
    if path.suffix == ".parquet":
        return _parquet(path, settings.field)
    try:
        if path.suffix in (".jsonl", ".ndjson"):
            texts = [record.text(settings.field, empty=True) for record in read_records(path)]
            return [text for text in texts if text.strip()]
        return list(read_text_documents(path, settings.cut))
    except ValueError as error:
        raise DataError(str(error)) from error


def _parquet(path: Path, column: str) -> list[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        if column not in file.schema_arrow.names:
            raise DataError(
                f"{path}: no column {column!r}; it has {', '.join(file.schema_arrow.names)}. Set data.field"
            )
        values = file.read(columns=[column]).column(column).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error
    return _strings(values, f"{path}: column {column!r}")


def _hub(settings: DataSettings, online: bool) -> tuple[list[str], dict[str, Any]]:
    name = settings.source.removeprefix(HUB)
    if not online:
        raise DataError(
            f"{settings.source} would be fetched from the hub, which needs --online; or save it as a file and name that"
        )
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{settings.source} needs the data sets library: pip install 'trialplate[datasets]'") from error
    try:
        rows = datasets.load_dataset(
            name, settings.hub_config or None, split=settings.hub_split, revision=settings.hub_revision or None
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError, *transport_errors()) as error:
        raise DataError(f"cannot fetch {name} (split {settings.hub_split}) from the hub: {error}") from error
    if settings.field not in rows.column_names:
        raise DataError(f"{name}: no column {settings.field!r}; it has {', '.join(rows.column_names)}. Set data.field")
    texts = _strings(rows[settings.field], f"{name}: column {settings.field!r}")
    return texts, {"source": settings.source, "split": settings.hub_split, "revision": settings.hub_revision or None}


def _strings(values: Iterable[Any], where: str) -> list[str]:
    texts = list(values)
    if wrong := [value for value in texts if not isinstance(value, str)]:
        raise DataError(f"{where}: wanted texts, got {type(wrong[0]).__name__} {wrong[0]!r:.40}")
    return [text for text in texts if text.strip()]


def _split(documents: Sequence[str]) -> tuple[list[str], list[str]]:
    """A document is held out by its content, so a repeated one is never on both sides."""
    sides = {text: split_of(text) for text in documents}
    return [t for t in documents if sides[t] == "train"], [t for t in documents if sides[t] == "heldout"]


def _require_both(train: Sequence[str], held_out: Sequence[str], settings: DataSettings) -> None:
    if not train or not held_out:
        raise DataError(
            f"{settings.source}: {len(train)} documents to train on and {len(held_out)} to validate; wanted some of both. "
            f"Give more documents, cut them otherwise (data.cut), or name a file in data.val_source."
        )


def _digests(train: Sequence[str], held_out: Sequence[str]) -> dict[str, Any]:
    return {
        "train_documents": {"n": len(train), "sha256": _texts_sha256(train)},
        "held_out_documents": {"n": len(held_out), "sha256": _texts_sha256(held_out)},
    }


def _texts_sha256(texts: Iterable[str]) -> str:
    """Of the digests of the texts, in order: borders between documents count."""
    total = hashlib.sha256()
    for text in texts:
        total.update(hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest())
    return total.hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
