"""One block: attention, then a feed-forward network, each on normed input and added to the stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from asa.asa import VARIANTS
from asa.layer import Info
from asa.state import LayerState


class ASMBlock(nn.Module):
    """x + ASA(norm1 x), then + MLP(norm2 x). The feed-forward width is int(embed_dim * mlp_ratio), its activation the exact GELU."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        num_slots: int = 8,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        slotspace_gate_init: float = -10.0,
        slotspace_dropout: float = 0.0,
        variant: str = "baseline",
        mlp_bias: bool = False,
        **layer: Any,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant: wanted one of {', '.join(VARIANTS)}, got {variant!r}")
        width = int(embed_dim * mlp_ratio)
        if width < 1:
            raise ValueError(
                f"mlp_ratio {mlp_ratio} of embed_dim {embed_dim} leaves a feed-forward network of width {width}"
            )
        self.norm1 = nn.LayerNorm(embed_dim)
        self.asa = VARIANTS[variant](
            embed_dim,
            num_heads,
            num_slots,
            dropout,
            slotspace_gate_init=slotspace_gate_init,
            slotspace_dropout=slotspace_dropout,
            **layer,
        )
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, width, bias=mlp_bias),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, embed_dim, bias=mlp_bias),
            nn.Dropout(dropout),
        )

    def forward(
        self, x: torch.Tensor, attention_mask: torch.Tensor | None = None, return_info: bool = False, **controls: Any
    ) -> tuple[torch.Tensor, Info | None]:
        """(x [b, T, C], record of the attention layer or None). Controls go to the attention layer, which refuses those it does not know."""
        attended, info = self.asa(self.norm1(x), attention_mask, return_info, **controls)
        x = x + attended
        return x + self.mlp(self.norm2(x)), info

    def extend(
        self, x: torch.Tensor, state: LayerState, position: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, LayerState]:
        """The next tokens x [b, n, C] after `state`, and the new state."""
        attended, state = self.asa.extend(self.norm1(x), state, position, attention_mask)
        x = x + attended
        return x + self.mlp(self.norm2(x)), state
