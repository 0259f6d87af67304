"""A model that runs with some of its hidden units left out, token by token, and the exact share of those that stayed.

What a rule leaves out is set to 0 at the input of the down projection (site mlp_act), and everything after it is computed as always. That shows
what leaving out costs in quality; it saves no time, for the product with the zeros is still formed (`kernels` is what saves time)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from trialplate.activations.errors import CaptureError
from trialplate.activations.rules import Mask, Rule
from trialplate.activations.sites import DownProjection, down_projection
from trialplate.models.causal_lm import CausalLM


@contextmanager
def sparsified(
    model: CausalLM, rule: Rule, layers: Sequence[int] | None = None, *, protect_first: int = 0
) -> Iterator[Sparsified]:
    """Within the block, the model keeps only the hidden units that a rule keeps in these layers (None: all of them).

    What is yielded tells how many stayed. With everything kept, logits are those of the plain model, bit for bit. Hooks are removed at the end,
    however it ends. `protect_first` and what is raised: see `Sparsified`."""
    found = Sparsified(model, rule, layers, protect_first=protect_first)
    with found.running():
        yield found


class Sparsified:
    """A rule bound to the down projections of a model; norms of rows are computed once, so it can run many times.

    protect_first  positions 0 .. protect_first - 1 of every text stay dense: the first position carries activations up to a thousand times the
                   usual size, and what is lost there is lost for all that read it. Positions are those that the trunk is given, else counted
                   over its attention mask. They count as kept.

    Raises ValueError for no layer, a layer named twice or a negative `protect_first`; SiteError for a layer or architecture that is not known;
    CaptureError where positions are needed and cannot be seen."""

    def __init__(
        self, model: CausalLM, rule: Rule, layers: Sequence[int] | None = None, *, protect_first: int = 0
    ) -> None:
        if protect_first < 0:
            raise ValueError(f"protect_first is a number of positions at the beginning of a text, got {protect_first}")
        self.model, self.rule, self.protect_first = model, rule, protect_first
        self.layers = chosen_layers(model, layers)
        # found out by running the model, once: that must be the plain one, and is not to be counted
        _ = model.splits_head
        self._bound = [_bind(model, rule, layer) for layer in self.layers]
        self._kept = {layer: torch.zeros((), dtype=torch.int64, device=model.device) for layer in self.layers}
        self._seen = dict.fromkeys(self.layers, 0)

    @property
    def label(self) -> str:
        """For messages."""
        return f"the rule {self.rule.name} at {self.rule.asked:g}"

    @property
    def kept_by_layer(self) -> dict[int, float]:
        """Units kept / units that were there, by layer, counted as executed. ValueError before anything ran."""
        if not all(self._seen.values()):
            raise ValueError(f"{self.model.label}: nothing ran under the rule {self.rule.name}, so no share was kept")
        return {layer: int(self._kept[layer]) / self._seen[layer] for layer in self.layers}

    @property
    def kept_share(self) -> float:
        """The same over all layers together, which weighs layers by their width."""
        _ = self.kept_by_layer
        return sum(int(kept) for kept in self._kept.values()) / sum(self._seen.values())

    @contextmanager
    def running(self, counted: Bool[Tensor, "b s"] | None = None) -> Iterator[None]:
        """The rule holds within the block. `counted` says which cells count for the kept share (None: all, padding too)."""
        seen_positions: list[Tensor] = []
        cells = None if counted is None else counted.flatten().to(self.model.device)
        with ExitStack() as stack:
            for module in _told_positions(self.model) if self.protect_first else ():
                handle = module.register_forward_pre_hook(
                    lambda _, args, kwargs: seen_positions.__setitem__(slice(None), [positions_of(args, kwargs)]),
                    with_kwargs=True,
                )
                stack.callback(handle.remove)
            for layer, (down, mask) in zip(self.layers, self._bound, strict=True):
                hook = self._hook(layer, mask, cells, seen_positions)
                stack.callback(down.module.register_forward_pre_hook(hook).remove)
            yield

    def _hook(self, layer: int, mask: Mask, cells: Tensor | None, seen_positions: list[Tensor]) -> Any:
        def masked(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden: Tensor = args[0]  # [b, s, d], or [b s, d]
            keep = mask(hidden.flatten(0, -2))
            if self.protect_first:
                keep = keep | (seen_positions[0].flatten() < self.protect_first).unsqueeze(1)
            rows = keep if cells is None else keep[cells]
            self._kept[layer] += rows.sum()
            self._seen[layer] += rows.numel()
            return (hidden.masked_fill(~keep.view_as(hidden), 0), *args[1:])

        return masked


def chosen_layers(model: CausalLM, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers meant, in order of computation; None is all of them."""
    if layers is None:
        return tuple(range(model.n_layers))
    if not len(layers) or len(set(layers)) < len(layers):
        raise ValueError(
            f"{model.label}: wanted at least one layer, each once, got {list(layers)}; None means all {model.n_layers}"
        )
    return tuple(sorted(layers))


def scope_name(model: CausalLM, layers: Sequence[int]) -> str:
    """How tables name a choice of layers: all, L3, L0+L2."""
    return "all" if len(layers) == model.n_layers else "+".join(f"L{layer}" for layer in layers)


def positions_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Int[Tensor, "b s"]:
    """The positions of the tokens that a trunk is called with: given, or counted over its mask, or over columns where nothing came before."""
    ids: Tensor = args[0] if args else kwargs["input_ids"]
    given: Tensor | None = kwargs.get("position_ids")
    attention_mask: Tensor | None = kwargs.get("attention_mask")
    if given is not None:
        return given.expand(ids.shape)
    if attention_mask is not None and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    if kwargs.get("past_key_values") is None:
        return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    raise CaptureError(
        "tokens were added to a cache without positions or a mask, so it cannot be told which are first; decode through start() and step(), or protect none"
    )


def _bind(model: CausalLM, rule: Rule, layer: int) -> tuple[DownProjection, Mask]:
    down = down_projection(model, layer)
    return down, rule.bind(layer, down.rows)


def _told_positions(model: CausalLM) -> list[nn.Module]:
    """The modules that are called with ids and positions: the trunk, and the whole model, which need not go through it (that of OPT does not)."""
    trunk = model.module.base_model
    if not isinstance(trunk, nn.Module):
        raise CaptureError(
            f"{model.label}: the trunk of a {type(model.module).__name__} is no module that can be watched, so positions are not known; use protect_first=0"
        )
    return [trunk] if trunk is model.module else [model.module, trunk]
