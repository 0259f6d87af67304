"""Whether a model is a trunk followed by a linear head and nothing else, found out by asking the model.

Scoring wants the head at a few positions only. Some architectures scale or cap the logits after the head (Gemma 2, Cohere) or scale the hidden
state before it; applying the bare head to the trunk's output would give other numbers without any error. So the forward pass is watched: what
enters the head must be the trunk's output, and what leaves it must be the logits, also when the input of the head is made 64 times larger,
where a soft cap can no longer pass for the identity."""

from typing import Any

import torch

_SCALE = 64.0


def head_can_be_split(module: Any, ids: torch.Tensor) -> bool:
    """Whether `head(trunk(ids))` are the logits of this module, at ordinary and at large magnitudes. `ids` [batch, seq_len] on its device."""
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    trunk = getattr(module, "base_model", None)
    if head is None or trunk is None or trunk is module:
        return False
    seen: dict[str, torch.Tensor] = {}

    def watch(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen["input"], seen["output"] = inputs[0], output

    def enlarge(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0] * _SCALE, *inputs[1:])

    with torch.no_grad():
        hidden = getattr(trunk(input_ids=ids, use_cache=False), "last_hidden_state", None)
        watching = head.register_forward_hook(watch)
        try:
            logits = module(input_ids=ids, use_cache=False).logits
            if hidden is None or not seen or not (_same(seen["input"], hidden) and _same(logits, seen["output"])):
                return False
            enlarging = head.register_forward_pre_hook(enlarge)
            try:
                return _same(module(input_ids=ids, use_cache=False).logits, seen["output"])
            finally:
                enlarging.remove()
        finally:
            watching.remove()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal up to rounding of the narrower dtype."""
    if a.shape != b.shape:
        return False
    a, b = a.nan_to_num(), b.nan_to_num()  # a damaged model is judged elsewhere; here only the structure counts
    tolerance = 1e-5 if a.dtype == torch.float32 else 1e-2
    scale = b.float().abs().max().clamp(min=1e-30)
    return bool(((a.float() - b.float()).abs().max() / scale) <= tolerance)
