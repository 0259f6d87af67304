"""How much faster a model decodes with a sparse down projection, beside the most that could be gained.

A token costs, in the end, reading the weights that it needs. Of these the down projections are a part f, so leaving all of them out gains at most
1 / (1 - f) (Amdahl): in a small model, whose output head is most of what is read, very little. Times are taken in turns, dense, sparse and without
any down projection, so that a busy minute falls on all three; ratios are those of one round, then medians over rounds.

Nothing is asserted about time here: what a ratio is worth depends on the machine, whose threads and clock are written beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trialplate.activations.dynamic_k import chosen_layers
from trialplate.activations.kernels import KernelName, SparseProjections, replaced_forward
from trialplate.activations.rules import Rule
from trialplate.activations.sites import DownProjection, down_projection
from trialplate.models.causal_lm import CausalLM

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles over rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DecodingSpeed:
    """Greedy decoding of one text, as measured.

    kernel, rule, asked, layers, kept_share   what ran; units that stayed / units of these layers, counted over all rounds
    prompt_tokens, new_tokens, repeats        a prompt that is not timed, steps that are, rounds
    threads, clock, device, dtype             of torch, the function that told the time, the model
    dense, sparse, removed                    tokens a second: plain, with the kernel, with the down projections of these layers giving 0 at once
    speedup                                   seconds of dense / seconds of sparse in the same round
    speedup_ceiling                           1 / (1 - f), f = these down projections / all weights read a token (`speedup_ceiling`)
    measured_ceiling                          seconds of dense / seconds of removed in the same round
    efficiency                                (speedup - 1) / (speedup_ceiling - 1) of the medians: 1 = all that the weights allow, below 0 = slower"""

    kernel: str
    rule: str
    asked: float
    layers: tuple[int, ...]
    kept_share: float
    prompt_tokens: int
    new_tokens: int
    repeats: int
    threads: int
    clock: str
    device: str
    dtype: str
    dense: Spread
    sparse: Spread
    removed: Spread
    speedup: Spread
    speedup_ceiling: float
    measured_ceiling: Spread
    efficiency: float


def decoding_speed(
    model: CausalLM,
    prompt: Sequence[int],
    rule: Rule,
    *,
    layers: Sequence[int] | None = None,
    kernel: KernelName = "gather-numba",
    new_tokens: int = 128,
    repeats: int = 20,
    clock: Clock = time.perf_counter,
) -> DecodingSpeed:
    """Time greedy decoding through `start` and `step`: `repeats` rounds after one that only warms up.

    The prompt is read densely and not timed; then come `new_tokens` steps, fewer where the window ends first (the number is in the result). The end
    token stops nothing, so every round does the same work. `clock` is seconds of wall time, or `time.process_time` for CPU time of all threads.

    Raises ValueError for an empty prompt, one that leaves no room, or fewer than 2 rounds; KernelError as `SparseProjections`."""
    room = model.max_length - len(prompt)
    if not len(prompt) or room < 1 or new_tokens < 1 or repeats < 2:
        raise ValueError(
            f"{model.label}: wanted a prompt of 1 to {model.max_length - 1} tokens, at least 1 new token and 2 rounds; got {len(prompt)}, {new_tokens}, {repeats}"
        )
    steps = min(new_tokens, room)
    sparse = SparseProjections(model, rule, layers, kernel=kernel)
    downs = [down_projection(model, layer) for layer in sparse.layers]
    ids = torch.tensor([list(prompt)], device=model.device)
    ways: list[Callable[[], AbstractContextManager[object]]] = [nullcontext, sparse.in_place, lambda: without(downs)]
    taken = np.empty((repeats + 1, len(ways)))
    for number in range(repeats + 1):
        for turn in range(len(ways)):
            way = (turn + number) % len(ways)  # every way comes first, second and third equally often
            taken[number, way] = _seconds(model, ids, steps, ways[way], clock)
    dense, fast, removed = taken[1:].T
    ceiling, speedup = speedup_ceiling(model, sparse.layers), _spread(dense / fast)
    return DecodingSpeed(
        kernel=kernel,
        rule=rule.name,
        asked=rule.asked,
        layers=sparse.layers,
        kept_share=sparse.kept_share,
        prompt_tokens=len(prompt),
        new_tokens=steps,
        repeats=repeats,
        threads=torch.get_num_threads(),
        clock=getattr(clock, "__name__", repr(clock)),
        device=str(model.device),
        dtype=model.spec.dtype,
        dense=_spread(steps / dense),
        sparse=_spread(steps / fast),
        removed=_spread(steps / removed),
        speedup=speedup,
        speedup_ceiling=ceiling,
        measured_ceiling=_spread(dense / removed),
        efficiency=(speedup.median - 1) / (ceiling - 1),
    )


def weights_per_token(model: CausalLM) -> int:
    """Weights that one decoded token reads: all parameters, each once, but of an embedding one row, unless it is the output head too."""
    head = model.module.get_output_embeddings().weight
    tables = {id(m.weight): m.weight for m in model.module.modules() if isinstance(m, nn.Embedding)}
    tables.pop(id(head), None)
    whole = sum(parameter.numel() for parameter in model.module.parameters())
    return whole - sum(table.numel() - table.shape[1] for table in tables.values())


def speedup_ceiling(model: CausalLM, layers: Sequence[int] | None = None, *, kept: float = 0.0) -> float:
    """The most that a sparse down projection in these layers (None: all) can gain when decoding one text: 1 / (1 - f (1 - kept)). At least 1.

    f = weights of these down projections / `weights_per_token`; kept = the share of units that stay, in [0, 1]; 0 is the limit of leaving all out.
    Weights alone are counted: keys and values, which grow with the text, only lower it. ValueError for a share outside [0, 1]."""
    if not 0 <= kept <= 1:
        raise ValueError(f"the share that stays lies in [0, 1], got {kept}")
    down = sum(down_projection(model, layer).rows.numel() for layer in chosen_layers(model, layers))
    return 1 / (1 - down / weights_per_token(model) * (1 - kept))


@contextmanager
def without(downs: Sequence[DownProjection]) -> Iterator[None]:
    """A block in which these modules give 0 at once: what decoding costs when a down projection costs nothing."""
    with ExitStack() as stack:
        for down in downs:
            stack.enter_context(replaced_forward(down.module, _zeros(down.rows.shape[1])))
        yield


def _zeros(d_out: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x.new_zeros(*x.shape[:-1], d_out)


@torch.inference_mode()
def _seconds(
    model: CausalLM, ids: Tensor, steps: int, way: Callable[[], AbstractContextManager[object]], clock: Clock
) -> float:
    logits, state = model.start(ids)
    with way():
        _wait(model)
        begin = clock()
        for _ in range(steps):
            logits, state = model.step(state, logits.argmax(-1, keepdim=True))
        _wait(model)
        return clock() - begin


def _wait(model: CausalLM) -> None:
    """Until an accelerator has done what it was told."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    elif model.device.type == "mps":
        torch.mps.synchronize()


def _spread(values: np.ndarray) -> Spread:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Spread(float(median), float(low), float(high))
