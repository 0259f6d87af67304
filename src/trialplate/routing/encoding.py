"""From a prompt set to token ids: right padding, and two words that must each be one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from trialplate.routing.errors import ProbeError
from trialplate.routing.prompts import PromptSet
from trialplate.tasks.items import Encode


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """ids and mask [prompt, seq], padded on the right; `first_token` says that only the first tokens of the two words are compared."""

    source: PromptSet
    ids: Int[Tensor, "prompt seq"]
    mask: Bool[Tensor, "prompt seq"]
    target_id: int
    rival_id: int
    first_token: bool

    @property
    def is_control(self) -> Bool[Tensor, " prompt"]:
        """Which prompts are controls."""
        return torch.tensor([prompt.is_control for prompt in self.source.prompts], device=self.ids.device)

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return [prompt.text for prompt in self.source.prompts]


def encode_prompts(
    source: PromptSet,
    encode: Encode,
    *,
    vocab_size: int,
    max_seq_len: int,
    lead: Sequence[int] = (),
    first_token: bool = False,
    device: torch.device | str = "cpu",
) -> EncodedPrompts:
    """Encode a prompt set for a model of `vocab_size` ids and at most `max_seq_len` tokens; `lead` goes before every prompt.

    Raises ProbeError for a word of several tokens (unless `first_token`), words that this vocabulary cannot tell apart, ids that the
    model does not have, and prompts that are empty or too long."""
    rows = [[*lead, *encode(prompt.text)] for prompt in source.prompts]
    for prompt, row in zip(source.prompts, rows, strict=True):
        if not 1 <= len(row) <= max_seq_len:
            raise ProbeError(
                f"prompt {prompt.text!r} is {len(row)} tokens: wanted 1 to {max_seq_len}, the model's max_seq_len; is it the tokenizer of this model?"
            )
    target, rival = (one_token(encode, word, first_token) for word in (source.target, source.rival))
    if target == rival:
        raise ProbeError(
            f"{source.target!r} and {source.rival!r} are both token {target}, so there is no margin between them; choose another target or rival"
        )
    largest = max(target, rival, *(max(row) for row in rows))
    if largest >= vocab_size:
        raise ProbeError(
            f"the tokenizer gives id {largest} and the model has {vocab_size}; name the tokenizer that the model was trained with"
        )
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[column < len(row) for column in range(width)] for row in rows], device=device)
    return EncodedPrompts(source, ids, mask, target, rival, first_token)


def one_token(encode: Encode, word: str, first_token: bool = False) -> int:
    """The id of a word that is one token, or its first id with `first_token`. Raises ProbeError otherwise."""
    found = list(encode(word))
    if not found:
        raise ProbeError(f"{word!r} is no token at all in this tokenizer; choose another word")
    if len(found) > 1 and not first_token:
        raise ProbeError(
            f"{word!r} is {len(found)} tokens ({found}) in this tokenizer and the margin compares single tokens. Compare first tokens "
            "(--first-token), or choose words that are single tokens here (--target, --rival)"
        )
    return int(found[0])
