"""Addressed State Model: token embedding, blocks, final norm, output head (tied to the embedding by default)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from asa.asa import VARIANTS
from asa.asm_block import ASMBlock
from asa.config import ASMTrainConfig
from asa.layer import AddressedStateLayer, Info
from asa.state import ASMState


class ASMLanguageModel(nn.Module):
    """Logits [b, T, vocab] of ids [b, T]. Layer arguments are those of the attention classes.

    Initialisation: N(0, 0.02) for every Linear and Embedding, 1 and 0 for norms; slot keys and scalars keep the layer's own."""

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int = 384,
        num_layers: int = 6,
        num_heads: int = 8,
        num_slots: int = 8,
        max_seq_len: int = 1024,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        slot_dropout: float = 0.05,
        slotspace_gate_init: float = -10.0,
        slotspace_dropout: float = 0.0,
        tie_weights: bool = True,
        use_abs_pos: bool = False,
        mlp_bias: bool = False,
        variant: str = "baseline",
        **layer: Any,
    ) -> None:
        super().__init__()
        for name, value in (("vocab_size", vocab_size), ("num_layers", num_layers), ("max_seq_len", max_seq_len)):
            if value < 1:
                raise ValueError(f"{name}: wanted at least 1, got {value}")
        self.max_seq_len, self.vocab_size, self.variant, self.tie_weights = (
            max_seq_len,
            vocab_size,
            variant,
            tie_weights,
        )
        self.cfg: ASMTrainConfig | None = None
        self.tok = nn.Embedding(vocab_size, embed_dim)
        self.pos = nn.Embedding(max_seq_len, embed_dim) if use_abs_pos else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            ASMBlock(
                embed_dim,
                num_heads,
                num_slots,
                mlp_ratio,
                dropout,
                slotspace_gate_init,
                slotspace_dropout,
                variant,
                mlp_bias,
                slot_dropout=slot_dropout,
                **layer,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.lm_head = nn.Linear(embed_dim, vocab_size, bias=False)
        self.apply(_initialise)
        if tie_weights:
            self.lm_head.weight = self.tok.weight

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        return_info: bool = False,
        **controls: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, list[Info | None]]:
        """Logits [b, T, vocab], or (logits, [record of each layer]) with `return_info`. Controls go to every layer.

        `attention_mask` [b, T]: non-zero = valid; positions are columns, padding counted. Raises ValueError for no token, more than
        `max_seq_len` of them, or (looked for on the CPU only) ids outside the vocabulary."""
        hidden, infos = self._run(input_ids, attention_mask, return_info, controls)
        logits: torch.Tensor = self.lm_head(hidden)
        return (logits, infos) if return_info else logits

    def hidden(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **controls: Any
    ) -> torch.Tensor:
        """Final normed hidden state [b, T, C]; `lm_head` of it are the logits."""
        return self._run(input_ids, attention_mask, False, controls)[0]

    @property
    def layers(self) -> list[AddressedStateLayer]:
        """The attention layers, first to last."""
        return [block.asa for block in self.blocks]  # type: ignore[misc]

    def init_state(self, batch: int) -> ASMState:
        """The decoding state of `batch` rows that have read nothing."""
        position = torch.zeros(batch, dtype=torch.long, device=self.tok.weight.device)
        return ASMState([layer.init_state(batch) for layer in self.layers], position)

    def prefill(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ASMState]:
        """Hidden states [b, T, C] of prompts, and the state of each row after its last valid token. Padding must stand on the right.

        Raises ValueError for padding anywhere else: it would move the borders of write chunks."""
        return self.extend(input_ids, self.init_state(input_ids.shape[0]), attention_mask)

    def extend(
        self, input_ids: torch.Tensor, state: ASMState, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ASMState]:
        """Hidden states [b, n, C] of the next tokens of every row, and the new state; the old one stays usable. Equals the full forward."""
        added = (
            input_ids.new_full((input_ids.shape[0],), input_ids.shape[1])
            if attention_mask is None
            else (attention_mask != 0).sum(1)
        )
        self._check_ids(input_ids, int((state.position + added).max()) if input_ids.numel() else 0)
        positions = (state.position.unsqueeze(1) + torch.arange(input_ids.shape[1], device=input_ids.device)).clamp(
            max=self.max_seq_len - 1
        )
        x, layers = self._embed(input_ids, positions), []
        for block, before in zip(self.blocks, state.layers, strict=True):
            x, after = block.extend(x, before, state.position, attention_mask)  # type: ignore[operator]
            layers.append(after)
        return self.norm(x), ASMState(layers, state.position + added)

    def _run(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, return_info: bool, controls: dict[str, Any]
    ) -> tuple[torch.Tensor, list[Info | None]]:
        self._check_ids(input_ids, input_ids.shape[-1])
        x = self._embed(input_ids, torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0))
        infos = []
        for block in self.blocks:
            x, info = block(x, attention_mask, return_info, **controls)
            infos.append(info)
        return self.norm(x), infos

    def _embed(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        x = self.tok(input_ids)
        embedded: torch.Tensor = self.drop(x if self.pos is None else x + self.pos(positions))
        return embedded

    def _check_ids(self, input_ids: torch.Tensor, length: int) -> None:
        if input_ids.ndim != 2 or input_ids.numel() == 0:
            raise ValueError(f"input_ids: wanted [batch, time] with at least one token, got {list(input_ids.shape)}")
        if input_ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"input_ids: wanted whole numbers (torch.long), got {input_ids.dtype}")
        if length > self.max_seq_len:
            raise ValueError(
                f"input_ids: {length} tokens are more than max_seq_len {self.max_seq_len}. Crop them, or build the model with a larger one"
            )
        if input_ids.device.type == "cpu":  # elsewhere looking would wait for the device
            low, high = int(input_ids.min()), int(input_ids.max())
            if low < 0 or high >= self.vocab_size:
                raise ValueError(f"input_ids: wanted ids from 0 to {self.vocab_size - 1}, got {low} to {high}")


def build_model_from_cfg(cfg: ASMTrainConfig | Mapping[str, Any], variant: str = "baseline") -> ASMLanguageModel:
    """The model of a configuration, or of its fields. `variant`: baseline, online or intervene. Raises ValueError for another."""
    if isinstance(cfg, Mapping):
        cfg = ASMTrainConfig.from_dict(cfg)
    if variant not in VARIANTS:
        raise ValueError(f"variant: wanted one of {', '.join(VARIANTS)}, got {variant!r}")
    names = {*inspect.signature(ASMLanguageModel).parameters, *inspect.signature(VARIANTS["baseline"]).parameters}
    chosen = {f.name: getattr(cfg, f.name) for f in dataclasses.fields(cfg) if f.name in names}
    model = ASMLanguageModel(**chosen, variant=variant)
    model.cfg = cfg
    return model


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
