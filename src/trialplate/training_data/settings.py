"""Which text is trained on, which is held out, and how it becomes tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trialplate.tasks.corpus import CORPUS_SIZE

Packing = Literal["stream", "weighted"]
Cut = Literal["blank_line", "line", "wikitext_page", "whole"]


class DataError(ValueError):
    """Text or a tokenizer that cannot be used; the message says what is missing and what would do."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """The data of a training."""

    source: str = "corpus"
    """`corpus`, a file (.txt, .jsonl, .parquet), or `hub:ORG/NAME` (fetched with --online only)."""
    tokenizer: str = "embedded:neox-tiny"
    """`bytes`, a tokenizer.json, a folder or hub id that has one, or an embedded model."""
    end_token: str = ""
    """What closes a document; empty: the end-of-text token of the tokenizer."""
    packing: Packing = "stream"
    """stream: documents one after the other, all tokens alike. weighted (corpus only): rows of whole documents, answers weigh more than prompts."""
    induction_share: float = 0.0
    """Share of the tokens that are repeated random sequences (weighted packing only)."""
    max_documents: int = 0
    """Training documents at most; 0: all."""
    # the corpus
    corpus_seed: int = 0
    corpus_documents: int = CORPUS_SIZE
    val_documents: int = 1000
    """Held-out documents that validate a training on the corpus."""
    val_seed: int = 40_000
    # files and hub data sets
    val_source: str = ""
    """File that validates; empty: a tenth of the documents, chosen by a hash of their text."""
    cut: Cut = "blank_line"
    """What a document of a .txt file is."""
    field: str = "text"
    """Key of the text in JSON lines, column in parquet and hub data sets."""
    hub_config: str = ""
    hub_split: str = "train"
    hub_revision: str = ""

    def __post_init__(self) -> None:
        for name, least in (("max_documents", 0), ("corpus_documents", 1), ("val_documents", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name}: wanted at least {least}, got {getattr(self, name)}")
        if not 0 <= self.induction_share < 1:
            raise DataError(f"induction_share: wanted a share from 0 to below 1, got {self.induction_share}")
        if self.induction_share and self.packing != "weighted":
            raise DataError('induction_share needs packing = "weighted"; got packing = "stream"')
        if self.packing == "weighted" and self.source != "corpus":
            raise DataError(
                f'packing = "weighted" knows the parts of documents of the corpus, got source = {self.source!r}; use packing = "stream"'
            )
