"""The tokenizer by itself: lossless, frozen, its padding an algebra, its ids inside the embedding, its batches equal to its single calls.

Budget: 4 CPU seconds.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialplate.models.catalog import canonical_name
from trialplate.models.tokenizers import vocab_diff
from trialplate.tasks.published import load_published

SLICES = {
    "ascii": ["Hello, world!", "a b  c   d", "x", "The quick brown fox.", "#!/usr/bin/env -S a=b"],
    "scripts": ["Ελλάδα", "Привет, мир", "こんにちは世界", "مرحبا بالعالم", "नमस्ते दुनिया", "שלום עולם", "안녕하세요", "ไทย"],
    "emoji": ["👩‍👩‍👧‍👦 family", "🏳️‍🌈", "👍🏽👍", "🇸🇪🇩🇰", "❤️"],
    "combining": ["e\u0301 vs é", "n\u0303", "A\u030a\u0302", "\u1e69 \u0073\u0323\u0307"],
    "whitespace": ["\r\nline\r\n", "\ttab\t\ttabs", "  leading", "trailing  ", "\n\n\n", "a\u00a0b\u2003c", "\u200b"],
    "code": ["def f(x):\n    return x ** 2\n", "for (int i=0;i<n;++i){a[i]^=1;}", "SELECT * FROM t WHERE a='b'--", "\\frac{a}{b}"],
    "digits": ["0123456789", "1999 + 2024 = 4023", "3.14159", "1,000,000", "0x7f", "007", "٣٤٥"],
}  # fmt: skip
EVERYTHING = [text for texts in SLICES.values() for text in texts]


def generated(n, strategy=None):
    """n strings that hypothesis makes, the same in every run."""
    texts = []

    @settings(max_examples=n, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy if strategy is not None else st.text(max_size=60))
    def collect(text):
        texts.append(text)

    collect()
    return texts


def is_lossless(tokenizer):
    """Whether it claims to give back every text: bytes all the way, and no normalizer in front."""
    content = json.loads(tokenizer.backend.to_str())
    return content.get("normalizer") is None and "ByteLevel" in json.dumps(content.get("decoder"))


@pytest.mark.parametrize("text", [*SLICES, "hypothesis"])
def test_round_trip(text, tokenizer, record, limit):
    """Exact where the tokenizer claims losslessness; else encoding what was decoded gives the same ids again."""
    texts = SLICES.get(text) or generated(limit(300))
    exact = is_lossless(tokenizer)
    failures = []
    for t in texts:
        ids = tokenizer.encode(t)
        back = tokenizer.decode(ids)
        if (back != t) if exact else (tokenizer.encode(back) != ids):
            failures.append(t)
    samples = [{"item": ascii(t), "value": 1} for t in failures]
    claim = "lossless" if exact else "idempotent"
    record("round_trip_failures", len(failures), n=len(texts), samples=samples, text=text, claim=claim)
    assert texts


@pytest.mark.requires_golden("tokenizers")
def test_vocabulary(subject, tokenizer, record, golden_file, golden_update):
    """Frozen: every token keeps its id, and merges, normalizer and special ids stay as they were. The golden file holds the tokens, and a digest of
    the whole content."""
    path = golden_file("tokenizers")
    if golden_update:
        from trialplate.report.files import write_atomic

        models = json.loads(path.read_text())["models"] if path.is_file() else [canonical_name(subject.name)]
        content = {"models": models, "sha256": tokenizer.digest, "vocab": tokenizer.vocab}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(content, indent=0, sort_keys=True).encode() + b"\n")
    golden = json.loads(path.read_text())
    diff = vocab_diff(golden["vocab"], tokenizer.vocab)
    changes = len(diff.added) + len(diff.removed) + len(diff.moved)
    samples = [{"item": token, "value": 1} for token in (*diff.added, *diff.removed, *diff.moved)]
    record("vocabulary_changes", changes, n=len(golden["vocab"]), samples=samples, part="vocabulary")
    record("vocabulary_changes", tokenizer.digest != golden["sha256"], n=1, part="whole content")
    assert golden["vocab"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(side, tokenizer, record, limit):
    """Exact length; the mask's sum is the true length; pad ids only under a mask of 0; labels are ignored on pads alone, a genuine end of
    text stays a target even where pad and end are one id."""
    from tokenizers import Tokenizer

    backend, length, end = Tokenizer.from_str(tokenizer.backend.to_str()), 16, tokenizer.eos_id
    pad = next(i for i in (tokenizer.pad_id, end, 0) if i is not None)
    closing = "" if end is None else backend.id_to_token(end)
    texts = [t + closing for t in EVERYTHING + generated(limit(100)) if tokenizer.encode(t)]
    true = [tokenizer.encode(t)[:length] for t in texts]
    backend.enable_truncation(length)
    backend.enable_padding(direction=side, pad_id=pad, pad_token=backend.id_to_token(pad), length=length)
    violations = 0
    for ids, row in zip(true, backend.encode_batch(texts, add_special_tokens=False), strict=True):
        real = [i for i, m in zip(row.ids, row.attention_mask, strict=True) if m]
        pads = [i for i, m in zip(row.ids, row.attention_mask, strict=True) if not m]
        edge = row.attention_mask[:1] if side == "left" else row.attention_mask[-1:]
        labels = [i if m else -100 for i, m in zip(row.ids, row.attention_mask, strict=True)]
        violations += len(row.ids) != length or real != ids or set(pads) > {pad} or (bool(pads) and edge != [0])
        violations += labels.count(-100) != len(pads) or labels.count(end) != ids.count(end)
    record("padding_violations", violations, n=len(texts), side=side)
    assert any(len(ids) < length for ids in true)


def test_ids(model, record, golden_dir):
    """Every id lies inside vocabulary and embedding, special tokens are ids of the vocabulary, and the embedding has a row for each id."""
    tokenizer = model.tokenizer
    special = {name: getattr(tokenizer, name) for name in ("bos_id", "eos_id", "pad_id")}
    used = [i for t in EVERYTHING for i in tokenizer.encode(t)]
    known = set(tokenizer.vocab.values())
    outside = [i for i in used if not 0 <= i < model.vocab_rows or i not in known]
    record("id_violations", len(outside), n=len(used), of="text")
    record(
        "id_violations",
        sum(i is not None and (i not in known or i >= model.vocab_rows) for i in special.values()),
        n=3,
        of="special tokens",
    )
    record(
        "id_violations", max(0, tokenizer.vocab_size - model.vocab_rows), n=tokenizer.vocab_size, of="embedding rows"
    )
    record("id_violations", len(tokenizer.vocab) - len(known), n=len(tokenizer.vocab), of="shared ids")
    for pin in load_published(golden_dir / "published.json").pins_of(
        model.label.removeprefix("EleutherAI/"), "token_ids"
    ):
        record(
            "id_violations",
            tokenizer.encode(pin.of) != list(pin.values),
            n=len(pin.values),
            of=f"published ids of {pin.of}",
        )
    assert used


def test_batches(tokenizer, record, limit):
    """The batched encoding is the single one; offsets are ordered, lie in the text and leave no character out."""
    texts = EVERYTHING + generated(limit(200))
    batched = tokenizer.encode_batch(texts)
    different = sum(b != tokenizer.encode(t) for b, t in zip(batched, texts, strict=True))
    uncovered = sum(not covers(tokenizer.offsets(t), t) for t in texts) if is_lossless(tokenizer) else 0
    record("batch_mismatches", different, n=len(texts), of="batch")
    record("batch_mismatches", uncovered, n=len(texts), of="offsets")
    assert len(batched) == len(texts)


def covers(offsets, text):
    """Whether half-open character ranges are ordered and cover every character."""
    covered = set()
    for start, end in offsets:
        if not 0 <= start <= end <= len(text):
            return False
        covered |= set(range(start, end))
    return covered == set(range(len(text)))
