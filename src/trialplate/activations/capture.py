"""One pass: rows go through the model once, every wanted site is read on the way, and the pass ends where the last of them has been read.

No logits are computed. Hooks are gone when the pass ends, however it ends. What a site gave goes to its collectors at once, on the device;
nothing is kept beside what they sum up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from trialplate.activations.batches import ACCELERATOR_POSITIONS, CPU_POSITIONS, Batch, Plan, Tokens, make_plan
from trialplate.activations.errors import CaptureError
from trialplate.activations.sites import Point, module_at
from trialplate.models.causal_lm import CausalLM


class Collector(Protocol):
    """What sums up the rows of one task at one site."""

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d] on the model's device; `tokens` says what they are."""


class _Enough(Exception):
    """The last wanted site has been read."""


Sink = Callable[[str, torch.Tensor], None]


@contextmanager
def reading(
    model: CausalLM, points: Sequence[Point], sink: Sink, *, stop: bool = True
) -> Iterator[Callable[[torch.Tensor], Any]]:
    """Within the block, `run(ids [b, s])` hands `sink(name, values [b, s, d])` of every point, and stops after the last unless `stop` is False.

    With `stop=False` it returns the model's output. CaptureError for a point that the forward pass does not come by, or comes by twice."""
    if not points:
        raise CaptureError("nothing to read: no site was given")
    if len({p.name for p in points}) < len(points):
        raise CaptureError(f"a site is read once, got {[p.name for p in points]}")
    waiting: set[str] = set()
    shape: list[int] = []

    def take(point: Point, values: torch.Tensor) -> None:
        if point.name not in waiting:
            raise CaptureError(
                f"{model.label}: {point.name} was reached twice in one pass; a site that is shared between layers has no name of its own"
            )
        waiting.discard(point.name)
        sink(point.name, _by_position(point, values, shape))
        if stop and not waiting:
            raise _Enough

    def run(ids: torch.Tensor) -> Any:
        waiting.update(p.name for p in points)
        shape[:] = ids.shape
        try:
            output = model.module(input_ids=ids, use_cache=False)
        except _Enough:
            return None
        if waiting:
            raise CaptureError(
                f"{model.label}: the forward pass did not come by {', '.join(sorted(waiting))}: the module is there and is never called"
            )
        return output

    with ExitStack() as hooks, torch.inference_mode():
        for point in points:
            hooks.callback(_hooked(model, point, take).remove)
        yield run


def collect(
    model: CausalLM,
    plan: Plan,
    points: Sequence[Point],
    collectors: Mapping[tuple[str, str], Sequence[Collector]],
    *,
    begin: int = 0,
    after: Callable[[int], None] = lambda done: None,
) -> None:
    """Run the batches of a plan from number `begin` on; `collectors[task, site]` get their rows. `after(done)` is told after every batch.

    CaptureError names the sites whose activations were not all finite: sums would carry that on for ever."""
    batch: Batch
    tokens: Tokens
    cells: torch.Tensor
    sound = {p.name: torch.ones((), dtype=torch.bool, device=model.device) for p in points}

    def sink(name: str, values: torch.Tensor) -> None:
        rows = values.flatten(0, 1).index_select(0, cells)
        sound[name] &= torch.isfinite(rows.sum(dtype=torch.float32))
        if model.device.type == "cpu":  # elsewhere looking would wait for the device; it is looked at in the end
            _require_finite(model, {name: sound[name]})
        for collector in collectors.get((batch.task, name), ()):
            collector.update(rows, tokens)

    with reading(model, points, sink) as run:
        for number in range(begin, len(plan.batches)):
            batch = plan.batches[number]
            tokens = batch.tokens()
            cells = tokens.cell.to(model.device)
            run(batch.ids().to(model.device))
            after(number + 1)
    _require_finite(model, sound)


def plan_for(
    model: CausalLM,
    documents: Mapping[str, Sequence[Sequence[int]]],
    *,
    max_length: int | None = None,
    positions: int | None = None,
    skip: Iterable[int] = (),
) -> Plan:
    """The plan for a model: at most its own window a document, batches that suit its device; see `batches.make_plan`."""
    default = CPU_POSITIONS if model.device.type == "cpu" else ACCELERATOR_POSITIONS
    window = model.max_length if max_length is None else min(max_length, model.max_length)
    return make_plan(documents, max_length=window, positions=positions or default, skip=skip)


def captured(model: CausalLM, ids: torch.Tensor, points: Sequence[Point]) -> dict[str, torch.Tensor]:
    """The values [b, s, d] of points for ids [b, s], as they are: for looking, checks and small studies."""
    found: dict[str, torch.Tensor] = {}
    with reading(model, points, found.__setitem__) as run:
        run(ids.to(model.device))
    return found


def _require_finite(model: CausalLM, sound: Mapping[str, torch.Tensor]) -> None:
    if bad := [name for name, finite in sound.items() if not bool(finite)]:
        raise CaptureError(
            f"{model.label}: activations at {', '.join(bad)} are not all finite, so nothing that was summed up there means anything"
        )


def _hooked(model: CausalLM, point: Point, take: Callable[[Point, torch.Tensor], None]) -> Any:
    module: Any = module_at(model, point)
    if point.record:
        return module.register_forward_pre_hook(
            lambda layer, args, kwargs: take(point, _recorded(layer, point.record, _first(args, kwargs))),
            with_kwargs=True,
        )
    if point.side == "input":
        return module.register_forward_pre_hook(
            lambda layer, args, kwargs: take(point, _first(args, kwargs)), with_kwargs=True
        )
    return module.register_forward_hook(
        lambda layer, args, output: take(point, output[0] if isinstance(output, tuple) else output)
    )


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What a module reads: its first positional argument, or the one named hidden_states."""
    found = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(found, torch.Tensor):
        raise CaptureError(
            f"a module that reads {', '.join(kwargs) or 'nothing'} has no single input; name its output, or another module"
        )
    return found


def _recorded(layer: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """What an addressed-state layer reads from its slots, or holds in them, [b, T, H K] or [b, T, H K d]; the attention is computed once more for it."""
    reads, states = layer.observe(x)  # type: ignore[operator]
    chosen = reads if name == "slot_reads" else states
    merged: torch.Tensor = chosen.transpose(1, 2).flatten(2)
    return merged


def _by_position(point: Point, values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """[b, s, d]: some modules see all positions of a batch in one axis."""
    b, s = shape
    if not isinstance(values, torch.Tensor):
        raise CaptureError(f"{point.name}: wanted a tensor, got a {type(values).__name__}; name a module within it")
    if values.ndim == 3 and values.shape[:2] == (b, s):
        return values
    if values.ndim == 2 and values.shape[0] == b * s:
        return values.unflatten(0, (b, s))
    raise CaptureError(
        f"{point.name}: wanted [{b}, {s}, d], one row a token, got {list(values.shape)}; this module does not work token by token"
    )
