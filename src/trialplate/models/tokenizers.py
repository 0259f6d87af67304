"""One surface over tokenizers, read with the `tokenizers` package alone: no torch, so that items can be checked while tests are collected.

Text is encoded without special tokens, without padding and without truncation, whatever the file asks for; the callers add what they need.
A tokenizer of another kind is an error: a replacement would measure another model."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from trialplate.models import hub
from trialplate.models.catalog import EMBEDDED, catalog_entry
from trialplate.models.errors import TokenizerError
from trialplate.models.resolve import HUB_ID, Source, resolve
from trialplate.models.spec import ModelSpec

Encode = Callable[[str], list[int]]
_ROLES = ("bos_token", "eos_token", "pad_token")


@dataclass(frozen=True, slots=True)
class VocabDiff:
    """Tokens that one vocabulary has and another lacks, and tokens whose id moved (old id, new id)."""

    added: dict[str, int]
    removed: dict[str, int]
    moved: dict[str, tuple[int, int]]

    @property
    def is_same(self) -> bool:
        """Whether both vocabularies are the same pairs of token and id."""
        return not (self.added or self.removed or self.moved)

    def render(self, limit: int = 8) -> str:
        """Readable text: counts, and the first few of each kind."""
        moved = [
            f"{token!r} {old} -> {new}" for token, (old, new) in sorted(self.moved.items(), key=lambda row: row[1])
        ]
        kinds = (("added", list(map(repr, self.added))), ("removed", list(map(repr, self.removed))), ("moved", moved))
        return (
            "; ".join(f"{len(rows)} {kind}: {', '.join(rows[:limit])}" for kind, rows in kinds if rows)
            or "the same vocabulary"
        )


class TokenizerAdapter:
    """A `tokenizers.Tokenizer` with its special ids. Ids are below `vocab_size`; `bos_id`, `eos_id`, `pad_id` are None where the model has none."""

    def __init__(
        self,
        backend: Tokenizer,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        pad_id: int | None = None,
        adds_bos: bool | None = None,
    ) -> None:
        # A saved file may carry the padding and truncation of a training run: they would change lengths silently.
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        self._digest: str | None = None
        self._adds_bos = adds_bos

    @property
    def adds_bos(self) -> bool:
        """Whether its own files ask for the beginning token before every text (Llama, OPT); `encode` leaves it out all the same."""
        if self.bos_id is None:
            return False
        if self._adds_bos is None:
            self._adds_bos = self.backend.encode("a", add_special_tokens=True).ids[:1] == [self.bos_id]
        return self._adds_bos

    @property
    def vocab_size(self) -> int:
        """Largest id plus one, added tokens included."""
        return max(self.vocab.values()) + 1

    @property
    def vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        vocabulary: dict[str, int] = self.backend.get_vocab(with_added_tokens=True)
        return vocabulary

    def encode(self, text: str) -> list[int]:
        """Ids of a text, no special tokens added."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts; equal to `encode` of each."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The half-open character range of each token of `encode(text)`."""
        spans: list[tuple[int, int]] = self.backend.encode(text, add_special_tokens=False).offsets
        return spans

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=False)
        return text

    def canonical(self) -> dict[str, Any]:
        """Everything that decides ids and texts, as plain data: vocabulary, model with merges, added tokens, normalizer, pre-tokenizer,
        post-processor, decoder, special ids. Fields at their empty value are left out, so that a library that adds one changes nothing."""
        content = json.loads(self.backend.to_str())
        model = content["model"]
        if "merges" in model:
            model["merges"] = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        if isinstance(model.get("vocab"), dict):
            del model["vocab"]  # the pairs below say the same; a unigram list stays, since it holds scores
        parts = {
            name: content.get(name)
            for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens")
        }
        special = {"bos_id": self.bos_id, "eos_id": self.eos_id, "pad_id": self.pad_id}
        return {
            "model": _without_empty(model),
            **_without_empty(parts),
            "special": special,
            "vocab": sorted(self.vocab.items()),
        }

    @property
    def digest(self) -> str:
        """sha256 (hex) of the canonical content."""
        if self._digest is None:
            text = json.dumps(self.canonical(), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
            self._digest = hashlib.sha256(text.encode()).hexdigest()
        return self._digest


def vocab_diff(wanted: dict[str, int], got: dict[str, int]) -> VocabDiff:
    """Compare two vocabularies, token by token."""
    return VocabDiff(
        added={token: got[token] for token in sorted(got.keys() - wanted.keys())},
        removed={token: wanted[token] for token in sorted(wanted.keys() - got.keys())},
        moved={
            token: (wanted[token], got[token])
            for token in sorted(wanted.keys() & got.keys())
            if wanted[token] != got[token]
        },
    )


def load_tokenizer(folder: Path) -> TokenizerAdapter:
    """Read the tokenizer of a model folder: tokenizer.json, or vocab.json with merges.txt (byte-level BPE as in GPT-2 and OPT).

    Raises TokenizerError for a folder without one, a damaged file, or special tokens that the vocabulary lacks."""
    backend = _backend(folder)
    asked = _json(folder / "tokenizer_config.json").get("add_bos_token")
    return TokenizerAdapter(
        backend, **_special_ids(folder, backend), adds_bos=asked if isinstance(asked, bool) else None
    )


def source_tokenizer(source: Source) -> TokenizerAdapter:
    """The tokenizer of a model's files. For a checkpoint file: beside it, else in the folder above (that of its training run), else the one
    that its configuration names, if this machine has it. Raises TokenizerError."""
    if source.checkpoint is None:
        return load_tokenizer(source.path)
    for folder in (source.path, source.path.parent):
        if _has_tokenizer(folder):
            return load_tokenizer(folder)
    return _named_tokenizer(source.checkpoint)


def peek_tokenizer(spec: ModelSpec, online: bool = False) -> TokenizerAdapter:
    """The tokenizer of a model without its weights and without torch. Raises ModelNotFound or TokenizerError."""
    return source_tokenizer(resolve(spec, online, weights=False))


def peek_encode(spec: ModelSpec, online: bool = False) -> Encode:
    """`encode` of `peek_tokenizer`: text -> ids, no special tokens."""
    return peek_tokenizer(spec, online).encode


def wrap_tokenizer(tokenizer: object) -> TokenizerAdapter:
    """Make an adapter of what a user's factory returned: an adapter, a `tokenizers.Tokenizer`, or a fast tokenizer of transformers.

    Raises TokenizerError for anything else, such as a slow tokenizer."""
    if isinstance(tokenizer, TokenizerAdapter):
        return tokenizer
    if isinstance(tokenizer, Tokenizer):
        return TokenizerAdapter(Tokenizer.from_str(tokenizer.to_str()))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TokenizerError(
            f"cannot use a {type(tokenizer).__name__} as tokenizer: wanted a TokenizerAdapter, a tokenizers.Tokenizer, or a fast tokenizer of transformers "
            f"(one with backend_tokenizer). Save it as tokenizer.json and read that."
        )
    ids = {role.replace("token", "id"): getattr(tokenizer, f"{role}_id", None) for role in _ROLES}
    asked = getattr(tokenizer, "add_bos_token", None)
    return TokenizerAdapter(
        Tokenizer.from_str(backend.to_str()), **ids, adds_bos=asked if isinstance(asked, bool) else None
    )


def _backend(folder: Path) -> Tokenizer:
    file, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    if file.is_file():
        try:
            return Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:
            if type(error) is not Exception:  # the library raises the bare class and nothing narrower; all else passes
                raise
            raise TokenizerError(f"{file} is not a readable tokenizer: {error}. Fetch or write it again.") from error
    if vocab.is_file() and merges.is_file():
        return Tokenizer.from_str(ByteLevelBPETokenizer(str(vocab), str(merges)).to_str())
    slow = [
        name for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model") if (folder / name).is_file()
    ]
    also = (
        f" It has {slow[0]}; convert it once: AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained(...)."
        if slow
        else ""
    )
    raise TokenizerError(f"no tokenizer in {folder}: wanted tokenizer.json, or vocab.json with merges.txt.{also}")


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )


def byte_tokenizer() -> TokenizerAdapter:
    """Ids 0 to 255 are the bytes of UTF-8, 256 ends a text and is never part of one: what byte models of `asa train-mini` are trained with."""
    printable = [
        *range(0x21, 0x7F),
        *range(0xA1, 0xAD),
        *range(0xAE, 0x100),
    ]  # bytes that byte-level tokenizers write as themselves
    others = (byte for byte in range(256) if byte not in printable)
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    backend = Tokenizer(BPE({letters[byte]: byte for byte in range(256)} | {"<|end|>": 256}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = ByteLevelDecoder()
    return TokenizerAdapter(backend, eos_id=256)


def _named_tokenizer(checkpoint: Path) -> TokenizerAdapter:
    """The tokenizer that a checkpoint's configuration names, from this machine. The file is opened for it, which needs torch."""
    from trialplate.models.asm import tokenizer_name

    name = tokenizer_name(checkpoint)
    if name == "bytes":
        return byte_tokenizer()
    hub_id = entry.hub_id if (entry := catalog_entry(name)) else name if HUB_ID.fullmatch(name) else ""
    if (folder := _named_folder(name, hub_id)) is not None:
        return load_tokenizer(folder)
    where = f"which the hub cache {hub.cache_folder()} does not have" if hub_id else "which is not on this machine"
    named = f" Its configuration names {name!r}, {where}." if name else ""
    fetch = f", or fetch it with `{hub.download_command(hub_id, None)} tokenizer.json`" if hub_id else ""
    raise TokenizerError(
        f"no tokenizer for {checkpoint}: wanted tokenizer.json (or vocab.json with merges.txt) beside it in {checkpoint.parent}.{named} Put it there{fetch}."
    )


