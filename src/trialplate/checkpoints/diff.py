"""How two key manifests differ: missing, unexpected, renamed, reshaped, retyped, or other content. Standard library only.

A rename is allowed when both names have the same canonical form under a list of rules; transformers renames some heads in memory and keeps the
old name in files. Other renames are recognised by content where both sides carry it, otherwise by dtype, shape and the end of the name."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trialplate.checkpoints.keys import TensorInfo

# (pattern, replacement) pairs that lead a name to its canonical form, applied in order.
DEFAULT_RENAMES: tuple[tuple[str, str], ...] = (
    (r"^embed_out\.weight$", "lm_head.weight"),  # GPT-NeoX before and after transformers 5.13
    (r"^(wte|wpe|h|ln_f)\.", r"transformer.\1."),  # GPT-2 files of the hub leave the prefix out
    (r"^decoder\.", "model.decoder."),  # OPT likewise
)
# Buffers that old checkpoints carry and that are computed from the configuration: masks and rotary tables.
DEFAULT_IGNORED: tuple[str, ...] = (
    r"(^|\.)(attn|attention)\.(bias|masked_bias)$",
    r"(^|\.)attn\.attention\.(bias|masked_bias)$",
    r"(^|\.)inv_freq$",
)

Evidence = Literal["listed", "content", "shape"]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A tensor that has another name. `evidence`: the list of allowed renames, equal content, or only dtype, shape and ending."""

    old: str
    new: str
    evidence: Evidence

    @property
    def is_allowed(self) -> bool:
        """Whether the list of allowed renames knows it."""
        return self.evidence == "listed"


@dataclass(frozen=True, slots=True)
class Changed:
    """A tensor that is there under its name and differs. `hint` says what the difference looks like ("transposed", "has the content of X")."""

    key: str
    wanted: str
    got: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class KeyDiff:
    """All differences between a golden manifest and an actual one; keys that are ignored do not occur. `n_compared_content` tensors carried content on both sides."""

    n_golden: int
    n_actual: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    shape_changed: tuple[Changed, ...] = ()
    dtype_changed: tuple[Changed, ...] = ()
    content_changed: tuple[Changed, ...] = ()
    n_compared_content: int = 0

    def counts(self) -> dict[str, int]:
        """Number of keys by kind of difference; all zero means no difference, `renamed_allowed` is for information."""
        return {
            "missing": len(self.missing),
            "unexpected": len(self.unexpected),
            "renamed": sum(not r.is_allowed for r in self.renamed),
            "renamed_allowed": sum(r.is_allowed for r in self.renamed),
            "shape_changed": len(self.shape_changed),
            "dtype_changed": len(self.dtype_changed),
            "content_changed": len(self.content_changed),
        }

    @property
    def is_same(self) -> bool:
        """Whether nothing differs but allowed renames, and there was anything to compare."""
        differing = sum(count for kind, count in self.counts().items() if kind != "renamed_allowed")
        return differing == 0 and self.n_golden > 0 and self.n_actual > 0

    def render(self, limit: int = 12) -> str:
        """Readable text, at most `limit` lines a kind."""
        if self.is_same and not self.renamed:
            return f"all {self.n_golden} keys as in the golden manifest"
        sections = [f"{self.n_golden} golden keys, {self.n_actual} actual"]
        sections += _section("missing", self.missing, limit)
        sections += _section("unexpected", self.unexpected, limit)
        sections += _section(
            "renamed",
            [
                f"{r.old} -> {r.new} ({'allowed' if r.is_allowed else 'not allowed, by ' + r.evidence})"
                for r in self.renamed
            ],
            limit,
        )
        for title, changes in (
            ("shape changed", self.shape_changed),
            ("dtype changed", self.dtype_changed),
            ("content changed", self.content_changed),
        ):
            sections += _section(
                title,
                [f"{c.key}: wanted {c.wanted}, got {c.got}{' (' + c.hint + ')' if c.hint else ''}" for c in changes],
                limit,
            )
        return "\n".join(sections)


