"""Runs of a model in which one thing is changed: read logits, read weights, or the stream after a block. Nothing stays changed.

A run begins at the first block that is touched, from what entered it undisturbed, with n variants of every prompt in one batch (N = n *
batch rows, variant by variant; the rows of a batch do not see each other). What is changed at the last token only is run on that token
alone: the model is causal, and its decoding state before that token is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from asa.interventions import setting
from trialplate.routing.precision import at_least_float32
from trialplate.routing.undisturbed import Undisturbed

Override = Tensor | Callable[..., Tensor]
ROWS_AT_ONCE = 2048
"""Rows of one batch: bounds the memory of a run, changes no number."""


def run_shifted(
    model: ASMLanguageModel, seen: Undisturbed, layer: int, steps: Float[Tensor, "n batch slot"]
) -> Float[Tensor, "n batch vocab"]:
    """Logits of runs in which steps are added to the read logits of every head of a layer at the last token."""
    return _sliced(
        steps,
        lambda part: _last_token(model, seen, layer, len(part), {layer: _adding(part.flatten(0, 1).unsqueeze(1))}),
    )


def run_forced(
    model: ASMLanguageModel, seen: Undisturbed, layers: list[int], weights: Float[Tensor, "n batch slot"]
) -> Float[Tensor, "n batch vocab"]:
    """Logits of runs in which every head of the given layers reads with the given weights at the last token."""

    def run(part: Tensor) -> Tensor:
        heads = model.layers[layers[0]].num_heads
        forced = part.flatten(0, 1)[:, None, None, :].expand(-1, heads, -1, -1)
        return _last_token(model, seen, min(layers), len(part), dict.fromkeys(layers, forced))

    return _sliced(weights, run)


def run_injected(
    model: ASMLanguageModel,
    seen: Undisturbed,
    layer: int,
    steps: Float[Tensor, "n batch d_model"],
    frozen: list[int] | None = None,
) -> Float[Tensor, "n batch vocab"]:
    """Logits of runs in which steps are added to the output of a block at the last token, while the `frozen` layers (from `layer` on)
    read with the weights of the undisturbed pass."""
    held = {index: seen.read_weights[index][seen.rows, :, seen.last].unsqueeze(2) for index in frozen or []}

    def run(part: Tensor) -> Tensor:
        overrides = {index: _repeated(weights, len(part)) for index, weights in held.items()}
        return _last_token(model, seen, layer, len(part), overrides, part)

    return _sliced(steps, run)


@torch.no_grad()
def run_shifted_everywhere(
    model: ASMLanguageModel, seen: Undisturbed, layer: int, shifts: Float[Tensor, "n batch seq slot"]
) -> Float[Tensor, "n batch vocab"]:
    """Logits of runs in which shifts are added to the read logits of every head of a layer at every position they are given for."""

    def run(part: Tensor) -> Tensor:
        n = len(part)
        x, mask = _repeated(seen.stream[layer], n), _repeated(seen.mask, n)
        with _overridden(model, {layer: _adding(part.flatten(0, 1))}):
            for block in model.blocks[layer:]:
                x, _ = block(x, mask)
        return _logits(model, x[torch.arange(len(x), device=x.device), seen.last.repeat(n)], n)

    return _sliced(shifts, run)


@torch.no_grad()
def _last_token(
    model: ASMLanguageModel,
    seen: Undisturbed,
    start: int,
    n: int,
    overrides: Mapping[int, Override],
    added: Float[Tensor, "n batch d_model"] | None = None,
) -> Float[Tensor, "n batch vocab"]:
    """Run the last tokens from block `start` on; `added` goes to the output of that block. Overrides are for one position."""
    rows = seen.rows.repeat(n)
    x = seen.at_last(seen.stream[start])[rows].unsqueeze(1)
    with _overridden(model, overrides):
        for index in range(start, seen.n_layers):
            x, _ = model.blocks[index].extend(x, seen.before.layers[index].select(rows), seen.last[rows])  # type: ignore[operator]
            if index == start and added is not None:
                x = x + added.flatten(0, 1).unsqueeze(1).to(x)
    return _logits(model, x.squeeze(1), n)


def _logits(model: ASMLanguageModel, stream: Tensor, n: int) -> Tensor:
    logits = model.lm_head(model.norm(stream))
    return at_least_float32(logits).unflatten(0, (n, -1))


def _adding(shift: Float[Tensor, "N seq slot"]) -> Override:
    """Read weights of logits to which a shift is added, the same in every head."""

    def override(
        t0: int, t1: int, logits: Tensor, key: Tensor, content: Tensor | None, ctx: Mapping[str, Any]
    ) -> Tensor:
        return torch.softmax((logits + shift[:, None, t0:t1].to(logits)) / ctx["rtemp"], dim=-1)

    return override


@contextmanager
def _overridden(model: ASMLanguageModel, overrides: Mapping[int, Override]) -> Iterator[None]:
    with ExitStack() as stack:
        for layer, override in overrides.items():
            stack.enter_context(setting(model.layers[layer], routing_override=override))
        yield


def _sliced(steps: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([run(part) for part in steps.split(max(1, ROWS_AT_ONCE // steps.shape[1]))])


def _repeated(tensor: Tensor, n: int) -> Tensor:
    return tensor.repeat(n, *[1] * (tensor.ndim - 1))
