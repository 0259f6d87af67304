"""The vocabulary of characters of the `character` definition, and the small model with random weights that it was first run on.

Ids: 0 unknown, 1 padding, then the characters of the prompts and of both city names in the order of their code points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.config import ASMTrainConfig
from asa.utils.seed import generators_kept, seed_generators
from trialplate.routing.prompts import CHARACTER

UNKNOWN, PADDING = 0, 1
ALPHABET = tuple(sorted(set("".join(prompt.text for prompt in CHARACTER.prompts) + "Paris" + "London")))
N_CHARACTERS = len(ALPHABET) + 2
RANDOM_MODEL = {
    "vocab_size": N_CHARACTERS,
    "embed_dim": 64,
    "num_layers": 2,
    "num_heads": 4,
    "num_slots": 8,
    "max_seq_len": 64,
    "dropout": 0.0,
}
"""Fields of ASMTrainConfig; every other field has its default."""


def character_encode() -> Callable[[str], list[int]]:
    """Text -> ids, one a character."""
    number = {character: index for index, character in enumerate(ALPHABET, start=PADDING + 1)}
    return lambda text: [number.get(character, UNKNOWN) for character in text]


def character_decode() -> Callable[[Sequence[int]], str]:
    """Ids -> text; `<unk>` and `<pad>` for the two that are no characters, and for ids that a larger model has beside them."""
    names = {UNKNOWN: "<unk>", PADDING: "<pad>", **dict(enumerate(ALPHABET, start=PADDING + 1))}
    return lambda ids: "".join(names.get(index, "<unk>") for index in ids)


def random_character_model(seed: int) -> ASMLanguageModel:
    """The small model with random weights, in eval mode. Global generators are left as they were."""
    with generators_kept():
        seed_generators(seed)
        return build_model_from_cfg(ASMTrainConfig.from_dict(RANDOM_MODEL)).eval()
