"""Down projections that read only the weights of units that stay: y = b + sum_{i kept} h_i W_i, one token at a time.

What a decoding step costs is reading weights, so a row that is not read is time saved; that holds for one token, whose units are its own. Several
tokens share a matrix product that reads every row once for all of them, and gain nothing: they are refused here.

The kernels, by the name that a table records; none of them stands in for another:

    mask          zeros at the input, then the module's own product: the reference, saves nothing
    index         torch: rows gathered into a copy, then a product; any device and dtype
    gather-numba  compiled loops over the rows themselves, float32 on a CPU, one thread; wants the extra numba

Rows are read one after the other, so they must be stored unit after unit. GPT-2 stores them so. Other models store the transpose: one transposed copy is
made when a kernel is bound and lives as long as it does, never one a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trialplate.activations.dynamic_k import chosen_layers
from trialplate.activations.rules import Rule, Threshold, TopK, kept_units, row_norms
from trialplate.activations.sites import DownProjection, down_projection
from trialplate.models.causal_lm import CausalLM

KernelName = Literal["mask", "index", "gather-numba"]
KERNELS: tuple[KernelName, ...] = get_args(KernelName)

Projection = Callable[[Tensor], tuple[Tensor, int]]
"""h [d] -> (y [d_out], units kept)."""


class KernelError(RuntimeError):
    """A kernel that cannot run here, or was given what it cannot compute."""


class SparseProjections:
    """The down projections of some layers (None: all), computed by one kernel under one rule while `in_place` holds. `kernel` is what runs.

    Raises KernelError for a name that is no kernel, for numba where it is not installed or the model is not float32 on a CPU, and for a layer
    under an adapter that is not merged; ValueError and SiteError for layers as `Sparsified`."""

    def __init__(
        self, model: CausalLM, rule: Rule, layers: Sequence[int] | None = None, *, kernel: KernelName = "gather-numba"
    ) -> None:
        self.model, self.rule, self.kernel = model, rule, kernel
        self.layers = chosen_layers(model, layers)
        # found out by running the model, once, on several tokens
        _ = model.splits_head
        self._downs = [down_projection(model, layer) for layer in self.layers]
        self._projections = [
            bound_projection(model, rule, layer, down, kernel)
            for layer, down in zip(self.layers, self._downs, strict=True)
        ]
        self._kept = dict.fromkeys(self.layers, 0)
        self._seen = dict.fromkeys(self.layers, 0)

    @property
    def kept_by_layer(self) -> dict[int, float]:
        """Units kept / units that were there, by layer, as executed. ValueError before anything ran."""
        if not all(self._seen.values()):
            raise ValueError(f"{self.model.label}: nothing ran through the kernel {self.kernel}, so no share was kept")
        return {layer: self._kept[layer] / self._seen[layer] for layer in self.layers}

    @property
    def kept_share(self) -> float:
        """The same over all layers together."""
        _ = self.kept_by_layer
        return sum(self._kept.values()) / sum(self._seen.values())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The modules compute through the kernel within the block, and by themselves again after it, however it ends.

        KernelError for a call with more than one token: prompts are read before the block, batches without it."""
        with ExitStack() as stack:
            for layer, down, projection in zip(self.layers, self._downs, self._projections, strict=True):
                stack.enter_context(replaced_forward(down.module, self._forward(layer, down, projection)))
            yield

    def _forward(self, layer: int, down: DownProjection, projection: Projection) -> Callable[[Tensor], Tensor]:
        d = len(down.rows)

        def forward(x: Tensor) -> Tensor:
            if x.numel() != d:
                raise KernelError(
                    f"{self.model.label}: L{layer} was called with {x.numel() // d} tokens at once; a kernel computes one. Read the prompt before, decode texts one by one, or use the rule without a kernel"
                )
            y, kept = projection(x.reshape(d))
            self._kept[layer] += kept
            self._seen[layer] += d
            return y.view(*x.shape[:-1], -1)

        return forward


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The module computes with another function within the block; its hooks go on as before."""
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = before


def bound_projection(model: CausalLM, rule: Rule, layer: int, down: DownProjection, kernel: KernelName) -> Projection:
    """One layer's projection by a kernel. Raises KernelError as `SparseProjections`."""
    if kernel not in KERNELS:
        raise KernelError(f"no kernel {kernel!r}; there are {', '.join(KERNELS)}")
    if kernel == "mask":
        return _mask_kernel(rule, layer, down)
    if hasattr(down.module, "base_layer"):
        raise KernelError(
            f"{model.label}: L{layer} stands under an adapter, whose part the kernel {kernel} would leave out; merge it first, or use the kernel mask"
        )
    return _index_kernel(rule, layer, down) if kernel == "index" else _numba_kernel(model, rule, layer, down)


