"""Faults of the tokenizer: of its files, and of the code that calls it."""

from __future__ import annotations

from typing import Any

from tests.kill_matrix.sabotage import Sabotage, on_code, on_json

from trialplate.models.tokenizers import TokenizerAdapter


def shifted_vocabulary(content: dict[str, Any]) -> None:
    special = {token["content"] for token in content["added_tokens"]}
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {token: i if token in special else i + 1 for token, i in vocab.items()}


def merges_reordered(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    merges.append(merges.pop(0))


def lower_case(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Lowercase"}


def extra_token(content: dict[str, Any]) -> None:
    like = content["added_tokens"][0]
    content["added_tokens"].append({**like, "id": len(content["model"]["vocab"]), "content": "<|extra|>"})


def pad_is_a_word(config: dict[str, Any]) -> None:
    config["pad_token"] = "the"


def space_stripped() -> tuple[Any, str, Any]:
    honest = TokenizerAdapter.encode
    return TokenizerAdapter, "encode", lambda self, text: honest(self, text.removeprefix(" "))


def space_stripped_in_batches() -> tuple[Any, str, Any]:
    honest = TokenizerAdapter.encode_batch
    return TokenizerAdapter, "encode_batch", lambda self, texts: honest(self, [t.removeprefix(" ") for t in texts])


def end_added() -> tuple[Any, str, Any]:
    honest = TokenizerAdapter.encode
    return TokenizerAdapter, "encode", lambda self, text: [*honest(self, text), self.eos_id]


def tidied() -> tuple[Any, str, Any]:
    honest = TokenizerAdapter.decode
    return TokenizerAdapter, "decode", lambda self, ids: honest(self, ids).replace(" .", ".").replace(" ,", ",").strip()


SABOTAGES: tuple[Sabotage, ...] = (
    on_json("shifted-vocabulary", "Every token but the special one has the id of its neighbour.", "tokenizer.json", shifted_vocabulary),
    on_json("merges-reordered", "The first merge of the tokenizer comes last.", "tokenizer.json", merges_reordered),
    on_json("lower-case", "The tokenizer makes every letter small.", "tokenizer.json", lower_case),
    on_json("extra-token", "The tokenizer has a token for which the embedding has no row.", "tokenizer.json", extra_token),
    on_json("pad-is-a-word", "The padding token is an ordinary word.", "tokenizer_config.json", pad_is_a_word),
    on_code("space-stripped", "Encoding drops a leading space.", space_stripped, space_stripped_in_batches),
    on_code("end-added", "Encoding one text appends the end-of-text token; encoding a batch does not.", end_added),
    on_code("decoding-tidies", "Decoding closes the space before punctuation and strips the text.", tidied),
)  # fmt: skip
