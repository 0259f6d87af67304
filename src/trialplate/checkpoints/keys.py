"""A key manifest: for each tensor name its dtype and shape, and its content where somebody computed it. Standard library only.

Dtypes carry the names of the safetensors header (F32, F16, BF16, I64, BOOL ...), whatever file format they were read from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor. `content` is the sha256 (hex) of its little-endian row-major bytes, `transposed` that of its transpose (2-D only)."""

    dtype: str
    shape: tuple[int, ...]
    content: str | None = None
    transposed: str | None = None

    @property
    def numel(self) -> int:
        """Number of elements, 1 for a scalar."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def text(self) -> str:
        """`F16[512, 2048]`, as shown to people."""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


KeyManifest = dict[str, TensorInfo]


def manifest_digest(manifest: Mapping[str, TensorInfo]) -> str:
    """sha256 (hex) over names, dtypes and shapes, sorted by name. Content plays no part: two training steps of a model agree."""
    return _digest_rows([name, info.dtype, list(info.shape)] for name, info in sorted(manifest.items()))


def content_digest(manifest: Mapping[str, TensorInfo]) -> str:
    """sha256 (hex) over names, dtypes, shapes and contents, sorted by name: the identity of a set of weights.

    Independent of file format, of the order of tensors and of their distribution over shards.
    Raises ValueError where a tensor has no content digest, or where there is no tensor at all."""
    if not manifest:
        raise ValueError("a digest of no tensors is undefined")
    without = [name for name, info in manifest.items() if info.content is None]
    if without:
        raise ValueError(
            f"{len(without)} tensors have no content digest, first {without[0]!r}; read the manifest with content=True"
        )
    return _digest_rows([name, info.dtype, list(info.shape), info.content] for name, info in sorted(manifest.items()))


def _digest_rows(rows: Iterable[list[object]]) -> str:
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode())
        hasher.update(b"\n")
    return hasher.hexdigest()
