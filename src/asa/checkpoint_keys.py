"""Names of checkpoint tensors: two public namings, wrappers that put prefixes before them, and buffers that old files carry.

`asm` is the naming of published checkpoints and of this code; `alt` is the second public naming, whose feed-forward layers have biases.
A state dict in `asm` names without prefixes and carried buffers is called canonical here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

Naming = Literal["asm", "alt"]
NAMINGS: tuple[Naming, ...] = get_args(Naming)

_TO_ALT = {"tok": "token_emb", "pos": "pos_emb", "norm": "ln_f", "norm1": "ln_1", "norm2": "ln_2", "asa": "attn"}
_TO_ASM = {alt: asm for asm, alt in _TO_ALT.items()}
_MODULES: dict[Naming, set[str]] = {"asm": set(_TO_ALT), "alt": set(_TO_ASM)}
_PLACE = re.compile(r"^(blocks\.\d+\.)?([A-Za-z_0-9]+)\.")
_WRAPPERS = {"module", "_orig_mod"}  # of data parallelism and of torch.compile, around the model or around its parts
# Computed from the configuration; never stored by this code.
_BUFFERS = re.compile(r"(^|\.)(_alibi_slopes|rope\.inv_freq|rope_slotspace\.inv_freq)$")
_BIAS = re.compile(r"^blocks\.\d+\.mlp\.[03]\.bias$")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, unsafe to read, or does not fit; the text says what was wanted and what was found."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """A state dict in canonical names, and what had to be done for it: the naming found, prefixes stripped, buffers left out (names as stored)."""

    state: dict[str, torch.Tensor]
    naming: Naming
    prefixes: tuple[str, ...]
    buffers: tuple[str, ...]


def detect_naming(keys: Iterable[str]) -> Naming:
    """The naming of the keys of a state dict, wrapper prefixes or not. Raises CheckpointError for none or a mixture."""
    seen: dict[Naming, str] = {}
    for key in keys:
        place = _PLACE.match(unwrapped(key))
        for naming, modules in _MODULES.items():
            if place is not None and place[2] in modules:
                seen.setdefault(naming, key)
    if not seen:
        raise CheckpointError(
            "no key of an ASM among the tensors: wanted tok.weight and blocks.0.asa.… (or token_emb.weight and blocks.0.attn.…)"
        )
    if len(seen) == 2:
        raise CheckpointError(
            f"two namings in one state dict: {seen['asm']!r} and {seen['alt']!r}. Convert it to one of them"
        )
    return next(iter(seen))


def canonical(state: Mapping[str, torch.Tensor]) -> Canonical:
    """A state dict of either naming under canonical names. Raises CheckpointError for mixed namings and for two keys of one name."""
    naming = detect_naming(state)
    found: dict[str, torch.Tensor] = {}
    origin: dict[str, str] = {}
    prefixes: list[str] = []
    buffers: list[str] = []
    for key, tensor in state.items():
        plain = unwrapped(key)
        if plain != key:
            prefixes += [part for part in _stripped(key) if part not in prefixes]
        if _BUFFERS.search(plain):
            buffers.append(key)
            continue
        name = plain if naming == "asm" else _renamed(plain, _TO_ASM)
        if name in found:
            raise CheckpointError(f"{origin[name]!r} and {key!r} are both {name!r}: which one counts cannot be told")
        found[name], origin[name] = tensor, key
    return Canonical(found, naming, tuple(prefixes), tuple(buffers))


def to_naming(state: Mapping[str, torch.Tensor], naming: Naming) -> dict[str, torch.Tensor]:
    """A state dict of either naming in the other (or the same) one, tensors shared; prefixes and carried buffers are left out.

    To `alt`: absent feed-forward biases are added as zeros, since code of that naming has them. From `alt` to `asm`: biases that are all
    zero are left out, since they say nothing; others stay. Raises CheckpointError for keys of no ASM, ValueError for an unknown naming."""
    if naming not in NAMINGS:
        raise ValueError(f"naming: wanted one of {', '.join(NAMINGS)}, got {naming!r}")
    found = canonical(state)
    if naming == "alt":
        return {_renamed(name, _TO_ALT): tensor for name, tensor in with_zero_biases(found.state).items()}
    if found.naming == "alt" and biases_are_zero(found.state):
        return without_biases(found.state)
    return found.state


def unwrapped(key: str) -> str:
    """A key without the prefixes of wrappers, wherever they stand, and without a leading `model.`."""
    parts = [part for part in key.split(".") if part not in _WRAPPERS]
    return ".".join(parts[1:] if parts[0] == "model" and len(parts) > 1 else parts)


def biases(names: Iterable[str]) -> list[str]:
    """The feed-forward biases among canonical names."""
    return [name for name in names if _BIAS.match(name)]


def biases_are_zero(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether there are feed-forward biases and every number in them is 0."""
    found = biases(state)
    return bool(found) and all(not bool(state[name].any()) for name in found)


def without_biases(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict without its feed-forward biases."""
    dropped = set(biases(state))
    return {name: tensor for name, tensor in state.items() if name not in dropped}


def with_zero_biases(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict with a zero bias after each feed-forward weight that has none."""
    filled: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        filled[name] = tensor
        bias = name.removesuffix("weight") + "bias"
        if _BIAS.match(bias) and bias not in state:
            filled[bias] = tensor.new_zeros(tensor.shape[0])
    return filled


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    place = _PLACE.match(name)
    if place is None or place[2] not in modules:
        return name
    return f"{place[1] or ''}{modules[place[2]]}{name[place.end(2) :]}"


def _stripped(key: str) -> list[str]:
    parts = key.split(".")
    found = [f"{part}." for part in parts if part in _WRAPPERS]
    kept = [part for part in parts if part not in _WRAPPERS]
    return found + (["model."] if kept[0] == "model" and len(kept) > 1 else [])
