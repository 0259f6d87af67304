"""The surface that every measurement uses: a causal language model with its tokenizer, on one device, in one dtype, in evaluation mode.

Symbols: b = batch, s = sequence length, v = rows of the output head. Logits are as the model gives them; nothing is shifted here. With an
attention mask, positions are counted over real tokens, so padding on either side leaves a model's answers unchanged."""

import copy
import hashlib
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn

from trialplate.checkpoints.digest import state_digest
from trialplate.checkpoints.keys import manifest_digest
from trialplate.checkpoints.manifest import state_manifest
from trialplate.models.errors import ModelError, ModelLoadError
from trialplate.models.head_split import head_can_be_split
from trialplate.models.identity import AdapterInfo, config_digest
from trialplate.models.resolve import Source
from trialplate.models.spec import ModelSpec
from trialplate.models.stored import stored_digest, stored_manifest
from trialplate.models.tokenizers import TokenizerAdapter


@dataclass(slots=True)
class DecodingState:
    """What cached decoding carries from step to step. A step extends the cache in place: the state before it must not be used again."""

    cache: Any
    attention_mask: torch.Tensor  # [b, tokens so far], 1 = real token
    next_position: torch.Tensor  # [b], position of the next token


class CausalLM:
    """A Hugging Face-style causal language model. Built by `models.load.load`, or by a user's factory from a module and a tokenizer.

    `source` is None for weights that come from no file; `torch_device` is where the module lies (default: the device of the spec)."""

    def __init__(
        self,
        spec: ModelSpec,
        module: nn.Module,
        tokenizer: TokenizerAdapter,
        *,
        source: Source | None = None,
        torch_device: torch.device | None = None,
        adapter: AdapterInfo | None = None,
    ) -> None:
        if not hasattr(module, "config") or not hasattr(module, "get_output_embeddings"):
            raise ModelLoadError(
                f"{spec.label}: a {type(module).__name__} has no config or no get_output_embeddings(): wanted a Hugging Face causal language model, or an object with the methods of CausalLM"
            )
        self.spec, self.source, self.adapter, self.tokenizer = spec, source, adapter, tokenizer
        self.device = torch_device or torch.device(spec.device)
        self.dtype: torch.dtype = getattr(torch, spec.dtype)
        self.module = cast("Any", module.eval().requires_grad_(False))
        self._parameters = inspect.signature(self.module.forward).parameters
        whole = self.module.config
        config = whole.get_text_config() if hasattr(whole, "get_text_config") else whole
        self.n_layers = _config_number(config, spec, "num_hidden_layers")
        self.n_heads = _config_number(config, spec, "num_attention_heads")
        self.d_model = _config_number(config, spec, "hidden_size")
        self.max_length = _config_number(config, spec, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
        self.vocab_rows: int = self.module.get_output_embeddings().weight.shape[0]

    @property
    def label(self) -> str:
        """The name people read."""
        return self.spec.label

    @property
    def prefix_id(self) -> int | None:
        """The token that stands before a text without context: beginning of sequence, else end of sequence, else None."""
        return self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id

    @cached_property
    def splits_head(self) -> bool:
        """Whether `head(hidden(ids))` are the logits (checked on the model itself)."""
        return head_can_be_split(self.module, self._probe_ids())

    @torch.no_grad()
    def hidden(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Final normed hidden state [b, s, d], without the head. Raises ModelError for a model whose logits are more than its head (`splits_head` is False)."""
        if not self.splits_head:
            raise ModelError(
                f"{self.label}: {type(self.module).__name__} changes hidden states or logits around its head, so they cannot be split: use logits() instead of hidden() and head()"
            )
        inputs = self._inputs(ids, attention_mask, position_ids)
        state: torch.Tensor = self.module.base_model(**inputs, use_cache=False).last_hidden_state
        return state

    @torch.no_grad()
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., v] of hidden states [..., d]."""
        logits: torch.Tensor = self.module.get_output_embeddings()(hidden)
        return logits

    @torch.no_grad()
    def logits(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits [b, s, v] for ids [b, s]; `attention_mask` [b, s] is 1 on real tokens."""
        output: torch.Tensor = self.module(**self._inputs(ids, attention_mask, position_ids), use_cache=False).logits
        return output

    @torch.no_grad()
    def attentions(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Attention probabilities of each layer, [b, n_heads, s, s] (query, key). Computed with eager attention; the implementation is restored.
        For a model that reads the past through slots: the share of each token in what a head reads.

        Raises ModelError for a model that gives none."""
        before = getattr(self.module.config, "_attn_implementation", None)
        if before not in (None, "eager"):
            self.module.set_attn_implementation("eager")
        try:
            output = self.module(**self._inputs(ids, None, None), use_cache=False, output_attentions=True)
        except ValueError as error:
            raise ModelError(f"{self._no_attention()}: {error}") from error
        finally:
            if before not in (None, "eager"):
                self.module.set_attn_implementation(before)
        found = getattr(output, "attentions", None)
        if not found or any(layer is None for layer in found):
            raise ModelError(self._no_attention())
        return list(found)

    def start(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, DecodingState]:
        """Read prompts [b, s] into a cache: logits [b, v] at the last real token of each row, and the state for `step`.

        Rows padded on the right are turned to padding on the left first: sliding windows count columns, so a gap must not lie within a text."""
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(ids.dtype)
        positions = _positions(mask) if position_ids is None else position_ids
        columns = torch.arange(ids.shape[1], device=ids.device)
        n_trailing = ids.shape[1] - 1 - (mask * (columns + 1)).argmax(1, keepdim=True)  # [b, 1] pads after the text
        turned = (columns - n_trailing) % ids.shape[1]
        ids, mask, positions = ids.gather(1, turned), mask.gather(1, turned), positions.gather(1, turned)
        empty = DecodingState(None, mask[:, :0], positions[:, 0])
        logits, state = self._advance(empty, ids, mask, positions, only_last=True)
        return logits.squeeze(1), state

    def step(self, state: DecodingState, ids: torch.Tensor) -> tuple[torch.Tensor, DecodingState]:
        """Add tokens [b, k] (k = 1 in decoding) after a state: logits [b, v] at the last of them, and the new state."""
        logits, state = self._advance(
            state, ids, torch.ones_like(ids), self._next_positions(state, ids), only_last=True
        )
        return logits.squeeze(1), state

    def extend(self, state: DecodingState, ids: torch.Tensor) -> tuple[torch.Tensor, DecodingState]:
        """Add tokens [b, k] after a state: logits [b, k, v] at every one of them, and the new state."""
        return self._advance(state, ids, torch.ones_like(ids), self._next_positions(state, ids), only_last=False)

    @torch.no_grad()
    def _advance(
        self, state: DecodingState, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *, only_last: bool
    ) -> tuple[torch.Tensor, DecodingState]:
        """Run tokens through the cache; the head reads the last column only, or every one."""
        if not self._takes("past_key_values"):
            raise ModelError(self._no_cache())
        whole = torch.cat([state.attention_mask, mask], dim=1)
        inputs = {**self._inputs(ids, whole, positions), "past_key_values": state.cache, "use_cache": True}
        output = (self.module.base_model if self.splits_head else self.module)(**inputs)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise ModelError(self._no_cache())
        found = output.last_hidden_state if self.splits_head else output.logits  # [b, k, d or v]
        found = found[:, -1:] if only_last else found
        return (self.head(found) if self.splits_head else found), DecodingState(cache, whole, positions[:, -1] + 1)

    def _next_positions(self, state: DecodingState, ids: torch.Tensor) -> torch.Tensor:
        return state.next_position.unsqueeze(1) + torch.arange(ids.shape[1], device=ids.device)

    def _no_attention(self) -> str:
        return f"{self.label}: {type(self.module).__name__} gives no attention probabilities"

    def _no_cache(self) -> str:
        return f"{self.label}: {type(self.module).__name__} has no key/value cache, so it cannot decode step by step"

    def random_twin(self, seed: int) -> "CausalLM":
        """The same configuration, tokenizer, device and dtype with freshly initialised weights; no adapter. Global generators are left as they were.

        Weights are drawn on the CPU in float32 and cast, so a seed means the same twin on every device."""
        module = cast_weights(initialise(type(self.module), self.module.config, seed), self.dtype).to(self.device)
        spec = ModelSpec(f"{self.spec.name}~random{seed}", None, None, self.spec.dtype, self.spec.device)
        return CausalLM(spec, module, self.tokenizer, torch_device=self.device)

    @cached_property
    def weights_digest(self) -> str:
        """sha256 (hex) of the weights as stored (of the state_dict where there is no file), adapter included. The compute dtype plays no part."""
        base = stored_digest(self.source) if self.has_files and self.source else state_digest(self.module.state_dict())
        return base if self.adapter is None else hashlib.sha256(f"{base}+{self.adapter.digest}".encode()).hexdigest()

    @cached_property
    def key_manifest_digest(self) -> str:
        """sha256 (hex) of names, dtypes and shapes of the stored weights (of the state_dict where there is no file)."""
        return manifest_digest(
            stored_manifest(self.source) if self.has_files and self.source else state_manifest(self.module.state_dict())
        )

    @cached_property
    def config_digest(self) -> str:
        """sha256 (hex) of the architecture's configuration: two models may share weights and differ in what they compute with them."""
        return config_digest(self.module)

    @property
    def has_files(self) -> bool:
        """Whether the weights are those of files that were loaded without a user's code between."""
        return self.source is not None and self.source.kind != "factory" and self.source.random_seed is None

    @property
    def n_parameters(self) -> int:
        """Number of parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def identity(self) -> dict[str, str | int | None]:
        """What was measured, as plain data for the report."""
        source = self.source
        return {
            "label": self.label,
            "weights_digest": self.weights_digest,
            "tokenizer_digest": self.tokenizer.digest,
            "key_manifest_digest": self.key_manifest_digest,
            "config_digest": self.config_digest,
            "adapter_digest": self.adapter.digest if self.adapter else None,
            "dtype": self.spec.dtype,
            "device": self.spec.device,
            "source": source.kind if source else "memory",
            "hub_id": source.hub_id if source else None,
            "revision": source.revision if source else None,
            "commit": source.commit if source else None,
            "n_parameters": self.n_parameters,
            "architecture": type(self.module).__name__,
        }

    def _takes(self, name: str) -> bool:
        return name in self._parameters or any(
            p.kind is inspect.Parameter.VAR_KEYWORD for p in self._parameters.values()
        )

    def _probe_ids(self) -> torch.Tensor:
        return (torch.arange(1, 9, device=self.device) % self.vocab_rows).unsqueeze(0)

    def _inputs(
        self, ids: torch.Tensor, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": ids}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
            if position_ids is None:
                position_ids = _positions(attention_mask)
        if position_ids is not None and self._takes("position_ids"):
            inputs["position_ids"] = position_ids
        return inputs


def initialise(model_class: Any, config: Any, seed: int) -> nn.Module:
    """A freshly initialised module on the CPU in float32, drawn from `seed`; the global generator is saved and restored."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every accelerator too
        fresh: nn.Module = model_class(copy.deepcopy(config))
    return fresh.float().eval().requires_grad_(False)


def cast_weights(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast floating parameters and stored buffers. Tables that a module computes (rotary frequencies) are not stored and keep their precision."""
    stored = set(module.state_dict())
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for name, buffer in module.named_buffers():
        if name in stored and buffer.is_floating_point():
            buffer.data = buffer.data.to(dtype)
    return module


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions counted over real tokens, [b, s]; padding before the first gets 0."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def _config_number(config: Any, spec: ModelSpec, *names: str) -> int:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    raise ModelLoadError(
        f"{spec.label}: its {type(config).__name__} has no whole number {' or '.join(names)}; attention models with a context length are supported"
    )
