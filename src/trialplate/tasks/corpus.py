"""The corpus of the embedded models: documents of eight small domains, drawn from one seeded generator.

Each domain is made by the module that also asks the questions, so a probe asks what training taught, and the split of a
document (train, held out) is a property of its content: held-out documents are never in the corpus, whatever the seed.
Random-token sequences for induction are not text; the training code draws them itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from random import Random

from trialplate.tasks import texture
from trialplate.tasks.document import Document, Split
from trialplate.tasks.probes import agreement, arithmetic, facts, greater_than, ioi, minimal_pairs

SHARES: dict[str, tuple[float, Callable[[Random, Split], Document]]] = {
    "ioi": (0.24, ioi.document),
    "arithmetic": (0.27, arithmetic.document),
    "facts": (0.22, facts.document),
    "agreement": (0.06, agreement.document),
    "grammar": (0.03, minimal_pairs.determiner_document),
    "years": (0.07, greater_than.document),
    "code": (0.05, texture.code),
    "dialogue": (0.06, texture.dialogue),
}
"""Domain -> (share of the documents, its generator)."""

CORPUS_SIZE = 100_000
"""Documents in the corpus that the shipped model was trained on."""


def documents(seed: int, split: Split = "train") -> Iterator[Document]:
    """An endless stream of documents of a split; the same for the same seed on every machine."""
    rng = Random(f"corpus:{split}:{seed}")
    shares, makers = zip(*SHARES.values(), strict=True)
    while True:
        yield rng.choices(makers, weights=shares)[0](rng, split)


def corpus(seed: int = 0, n: int = CORPUS_SIZE) -> list[Document]:
    """The first n training documents of a seed."""
    stream = documents(seed)
    return [next(stream) for _ in range(n)]


def heldout_documents(n: int, seed: int) -> list[str]:
    """n texts that no training corpus contains, for bits per byte and perplexity: unseen scenes, sums and phrasings, same domains."""
    if n < 1:
        raise ValueError(f"heldout_documents: n = {n}, wanted at least 1")
    stream = documents(seed, "heldout")
    return [next(stream).text for _ in range(n)]


def corpus_digest(docs: Iterable[Document]) -> str:
    """SHA-256 (hexadecimal) of documents in their order, their parts kept apart."""
    digest = hashlib.sha256()
    for doc in docs:
        digest.update(json.dumps([doc.domain, doc.prompt, doc.answer, doc.rest]).encode() + b"\n")
    return digest.hexdigest()
