"""Rows on disk: memory-mapped shards in random order, one sidecar that says which token each row is, and a manifest with hashes.

    FOLDER/manifest.json          what this is: model, plan, dtype, order, and the sha256 of every file
    FOLDER/tokens.parquet         row, document, cluster, position, token, task; the same for every site
    FOLDER/L3.mlp_act/00000.npy   rows [n, d] in NumPy's own format: float32, or bfloat16 as uint16 (its bit pattern)

Which tokens are kept and in which order is decided by a key of (document, position, seed): the rows are a uniform sample without replacement, in
uniformly random order, so that a slab read front to back is already shuffled. The folder appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from trialplate.activations.batches import Plan, Tokens
from trialplate.activations.collectors.keyed import token_keys
from trialplate.activations.errors import StoreError

SCHEMA = "trialplate-activations/1"
Stored = Literal["float32", "bfloat16"]
SHARD_BYTES = 256 << 20
_KEYS = {"schema", "order", "seed", "dtype", "n_rows", "n_tokens", "plan", "about", "tokens", "sites"}


class ShardWriter:
    """Writes the rows of several sites into a folder. Use `writing`, which makes the folder whole or removes it."""

    def __init__(
        self, folder: Path, plan: Plan, *, max_rows: int | None, dtype: Stored, seed: int, shard_bytes: int
    ) -> None:
        self.folder, self.plan, self.dtype, self.seed, self.shard_bytes = folder, plan, dtype, seed, shard_bytes
        keys = np.concatenate([_keys(batch.tokens(), seed) for batch in plan])
        n = len(keys) if max_rows is None else min(max_rows, len(keys))
        self._kept = np.sort(np.partition(keys, n - 1)[:n] if n < len(keys) else keys)
        self._tasks = {task: i for i, task in enumerate(plan.n_tokens)}
        self._about = np.zeros((n, 5), np.int64)
        self._sites: dict[str, _SiteShards] = {}

    @property
    def n_rows(self) -> int:
        """Rows that are kept of every site."""
        return len(self._kept)

    def collector(self, site: str, task: str) -> _RowsOfTask:
        """What hands the rows of a task at a site to this writer."""
        shards = self._sites.setdefault(
            site, _SiteShards(self.folder / site, self.n_rows, self.dtype, self.shard_bytes)
        )
        return _RowsOfTask(self, shards, self._tasks[task])

    def place(self, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """(cells of a batch that are kept, the rows they become)."""
        keys = _keys(tokens, self.seed)
        rows = np.searchsorted(self._kept, keys)
        cells = np.flatnonzero((rows < self.n_rows) & (self._kept[np.minimum(rows, self.n_rows - 1)] == keys))
        return cells, rows[cells]

    def note(self, task: int, tokens: Tokens, cells: np.ndarray, rows: np.ndarray) -> None:
        """Remember what the rows are."""
        about = torch.stack([tokens.document, tokens.cluster, tokens.position, tokens.token], 1).numpy()
        self._about[rows, :4], self._about[rows, 4] = about[cells], task

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write the sidecar, then the manifest. StoreError where rows are missing."""
        if not self._sites:
            raise StoreError(f"{self.folder}: no site was written; ask for a collector of one")
        for site, shards in self._sites.items():
            if lost := int((~shards.seen).sum()):
                raise StoreError(
                    f"{self.folder}: {lost} of {self.n_rows} rows of {site} were never written: the pass ended early, or a task had no collector there"
                )
        sites = {site: shards.finish() for site, shards in self._sites.items()}
        sidecar = self._write_sidecar()
        manifest = {
            "schema": SCHEMA,
            "order": "ascending SplitMix64 key of (document, position)",
            "seed": self.seed,
            "dtype": self.dtype,
            "n_rows": self.n_rows,
            "n_tokens": dict(self.plan.n_tokens),
            "plan": self.plan.digest,
            "about": dict(about),
            "tokens": sidecar,
            "sites": sites,
        }
        _write_whole(self.folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")

    def _write_sidecar(self) -> dict[str, str]:
        import pyarrow as pa
        from pyarrow import parquet

        row = np.arange(self.n_rows)
        names = ("document", "cluster", "position", "token")
        table = {"row": row, **{n: self._about[:, i] for i, n in enumerate(names)}}
        tasks = pa.DictionaryArray.from_arrays(
            pa.array(self._about[:, 4].astype(np.int32)), pa.array(list(self._tasks))
        )
        path = self.folder / "tokens.parquet"
        parquet.write_table(pa.table({**table, "task": tasks}), path)
        return {"file": path.name, "sha256": _sha256(path)}


@contextmanager
def writing(
    folder: Path,
    plan: Plan,
    about: Mapping[str, Any],
    *,
    max_rows: int | None = None,
    dtype: Stored = "float32",
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
) -> Iterator[ShardWriter]:
    """A writer whose folder takes its name when the block ends without an error, and is removed otherwise.

    max_rows: rows kept of every site (None: every token). about: what the manifest says of the model and the texts; plain data.
    StoreError where the folder exists, a size makes no sense, or the block ends before every row was written."""
    if folder.exists():
        raise StoreError(
            f"{folder} exists; rows are never added to a folder or written over one. Choose another, or remove it"
        )
    if dtype not in get_args(Stored) or (max_rows is not None and max_rows < 1) or shard_bytes < 1:
        raise StoreError(
            f"wanted dtype {' or '.join(get_args(Stored))} and positive sizes, got {dtype!r}, {max_rows} rows, shards of {shard_bytes} bytes"
        )
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        writer = ShardWriter(partial, plan, max_rows=max_rows, dtype=dtype, seed=seed, shard_bytes=shard_bytes)
        yield writer
        writer.finish(about)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class Store:
    """A folder of rows, opened for reading. `manifest` is what it says of itself."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def sites(self) -> list[str]:
        """The sites whose rows it holds."""
        return list(self.manifest["sites"])

    @property
    def n_rows(self) -> int:
        """Rows of every site."""
        return int(self.manifest["n_rows"])

    def rows(self, site: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows [stop - start, d] of a site as float32; only their shards are touched. StoreError for a site that is not there."""
        if site not in self.manifest["sites"]:
            raise StoreError(f"{self.folder}: no rows of {site!r}; it has {', '.join(self.sites)}")
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        entry, parts, begin = self.manifest["sites"][site], [], 0
        for shard in entry["shards"]:
            low, high = max(start, begin), min(stop, begin + shard["rows"])
            if low < high:
                parts.append(self._part(entry, shard, low - begin, high - begin))
            begin += shard["rows"]
        if not parts:
            raise StoreError(f"{self.folder}: no rows {start} to {stop} of {site}; there are {self.n_rows}")
        return torch.cat(parts)

    def tokens(self) -> Any:
        """The sidecar as a pandas frame, one line a row."""
        import pandas as pd

        return pd.read_parquet(self.folder / self.manifest["tokens"]["file"])

    def _part(self, entry: Mapping[str, Any], shard: Mapping[str, Any], low: int, high: int) -> torch.Tensor:
        kept = np.load(self.folder / shard["file"], mmap_mode="r", allow_pickle=False)
        if kept.shape != (shard["rows"], entry["width"]):
            raise StoreError(
                f"{self.folder / shard['file']}: wanted [{shard['rows']}, {entry['width']}], got {list(kept.shape)}"
            )
        values = torch.from_numpy(np.array(kept[low:high]))
        return values.view(torch.bfloat16).float() if self.manifest["dtype"] == "bfloat16" else values


def open_store(folder: Path | str, *, verify: bool = False) -> Store:
    """Open a folder of rows, or a run of `trialplate capture` that holds one; `verify` reads every file and compares its hash. StoreError for anything that is not what the manifest says."""
    folder = Path(folder)
    if not (folder / "manifest.json").is_file() and (folder / "rows" / "manifest.json").is_file():
        folder = folder / "rows"  # the folder of a run of `trialplate capture`
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read, so {folder} is no folder of rows: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        got = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise StoreError(f"{path}: wanted schema {SCHEMA}, got {got!r}; another release may read it")
    if wrong := sorted(set(manifest) ^ _KEYS):
        raise StoreError(f"{path}: missing or unknown keys: {', '.join(wrong)}")
    files = [manifest["tokens"], *(shard for site in manifest["sites"].values() for shard in site["shards"])]
    for entry in files:
        file = folder / entry["file"]
        if not file.is_file():
            raise StoreError(f"{folder}: {entry['file']} is in the manifest and not in the folder")
        if verify and _sha256(file) != entry["sha256"]:
            raise StoreError(f"{file} is not what was written: its sha256 differs from the manifest's")
    return Store(folder, manifest)


class _RowsOfTask:
    """The collector of one task at one site."""

    def __init__(self, writer: ShardWriter, shards: _SiteShards, task: int) -> None:
        self._writer, self._shards, self._task = writer, shards, task

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Write those of the rows [n, d] that are kept."""
        cells, rows = self._writer.place(tokens)
        if len(cells):
            whole = len(cells) == len(values)
            self._shards.write(values if whole else values[torch.from_numpy(cells).to(values.device)], rows)
            self._writer.note(self._task, tokens, cells, rows)


class _SiteShards:
    """The files of one site; opened when the width is known."""

    def __init__(self, folder: Path, n_rows: int, dtype: Stored, shard_bytes: int) -> None:
        self.folder, self.n_rows, self.dtype, self.shard_bytes = folder, n_rows, dtype, shard_bytes
        self.rows_per_shard = n_rows
        self.width = 0
        self.seen = np.zeros(n_rows, bool)
        self._maps: list[np.memmap] = []

    def write(self, values: torch.Tensor, rows: np.ndarray) -> None:
        """Put values [m, d] into rows [m]."""
        self.seen[rows] = True
        if not self._maps:
            self._open(values.shape[1])
        stored = (
            values.to(torch.bfloat16).cpu().view(torch.uint16) if self.dtype == "bfloat16" else values.float().cpu()
        )
        shard = rows // self.rows_per_shard
        for number in np.unique(shard) if len(self._maps) > 1 else (0,):
            here = slice(None) if len(self._maps) == 1 else shard == number
            self._maps[number][rows[here] - number * self.rows_per_shard] = stored.numpy()[here]

    def _open(self, width: int) -> None:
        self.folder.mkdir()
        self.width = width
        size = 2 if self.dtype == "bfloat16" else 4
        self.rows_per_shard = max(1, min(self.n_rows, self.shard_bytes // (size * width)))
        kind = np.uint16 if self.dtype == "bfloat16" else np.float32
        for number, start in enumerate(range(0, self.n_rows, self.rows_per_shard)):
            shape = (min(self.rows_per_shard, self.n_rows - start), width)
            self._maps.append(np.lib.format.open_memmap(self.folder / f"{number:05}.npy", "w+", kind, shape))

    def finish(self) -> dict[str, Any]:
        """Flush and hash; what the manifest says of the site."""
        shards = []
        for number, kept in enumerate(self._maps):
            kept.flush()
            file = self.folder / f"{number:05}.npy"
            shards.append({"file": f"{self.folder.name}/{file.name}", "rows": len(kept), "sha256": _sha256(file)})
        self._maps = []
        return {"width": self.width, "shards": shards}


def _keys(tokens: Tokens, seed: int) -> np.ndarray:
    return token_keys(tokens.document, tokens.position, seed)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
