"""Whether a configuration and a state dict belong together: first by field, in the words of the configuration, then key by key.

Names are canonical (see `asa.checkpoint_keys`). Nothing here reads a file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from asa.checkpoint_keys import biases
from asa.config import ASMTrainConfig

_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)$")
_LIMIT = 12
Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def disagreements(cfg: ASMTrainConfig, shapes: Shapes, named: Collection[str]) -> list[str]:
    """Fields in which the configuration and the weights say different things, one line each. `named` are the fields that the file's
    configuration names; the others have their default, which the line says."""
    said = implied(cfg, shapes)
    lines = []
    for name, wanted in said.items():
        got = getattr(cfg, name)
        if got != wanted:
            default = "" if name in named else " (the default; the configuration does not name it)"
            lines.append(f"{name}: the configuration says {got!r}{default}, the weights say {wanted!r}")
    return lines


def implied(cfg: ASMTrainConfig, shapes: Shapes) -> dict[str, Any]:
    """The fields that the weights decide, with their values. What has several right values is the configuration's (`mlp_ratio` as it stands
    where it gives the stored width). Blocks that do not agree with each other say nothing here: the key list names them."""
    said: dict[str, Any] = {}
    embedding = shapes.get("tok.weight") or shapes.get("lm_head.weight")
    if embedding is not None and len(embedding) == 2:
        said["vocab_size"], said["embed_dim"] = embedding
    blocks = {int(match[1]) for name in shapes if (match := _BLOCK.match(name))}
    if blocks:
        said["num_layers"] = max(blocks) + 1
    keys = _of_blocks(shapes, "asa.slot_keys")
    if keys is not None and len(keys) == 3 and keys[0] * keys[2] == said.get("embed_dim"):
        said["num_heads"], said["num_slots"] = keys[0], keys[1]
    said["use_content_read"] = _in_any_block(shapes, "asa._content_read_gamma_raw")
    if _in_any_block(shapes, "asa._alibi_strength_param"):
        said["use_alibi_write"] = said["learn_alibi_strength"] = True
    elif cfg.use_alibi_write:
        said["learn_alibi_strength"] = False
    said["use_slotspace_refine"] = _in_any_block(shapes, "asa.slot_in.weight")
    slotspace = _of_blocks(shapes, "asa.slot_in.weight")
    if slotspace and slotspace[::-1] == _of_blocks(shapes, "asa.slot_out.weight"):
        said["slotspace_dim"] = slotspace[0]
    positions = shapes.get("pos.weight")
    said["use_abs_pos"] = positions is not None
    if positions is not None:
        said["max_seq_len"] = positions[0]
    wide = _of_blocks(shapes, "mlp.0.weight")
    if wide and wide[::-1] == _of_blocks(shapes, "mlp.3.weight") and wide[0] != int(wide[1] * cfg.mlp_ratio):
        said["mlp_ratio"] = wide[0] / wide[1]
    said["mlp_bias"] = bool(biases(shapes))
    return said


def key_differences(wanted: Shapes, got: Shapes) -> str:
    """What is missing, unexpected or of another shape, readable; "" where nothing is. Blocks that differ in the same way share a line."""
    missing = {name: shape for name, shape in wanted.items() if name not in got}
    unexpected = {name: shape for name, shape in got.items() if name not in wanted}
    changed = [(name, got[name], shape) for name, shape in wanted.items() if name in got and got[name] != shape]
    sections = [
        *_section("missing (the model wants them, the checkpoint has not)", _by_block(missing)),
        *_section(
            "unexpected (the checkpoint has them, the model does not know them)", _by_block(unexpected, near=missing)
        ),
        *_section(
            "of another shape",
            [f"{name}: wanted {list(want)}, got {list(have)}{_turned(want, have)}" for name, have, want in changed],
        ),
    ]
    return "\n".join(sections)


def _of_blocks(shapes: Shapes, name: str) -> tuple[int, ...] | None:
    """The shape of a tensor of the blocks; None where none has it, or where they differ."""
    found = {shape for key, shape in shapes.items() if (match := _BLOCK.match(key)) and match[2] == name}
    return found.pop() if len(found) == 1 else None


def _in_any_block(shapes: Shapes, name: str) -> bool:
    return any((match := _BLOCK.match(key)) and match[2] == name for key in shapes)


def _by_block(shapes: Shapes, near: Collection[str] = ()) -> list[str]:
    """One line for each name, blocks folded into ranges: `blocks.0-2.mlp.0.bias [64]`."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    lines = []
    for name, shape in shapes.items():
        if match := _BLOCK.match(name):
            groups.setdefault((match[2], shape), []).append(int(match[1]))
        else:
            lines.append(f"{name} {list(shape)}{_nearest(name, near)}")
    for (name, shape), blocks in groups.items():
        lines.append(f"blocks.{_ranges(blocks)}.{name} {list(shape)}{_nearest(f'blocks.{blocks[0]}.{name}', near)}")
    return lines


def _nearest(name: str, near: Collection[str]) -> str:
    found = difflib.get_close_matches(name, near, n=1, cutoff=0.75)
    return f"  (nearest that is missing: {found[0]})" if found else ""


def _ranges(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _turned(wanted: tuple[int, ...], got: tuple[int, ...]) -> str:
    return " (transposed)" if len(wanted) == 2 and wanted == got[::-1] else ""


def _section(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"{title}, {len(lines)} line{'s' if len(lines) > 1 else ''}:", *(f"  {line}" for line in lines[:_LIMIT])]
    return shown + ([f"  … and {len(lines) - _LIMIT} more"] if len(lines) > _LIMIT else [])