def compare_keys(
    golden: Mapping[str, TensorInfo],
    actual: Mapping[str, TensorInfo],
    allowed_renames: Sequence[tuple[str, str]] = DEFAULT_RENAMES,
    ignore: Iterable[str] = DEFAULT_IGNORED,
) -> KeyDiff:
    """Compare an actual manifest with a golden one. `ignore` are regular expressions searched in names.

    Content is compared where both sides carry it. Raises ValueError where two names of one side have the same canonical form."""
    skip = [re.compile(pattern) for pattern in ignore]
    canonical = _canonicaliser(allowed_renames)
    wanted = _by_canonical_name(golden, skip, canonical, "golden")
    got = _by_canonical_name(actual, skip, canonical, "actual")
    renamed = [Renamed(wanted[c], got[c], "listed") for c in sorted(wanted.keys() & got.keys()) if wanted[c] != got[c]]
    pairs = [(wanted[c], got[c]) for c in sorted(wanted.keys() & got.keys())]
    missing = [wanted[c] for c in sorted(wanted.keys() - got.keys())]
    unexpected = [got[c] for c in sorted(got.keys() - wanted.keys())]
    guessed = _pair_renamed(missing, unexpected, golden, actual)
    gone, come = {r.old for r in guessed}, {r.new for r in guessed}
    owners = {info.content: name for name, info in golden.items() if info.content is not None}
    return KeyDiff(
        n_golden=len(wanted),
        n_actual=len(got),
        missing=tuple(name for name in missing if name not in gone),
        unexpected=tuple(name for name in unexpected if name not in come),
        renamed=(*renamed, *guessed),
        shape_changed=tuple(
            _shape_change(new, golden[old], actual[new]) for old, new in pairs if golden[old].shape != actual[new].shape
        ),
        dtype_changed=tuple(
            Changed(new, golden[old].dtype, actual[new].dtype)
            for old, new in pairs
            if golden[old].dtype != actual[new].dtype
        ),
        content_changed=tuple(
            _content_change(old, new, golden[old], actual[new], owners)
            for old, new in pairs
            if _content_differs(golden[old], actual[new])
        ),
        n_compared_content=sum(
            golden[old].content is not None and actual[new].content is not None for old, new in pairs
        ),
    )


def _canonicaliser(rules: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def canonical(name: str) -> str:
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        return name

    return canonical


def _by_canonical_name(
    manifest: Mapping[str, TensorInfo], skip: list[re.Pattern[str]], canonical: Callable[[str], str], side: str
) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in manifest:
        if any(pattern.search(name) for pattern in skip):
            continue
        key = canonical(name)
        if key in names:
            raise ValueError(
                f"the {side} manifest has both {names[key]!r} and {name!r}, which the allowed renames make one key {key!r}"
            )
        names[key] = name
    return names


def _pair_renamed(
    missing: list[str], unexpected: list[str], golden: Mapping[str, TensorInfo], actual: Mapping[str, TensorInfo]
) -> list[Renamed]:
    """Pair names that look like one tensor, each name at most once; best evidence first."""
    offers: list[tuple[int, int, str, str]] = []
    for old in missing:
        for new in unexpected:
            a, b = golden[old], actual[new]
            if (a.dtype, a.shape) != (b.dtype, b.shape):
                continue
            by_content = a.content is not None and b.content is not None
            if by_content and a.content == b.content:
                offers.append((1, _likeness(old, new), old, new))
            elif not by_content and _likeness(old, new) > 0:
                offers.append((0, _likeness(old, new), old, new))
    taken: set[tuple[str, str]] = set()
    pairs: list[Renamed] = []
    for rank, _, old, new in sorted(offers, key=lambda offer: (-offer[0], -offer[1], offer[2], offer[3])):
        if ("old", old) in taken or ("new", new) in taken:
            continue
        taken |= {("old", old), ("new", new)}
        pairs.append(Renamed(old, new, "content" if rank else "shape"))
    return pairs


def _likeness(old: str, new: str) -> int:
    """Number of equal dotted parts counted from the end; 0 where the layer numbers differ."""
    if re.findall(r"\d+", old) != re.findall(r"\d+", new):
        return 0
    count = 0
    for a, b in zip(reversed(old.split(".")), reversed(new.split(".")), strict=False):
        if a != b:
            break
        count += 1
    return count


def _shape_change(key: str, wanted: TensorInfo, got: TensorInfo) -> Changed:
    is_transposed = len(wanted.shape) == 2 and wanted.shape == got.shape[::-1]
    return Changed(key, wanted.text, got.text, "transposed" if is_transposed else "")


def _content_differs(wanted: TensorInfo, got: TensorInfo) -> bool:
    # Of another dtype or shape the bytes differ anyway: that is said once, by its own name.
    same_form = (wanted.dtype, wanted.shape) == (got.dtype, got.shape)
    return same_form and wanted.content is not None and got.content is not None and wanted.content != got.content


def _content_change(old: str, new: str, wanted: TensorInfo, got: TensorInfo, owners: Mapping[str, str]) -> Changed:
    hint = ""
    if got.transposed is not None and got.transposed == wanted.content:
        hint = "transposed"
    elif got.content is not None and got.content in owners:
        hint = f"has the content of {owners[got.content]}"
    return Changed(new, str(wanted.content)[:12], str(got.content)[:12], hint)


def _section(title: str, lines: Sequence[str], limit: int) -> list[str]:
    if not lines:
        return []
    shown = [f"{title} ({len(lines)}):", *(f"  {line}" for line in lines[:limit])]
    return shown + ([f"  … and {len(lines) - limit} more"] if len(lines) > limit else [])
