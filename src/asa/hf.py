"""An ASM as a causal language model of the transformers library: loading and saving, `generate`, losses, caches.

The module holds the parts of an `ASMLanguageModel` under their own names, so its state dict and its files have the published keys.
Columns under a mask of 0 are no part of a text: each row's text is read from position 0 whatever side its padding is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from asa.alibi import alibi_slopes
from asa.asm_block import ASMBlock
from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.attention_map import attention_map
from asa.hf_cache import ASMCache
from asa.hf_config import ASMConfig
from asa.layer import AddressedStateLayer, inverse_softplus
from asa.padding import Alignment, align
from asa.rotary import Rotary

__all__ = ["ASMCache", "ASMConfig", "ASMForCausalLM", "from_language_model", "register"]


class ASMForCausalLM(PreTrainedModel, GenerationMixin):
    """Logits of an ASM. `language_model` is the plain model with the same weights; `model` (and `base_model`) the trunk without the head.

    Decoding goes through an `ASMCache`. There are no key/value caches, no 4-D masks and no positions but the natural ones: these are
    refused, never ignored. `output_attentions` gives the effective maps of `asa.attention_map`."""

    config_class = ASMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ["ASMBlock"]  # noqa: RUF012 - the library's own form, here and below
    _tied_weights_keys = {"lm_head.weight": "tok.weight"}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"\._alibi_slopes$", r"\.rope(_slotspace)?\.inv_freq$"]  # noqa: RUF012
    _is_stateful = True  # a cache cannot be cropped: no assisted decoding
    accepts_loss_kwargs = True
    language_model: ASMLanguageModel

    def __init__(self, config: ASMConfig) -> None:
        super().__init__(config)
        core = build_model_from_cfg(config.to_train_config(), config.variant)
        for name, part in core.named_children():
            self.add_module(name, part)
        # Its parts are ours already: as a submodule it would give every key a second name.
        object.__setattr__(self, "language_model", core)
        if not core.tok.weight.is_meta:
            for part in self.modules():
                part._is_hf_initialized = True  # drawn already, as the plain model draws
        self.post_init()

    def train(self, mode: bool = True) -> ASMForCausalLM:
        """Training or evaluation mode, of the plain model too (it is no submodule)."""
        super().train(mode)
        self.language_model.training = mode
        return self

    @property
    def model(self) -> Trunk:
        """The trunk: ids in, final normed hidden states out."""
        return Trunk(self)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.tok

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Another token embedding."""
        self.tok = self.language_model.tok = value
        self.language_model.vocab_size = value.weight.shape[0]

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Another head."""
        self.lm_head = self.language_model.lm_head = new_embeddings

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: ASMCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [b, T, v] of ids [b, T], or of the last `logits_to_keep` columns (an int) or those columns (a tensor).

        `attention_mask` [b, T], or [b, columns of the cache + T]: non-zero = token. A masked column has the logits of the token before it.
        `labels` [b, T]: mean cross-entropy of each token given those before it in its row; -100 and masked columns do not count.
        Raises ValueError for inputs that an ASM cannot take (see the class) and for texts of more than `max_seq_len` tokens."""
        if use_cache is None:
            use_cache = bool(self.config.use_cache) and not self.training and labels is None
        read = self._read(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
        )
        kept = read.hidden[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else read.hidden[:, logits_to_keep]
        logits = self.lm_head(kept)
        loss = None
        if labels is not None:
            if logits.shape[1] != read.hidden.shape[1]:
                raise ValueError("labels want the logits of every column: leave logits_to_keep out")
            loss = self.loss_function(
                logits=logits,
                labels=_targets(labels, read.alignment),
                vocab_size=logits.shape[-1],
                num_items_in_batch=num_items_in_batch,
            )
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=read.cache,
            hidden_states=read.hidden_states,
            attentions=read.attentions,
        )
        return output if self._returns_dict(return_dict) else output.to_tuple()

    def _returns_dict(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict) if return_dict is None else return_dict

    def _read(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: ASMCache | None,
        inputs_embeds: torch.Tensor | None,
        use_cache: bool,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
    ) -> _Read:
        if inputs_embeds is not None or input_ids is None:
            got = "inputs_embeds" if inputs_embeds is not None else "neither ids nor anything else"
            raise ValueError(
                f"an ASM reads input_ids [batch, time], got {got}: embeddings given from outside are not supported"
            )
        if cache is not None and not isinstance(cache, ASMCache):
            raise ValueError(
                f"past_key_values: wanted an ASMCache (asa.hf), got a {type(cache).__name__}. Leave it out to start anew"
            )
        ids, alignment = align(input_ids, _new_columns(attention_mask, input_ids, cache))
        state = None if cache is None else cache.state
        if state is not None and len(state.position) != len(input_ids):
            raise ValueError(
                f"past_key_values holds {len(state.position)} rows, input_ids {len(input_ids)}: wanted the same rows in the same order"
            )
        _require_natural(position_ids, alignment, None if state is None else state.position)
        if ids.shape[1] == 0 or (state is None and not bool(alignment.n_real.all())):
            raise ValueError("attention_mask: a row has no token (only zeros); wanted at least one")
        core = self.language_model
        attentions = self._attentions(ids, alignment, state is not None) if output_attentions else None
        with _watching(core, bool(output_hidden_states)) as seen:
            if state is None and not use_cache:
                hidden, after = core.hidden(ids, alignment.mask), None
            elif state is None:
                hidden, after = core.prefill(ids, alignment.mask)
            else:
                hidden, after = core.extend(ids, state, alignment.mask)
        if use_cache and after is not None:
            cache = ASMCache() if cache is None else cache
            cache.advance(after, input_ids.shape[1])
        hidden = alignment.restore(hidden)
        states = (*(alignment.restore(x) for x in seen), hidden) if output_hidden_states else None
        return _Read(hidden, alignment, cache if use_cache else None, states, attentions)

    def _attentions(self, ids: torch.Tensor, alignment: Alignment, continues: bool) -> tuple[torch.Tensor, ...]:
        """Effective attention maps [b, H, T, T] of every layer; masked columns are 0."""
        if continues or self.config.variant == "online":
            why = "after a cache" if continues else 'of the "online" class, which records nothing'
            raise ValueError(
                f"output_attentions: there are no maps {why}. Read the whole text at once, with another variant"
            )
        core = self.language_model
        _, infos = core(ids, alignment.mask, return_info=True)
        maps = []
        for layer, info in zip(core.layers, infos, strict=True):
            found = attention_map(info, layer.write_chunk_size, exact=layer.write_mode == "exact")
            valid = alignment.valid[:, :, None, None]
            by_query = alignment.restore(found.transpose(1, 2)) * valid  # [b, T, H, n keys]
            by_key = alignment.restore(by_query.transpose(1, 3)) * valid  # [b, T, H, T queries]
            maps.append(by_key.permute(0, 2, 3, 1))
        return tuple(maps)

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]
    ) -> torch.Tensor | None:
        """None: positions follow from the mask."""
        return None

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """No: the first forward call makes an ASMCache."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """What is not in a file, as the plain model draws it; and the tables that are never in one, in full precision."""
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=0.02)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Rotary):
            module.inv_freq = Rotary(module.dim, module.base).inv_freq.to(module.inv_freq.device)
        elif isinstance(module, AddressedStateLayer):
            slopes = alibi_slopes(module.num_heads) if module.use_alibi_write else [0.0] * module.num_heads
            module._alibi_slopes = torch.tensor(slopes, dtype=torch.float32, device=module.slot_keys.device)
            init.normal_(module.slot_keys, mean=0.0, std=module.head_dim**-0.5)
            for parameter, value in (
                (module._alibi_strength_param, inverse_softplus(module.alibi_strength, module.min_strength)),
                (module._content_read_gamma_raw, self.config.content_read_init),
                (module._slotspace_gate_raw, self.config.slotspace_gate_init),
            ):
                if parameter is not None:
                    init.constant_(parameter, value)


class Trunk:
    """The model without its head, called like it. It owns nothing; attributes are those of the plain language model."""

    def __init__(self, whole: ASMForCausalLM) -> None:
        self._whole = whole

    def __call__(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: ASMCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """`last_hidden_state` [b, T, C], final norm included, and the cache; arguments as for the whole model."""
        use_cache = bool(self._whole.config.use_cache) and not self._whole.training if use_cache is None else use_cache
        read = self._whole._read(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
        )
        output = BaseModelOutputWithPast(
            last_hidden_state=read.hidden,
            past_key_values=read.cache,
            hidden_states=read.hidden_states,
            attentions=read.attentions,
        )
        return output if self._whole._returns_dict(return_dict) else output.to_tuple()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"the trunk of an ASM has no attribute {name!r}")
        return getattr(self._whole.language_model, name)


@dataclass(slots=True)
class _Read:
    """What one pass gave, in the columns of its input."""

    hidden: torch.Tensor
    alignment: Alignment
    cache: ASMCache | None
    hidden_states: tuple[torch.Tensor, ...] | None
    attentions: tuple[torch.Tensor, ...] | None


def register() -> None:
    """Make the auto classes of transformers know ASMs; `import asa` does."""
    from asa.registration import install  # there, this module is imported to be registered

    install()


def from_language_model(model: ASMLanguageModel, **more: Any) -> ASMForCausalLM:
    """The same model with the same weights (copied) as a model of transformers, in evaluation mode. `more` are fields of the configuration,
    such as `eos_token_id`. Raises ValueError for a model that `build_model_from_cfg` did not make."""
    if model.cfg is None:
        raise ValueError("the model has no cfg: wanted one that build_model_from_cfg or load_checkpoint made")
    config = ASMConfig.from_train_config(model.cfg, variant=model.variant, **more)
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are all replaced
        wrapped = ASMForCausalLM(config)
    weight = model.tok.weight
    wrapped.to(device=weight.device)
    wrapped.load_state_dict(
        {name: tensor.clone() for name, tensor in model.state_dict().items()}, strict=True, assign=True
    )
    wrapped.tie_weights()
    wrapped.config.dtype = weight.dtype
    return wrapped.eval()


def _new_columns(
    attention_mask: torch.Tensor | None, input_ids: torch.Tensor, cache: ASMCache | None
) -> torch.Tensor | None:
    """The mask of the columns that are read now. A mask may cover what the cache has read too; then both must agree."""
    if attention_mask is None:
        return None
    if attention_mask.ndim != 2:
        raise ValueError(
            f"attention_mask: wanted [batch, time] (1 = token, 0 = padding), got {list(attention_mask.shape)}: an ASM has no pairs of positions to mask"
        )
    before = 0 if cache is None else cache.n_columns
    if before == 0 or attention_mask.shape[1] == input_ids.shape[1]:
        return attention_mask
    if attention_mask.shape[1] != before + input_ids.shape[1]:
        raise ValueError(
            f"attention_mask: wanted {input_ids.shape[1]} new columns, or {before} read before and these, got {attention_mask.shape[1]}"
        )
    past = (attention_mask[:, :before] != 0).sum(1)
    if cache is not None and cache.state is not None and not torch.equal(past, cache.state.position.to(past.device)):
        raise ValueError(
            f"attention_mask says that the cache has read {past.tolist()} tokens a row, the cache says {cache.state.position.tolist()}"
        )
    return attention_mask[:, before:]


def _require_natural(position_ids: torch.Tensor | None, alignment: Alignment, start: torch.Tensor | None) -> None:
    """Raise ValueError for positions other than those an ASM counts by itself; padding may have any."""
    if position_ids is None:
        return
    natural = alignment.valid.cumsum(1) - 1
    if start is not None:
        natural = natural + start.unsqueeze(1)
    if position_ids.ndim != 2 or position_ids.shape[-1] != natural.shape[-1]:
        raise ValueError(f"position_ids: wanted {list(natural.shape)} (batch, time), got {list(position_ids.shape)}")
    wrong = (position_ids != natural) & alignment.valid
    if bool(wrong.any()):
        row, column = (int(i) for i in wrong.nonzero()[0])
        got = int(position_ids.expand_as(natural)[row, column])
        raise ValueError(
            f"position_ids: an ASM counts the tokens of each row from 0; row {row}, column {column} is token {int(natural[row, column])}, got {got}. "
            f"Leave position_ids out, and mark padding in attention_mask"
        )


def _targets(labels: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Labels without those of padding, and without the first token of each row, which nothing stands before."""
    return labels.masked_fill(~alignment.valid | (alignment.valid.cumsum(1) == 1), -100)


@contextmanager
def _watching(core: ASMLanguageModel, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """The residual stream before every block, as it passes; nothing where it is not wanted."""
    seen: list[torch.Tensor] = []
    blocks = [block for block in core.blocks if isinstance(block, ASMBlock)] if wanted else []
    hooks = [block.norm1.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for block in blocks]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