def _mask_kernel(rule: Rule, layer: int, down: DownProjection) -> Projection:
    keep, whole = rule.bind(layer, down.rows), down.module.forward

    def project(hidden: Tensor) -> tuple[Tensor, int]:
        kept = keep(hidden.unsqueeze(0))
        y: Tensor = whole(hidden.unsqueeze(0).masked_fill(~kept, 0))
        return y.squeeze(0), int(kept.sum())

    return project


def _index_kernel(rule: Rule, layer: int, down: DownProjection) -> Projection:
    keep, rows = rule.bind(layer, down.rows), down.rows.detach().contiguous()
    bias = rows.new_zeros(rows.shape[1]) if down.bias is None else down.bias.detach()

    def project(hidden: Tensor) -> tuple[Tensor, int]:
        chosen = keep(hidden.unsqueeze(0)).squeeze(0).nonzero().squeeze(1)
        return torch.addmv(bias, rows.index_select(0, chosen).T, hidden[chosen]), len(chosen)

    return project


def _numba_kernel(model: CausalLM, rule: Rule, layer: int, down: DownProjection) -> Projection:
    if down.rows.device.type != "cpu" or down.rows.dtype != torch.float32:
        raise KernelError(
            f"{model.label}: the kernel gather-numba computes float32 on a CPU, L{layer} is {str(down.rows.dtype).removeprefix('torch.')} on {down.rows.device}; load the model so, or use the kernel index"
        )
    compiled = _compiled()
    rows = down.rows.detach().contiguous().numpy()
    bias = np.zeros(rows.shape[1], np.float32) if down.bias is None else down.bias.detach().numpy()
    listed = _lister(rule, layer, down, compiled)

    def project(hidden: Tensor) -> tuple[Tensor, int]:
        out = torch.empty(rows.shape[1], dtype=torch.float32, device="cpu")
        units, n = listed(hidden)
        compiled.project(hidden.numpy(), units, n, rows, bias, out.numpy())
        return out, n

    return project


def _lister(
    rule: Rule, layer: int, down: DownProjection, compiled: ModuleType
) -> Callable[[Tensor], tuple[NDArray[np.int64], int]]:
    """h [d] -> (units, n): the first n of them stay. What ranks by contribution is decided in compiled code too; every other rule gives its mask."""
    d, norms = len(down.rows), row_norms(down.rows).numpy()
    units = np.empty(d + 1, np.int64)

    if isinstance(rule, Threshold):
        limit = np.float32(rule.limit(layer))
        return lambda hidden: (units, compiled.above(hidden.numpy(), norms, limit, units))

    if isinstance(rule, TopK):
        n, scores, counts = kept_units(rule.k, d), np.empty(d, np.float32), np.empty(compiled.N_COUNTS, np.int64)
        return lambda hidden: (units, compiled.largest(hidden.numpy(), norms, n, scores, counts, units))

    keep = rule.bind(layer, down.rows)

    def from_mask(hidden: Tensor) -> tuple[NDArray[np.int64], int]:
        found = keep(hidden.unsqueeze(0)).squeeze(0).nonzero().squeeze(1).numpy()
        return found, len(found)

    return from_mask


def _compiled() -> ModuleType:
    """The compiled loops. KernelError where numba is not installed."""
    try:
        from trialplate.activations import gather_numba
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        raise KernelError(
            "the kernel gather-numba needs numba, which is not installed: pip install 'trialplate[numba]', or use the kernel index"
        ) from error
    return gather_numba