def _named_folder(name: str, hub_id: str) -> Path | None:
    """The folder of a tokenizer by the name that a training gave it: a file, a folder, an embedded model, a model of the hub cache."""
    path = Path(name).expanduser()
    if name and path.name == "tokenizer.json" and path.is_file():
        return path.parent
    if name and _has_tokenizer(path):
        return path
    if name in EMBEDDED:
        return resolve(ModelSpec(name), weights=False).path
    found = (hub.cached_snapshot(hub_id, None, marker) for marker in ("tokenizer.json", "vocab.json") if hub_id)
    return next((folder for folder in found if folder is not None), None)


def _special_ids(folder: Path, backend: Tokenizer) -> dict[str, int | None]:
    """Special ids by name from the tokenizer's own files (null means none), else by number from config.json."""
    names = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    config = _json(folder / "config.json")
    ids: dict[str, Any] = {}
    for role in _ROLES:
        key = role.replace("token", "id")
        if role not in names:
            number = config.get(f"{role}_id")
            ids[key] = next(iter(number), None) if isinstance(number, list) else number
            continue
        token = names[role].get("content") if isinstance(names[role], dict) else names[role]
        ids[key] = None if token is None else backend.token_to_id(token)
        if token is not None and ids[key] is None:
            raise TokenizerError(
                f"the tokenizer files in {folder} name {token!r} as {role}, which is not in the vocabulary of {backend.get_vocab_size()} tokens"
            )
    return ids


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{file} is not JSON: {error}. Fetch or write it again.") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} holds a {type(content).__name__}: wanted an object")
    return content


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(part) for key, part in value.items() if not _is_empty(part)}
    return [_without_empty(part) for part in value] if isinstance(value, list) else value


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, (str, list, dict)) and not value)  # 0 is a value
