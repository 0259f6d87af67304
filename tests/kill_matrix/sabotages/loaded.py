"""Faults of the model in memory, and of the adapter that runs it: the files are right, what is computed with them is not."""

from __future__ import annotations

from typing import Any

import torch
from tests.kill_matrix.sabotage import Sabotage, on_code, on_module
from torch import nn

from trialplate.models import causal_lm, load
from trialplate.models.causal_lm import CausalLM


def layer_dropped(module: Any) -> None:
    module.gpt_neox.layers[2].forward = lambda hidden_states, *args, **kwargs: hidden_states


def rounded(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.bfloat16().float()


def tied(module: Any) -> None:
    module.get_output_embeddings().weight = module.get_input_embeddings().weight


def not_causal(module: Any) -> None:
    for layer in module.gpt_neox.layers:
        layer.attention.is_causal = False


def dropout_on(module: Any) -> None:
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.3
    module.train()
    module.eval = lambda: module


def rows_mixed(module: Any) -> None:
    norm = module.gpt_neox.final_layer_norm
    honest = norm.forward
    norm.forward = lambda hidden: honest(hidden + 0.1 * hidden.mean(0, keepdim=True))


def no_positions(module: Any) -> None:
    rotary = module.gpt_neox.rotary_emb
    honest = rotary.forward
    rotary.forward = lambda x, position_ids: honest(x, torch.zeros_like(position_ids))


def load_in_bfloat16() -> tuple[Any, str, Any]:
    honest = load.load_weights
    return load, "load_weights", lambda source, spec, dtype: honest(source, spec, torch.bfloat16)


def no_dtype_check() -> tuple[Any, str, Any]:
    return load, "require_dtype", lambda module, dtype, spec: None


def saving_rounds() -> tuple[Any, str, Any]:
    from transformers import GPTNeoXForCausalLM

    honest = GPTNeoXForCausalLM.save_pretrained

    def save_pretrained(self: Any, folder: str) -> None:
        honest(self, folder, state_dict={n: t.bfloat16().float() for n, t in self.state_dict().items()})

    return GPTNeoXForCausalLM, "save_pretrained", save_pretrained


def mask_dropped() -> tuple[Any, str, Any]:
    honest = CausalLM._inputs
    return CausalLM, "_inputs", lambda self, ids, mask, positions: honest(self, ids, None, positions)


def positions_over_padding() -> tuple[Any, str, Any]:
    def counted(mask: torch.Tensor) -> torch.Tensor:
        return (2 * mask.long().cumsum(1) - 1).clamp(min=0)

    return causal_lm, "_positions", counted


def late_positions() -> tuple[Any, str, Any]:
    honest = CausalLM._next_positions
    return CausalLM, "_next_positions", lambda self, state, ids: honest(self, state, ids) + 1


def wrong_prefix() -> tuple[Any, str, Any]:
    return CausalLM, "prefix_id", property(lambda self: self.tokenizer.vocab["."])


SABOTAGES: tuple[Sabotage, ...] = (
    on_module("layer-dropped", "One of the layers hands its input on.", layer_dropped),
    on_module("rounded-weights", "The weights went through bfloat16 on their way into memory.", rounded),
    on_code("wrong-dtype", "The model is loaded in bfloat16 whatever was asked for, and the loader does not check.", load_in_bfloat16, no_dtype_check),
    on_module("tied-head", "Head and embedding are one tensor in memory, although the configuration says they are not.", tied),
    on_module("not-causal", "Attention sees the future.", not_causal),
    on_module("dropout-on", "Dropout stays on: the model was never put into evaluation mode.", dropout_on),
    on_module("rows-mixed", "A share of the batch mean leaks into every row.", rows_mixed),
    on_module("no-positions", "Every token is told that it stands at position 0.", no_positions),
    on_code("saving-rounds", "Saving writes the weights rounded to bfloat16.", saving_rounds),
    on_code("mask-dropped", "The attention mask is lost on its way to the model, so padding is read.", mask_dropped),
    on_code("stretched-positions", "Positions under a mask are counted in steps of two.", positions_over_padding),
    on_code("late-positions", "Cached decoding places every new token one position too late.", late_positions),
    on_code("wrong-prefix", "A full stop stands where the beginning-of-text token should.", wrong_prefix),
)  # fmt: skip
