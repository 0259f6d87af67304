"""From settings to what a trainer takes: a source of batches, a text to validate on, and the digests of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from asa.train import Source, TokenWindows, TrainSettings
from trialplate.training_data.packed import PackedCorpus
from trialplate.training_data.settings import DataError, DataSettings
from trialplate.training_data.texts import Texts, read_texts
from trialplate.training_data.tokenizer import Tokens, find_tokens


@dataclass(frozen=True, slots=True)
class Prepared:
    """Text in hand, before it is cut into batches."""

    texts: Texts
    tokens: Tokens
    train: Tensor
    val: Tensor

    @property
    def val_bytes(self) -> int:
        """UTF-8 bytes of the held-out texts; the ends of documents, which are predicted too, count none."""
        return sum(len(text.encode("utf-8", errors="surrogatepass")) for text in self.texts.held_out)

    @property
    def checksums(self) -> dict[str, Any]:
        """What was read, and by which tokenizer."""
        return {"documents": self.texts.checksums, "tokenizer": self.tokens.checksum}


def prepare(settings: DataSettings, *, online: bool) -> Prepared:
    """Read and encode both splits. DataError for what cannot be had."""
    tokens = find_tokens(settings, online=online)
    if settings.packing == "weighted" and tokens.end_id != 0:
        raise DataError(
            f'packing = "weighted" closes documents with id 0, which is not the end of {settings.tokenizer}'
        )
    texts = read_texts(settings, online=online)
    return Prepared(texts, tokens, tokens.stream(texts.train), tokens.stream(texts.held_out))


def source(prepared: Prepared, data: DataSettings, train: TrainSettings) -> Source:
    """The batches of a training."""
    sizes = {"seq_len": train.seq_len, "batch_size": train.batch_size, "seed": train.seed}
    if data.packing == "stream":
        return TokenWindows(prepared.train, **sizes)
    assert prepared.tokens.adapter is not None  # bytes end a text with 256
    return PackedCorpus(
        prepared.tokens.adapter,
        prepared.texts.parts,
        **sizes,
        induction_share=data.induction_share,
        n_tokens=len(prepared.train),
    )
