"""What all three attention classes are: parameters under their published names, checks of sizes and inputs, and the two forms that compute them.

Symbols: b = batch, T = time, C = embed_dim, H = num_heads, d = C / H, K = num_slots, M = slotspace_dim."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from asa import functional, tiled_layer
from asa.alibi import alibi_slopes
from asa.functional import Layer, Projected, Recorded
from asa.linear import matrix
from asa.refine import Refine
from asa.rotary import Rotary
from asa.routing import Routing, RoutingOverride, SlotMask, check_override_shape
from asa.scan import WRITE_MODES
from asa.slotspace import SlotspaceWeights
from asa.state import LayerState, empty_layer_state

Info = dict[str, Any]
# Tokens that the exact form takes at once: slot states of one piece are formed, and more steps cost more calls.
EXACT_PIECE = 64


class AddressedStateLayer(nn.Module):
    """Parameters and the two ways to compute them; the public classes differ in what a call accepts and records."""

    masks_before_features = False
    _alibi_slopes: torch.Tensor
    _delta_norm_gated = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        num_slots: int = 8,
        dropout: float = 0.1,
        read_temperature: float = 1.0,
        write_temperature: float = 1.0,
        state_fp32: bool = True,
        slot_dropout: float = 0.0,
        normalize_k: bool = False,
        use_rope_keys: bool = True,
        rope_base: float = 1e4,
        use_alibi_write: bool = True,
        alibi_strength_init: float = 0.1,
        learn_alibi_strength: bool = True,
        min_strength: float = 0.0,
        use_content_read: bool = True,
        content_read_init: float = -4.0,
        content_read_max_gamma: float | None = 3.0,
        use_slotspace_refine: bool = True,
        slotspace_dim: int = 32,
        slotspace_gate_init: float = -4.0,
        slotspace_dropout: float = 0.05,
        slotspace_signed_weights: bool = True,
        use_rope_slotspace: bool = True,
        rope_base_slotspace: float = 1e5,
        write_chunk_size: int = 128,
        slotspace_chunk_size: int = 128,
        write_mode: str = "reference",
    ) -> None:
        super().__init__()
        _check_sizes(embed_dim, num_heads, num_slots, write_chunk_size)
        _check_slotspace(slotspace_dim, used=use_slotspace_refine, rotated=use_rope_slotspace)
        _check_shares(slot_dropout=slot_dropout, slotspace_dropout=slotspace_dropout)
        if write_mode not in WRITE_MODES:
            raise ValueError(f"write_mode: wanted one of {', '.join(WRITE_MODES)}, got {write_mode!r}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_slots = num_slots
        self.head_dim = embed_dim // num_heads
        if use_rope_keys and self.head_dim % 2:
            raise ValueError(
                f"rotary write keys pair channels: wanted an even head width, got embed_dim {embed_dim} / num_heads {num_heads} = {self.head_dim}. "
                "Change either, or set use_rope_keys=False"
            )
        self.read_temperature = max(read_temperature, 1e-6)
        self.write_temperature = max(write_temperature, 1e-6)
        self.state_fp32 = state_fp32
        self.slot_dropout = slot_dropout
        self.normalize_k = normalize_k
        self.use_rope_keys = use_rope_keys
        self.use_alibi_write = use_alibi_write
        self.learn_alibi_strength = learn_alibi_strength
        self.alibi_strength = alibi_strength_init
        self.min_strength = min_strength
        self.use_content_read = use_content_read
        self.content_read_max_gamma = content_read_max_gamma
        self.use_slotspace_refine = use_slotspace_refine
        self.slotspace_dim = slotspace_dim
        self.slotspace_dropout_rate = slotspace_dropout
        self.slotspace_signed_weights = slotspace_signed_weights
        self.use_rope_slotspace = use_rope_slotspace
        self.write_chunk_size = write_chunk_size
        self.slotspace_chunk_size = slotspace_chunk_size
        self.write_mode = write_mode
        self.routing_override: RoutingOverride | None = None
        self.slot_mask: torch.Tensor | None = None
        self.dropout = nn.Dropout(dropout)
        self._create_parameters(content_read_init, slotspace_gate_init)
        self.register_buffer("_alibi_slopes", self._slopes(), persistent=False)
        self.rope = Rotary(self.head_dim, rope_base) if use_rope_keys else None
        rotates = use_slotspace_refine and use_rope_slotspace
        self.rope_slotspace = Rotary(slotspace_dim, rope_base_slotspace) if rotates else None

    def _create_parameters(self, content_read_init: float, slotspace_gate_init: float) -> None:
        """In the order of published state dicts: direct parameters, then the linear modules. What is absent is None and has no key."""
        channels, slots, wide = self.embed_dim, self.num_slots, self.slotspace_dim
        refines, learns = self.use_slotspace_refine, self.use_alibi_write and self.learn_alibi_strength
        self.slot_keys = nn.Parameter(torch.randn(self.num_heads, slots, self.head_dim) / math.sqrt(self.head_dim))
        strength = inverse_softplus(self.alibi_strength, self.min_strength) if learns else 0.0
        self._alibi_strength_param = _scalar(strength) if learns else None
        self._content_read_gamma_raw = _scalar(content_read_init) if self.use_content_read else None
        self._slotspace_gate_raw = _scalar(slotspace_gate_init) if refines else None
        self.Wk_write = nn.Linear(channels, channels, bias=False)
        self.Wv_write = nn.Linear(channels, channels, bias=False)
        self.Wq_read = nn.Linear(channels, channels, bias=False)
        self.out_proj = nn.Linear(channels, channels, bias=False)
        self.slot_in = nn.Linear(slots, wide, bias=False) if refines else None
        self.slot_q = nn.Linear(wide, wide, bias=False) if refines else None
        self.slot_k = nn.Linear(wide, wide, bias=False) if refines else None
        self.slot_v = nn.Linear(wide, wide, bias=False) if refines else None
        self.slot_out = nn.Linear(wide, slots, bias=False) if refines else None

    def _slopes(self) -> torch.Tensor:
        return torch.tensor(alibi_slopes(self.num_heads)) if self.use_alibi_write else torch.zeros(self.num_heads)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Slopes are constants outside the state dict: a layer that was made on no device has none until its weights are loaded.
        super()._load_from_state_dict(*args, **kwargs)
        device = torch.device("cpu") if self._alibi_slopes.is_meta else self._alibi_slopes.device
        self._alibi_slopes = self._slopes().to(device, self._alibi_slopes.dtype)

    # Scalars as they act. Softplus of a raw parameter each, in at least float32.

    @property
    def strength(self) -> torch.Tensor | None:
        """Strength of the recency bias; None without it. A fixed strength ignores `min_strength`."""
        if not self.use_alibi_write:
            return None
        if self._alibi_strength_param is None:
            return torch.as_tensor(self.alibi_strength, dtype=torch.float32, device=self._alibi_slopes.device)
        return F.softplus(_wide(self._alibi_strength_param)) + self.min_strength

    @property
    def gamma(self) -> torch.Tensor | None:
        """Weight of content logits, at most `content_read_max_gamma` where that is positive; None without content read."""
        if self._content_read_gamma_raw is None:
            return None
        gamma = F.softplus(_wide(self._content_read_gamma_raw))
        limit = self.content_read_max_gamma
        return gamma.clamp(max=limit) if limit is not None and limit > 0 else gamma

    @property
    def gate(self) -> torch.Tensor | None:
        """Weight of the refinement delta; None without slotspace."""
        return None if self._slotspace_gate_raw is None else F.softplus(_wide(self._slotspace_gate_raw))

    def init_state(self, batch: int) -> LayerState:
        """The decoding state of `batch` rows that have read nothing."""
        dtype = torch.promote_types(self.slot_keys.dtype, torch.float32)
        wide = self.slotspace_dim if self.use_slotspace_refine else 0
        sizes = (batch, self.num_heads, self.num_slots, self.head_dim, wide)
        return empty_layer_state(*sizes, dtype=dtype, device=self.slot_keys.device)

    def extend(
        self, x: torch.Tensor, state: LayerState, position: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, LayerState]:
        """Outputs [b, n, C] of the next tokens x [b, n, C] of rows that have read `position` [b] tokens, and the new state; `state` stays usable.

        `attention_mask` [b, n] may end rows early (right padding): a row's state then stands after its last valid token.
        Overrides speak of the new tokens: a tensor is [b, H, n, K], and a callable gets t0 and t1 among them; their positions in the text are
        `ctx["position"]` [b] and on. Raises ValueError for other shapes, padding elsewhere, or an intervention that needs a whole chunk."""
        self._check_input(x, attention_mask)
        _check_continuation(x, state, position, attention_mask)
        routing, mask, how = self._routing(), self._slot_mask(None, "read", "all"), self._refine()
        check_override_shape(routing.override, x.shape[0], self.num_heads, x.shape[1], self.num_slots)
        if how is not None and how.depends_on_chunk:
            raise ValueError(
                "orth_gate with a percentile threshold or clip depends on a whole write chunk, which decoding does not have: run the full forward, "
                "or set _intv_tau_kind='abs' and _intv_score_clip_pctl=None"
            )
        plain = routing.is_plain and mask.keep is None and how is None and not torch.is_grad_enabled()
        if plain and not bool(position.any()) and tiled_layer.fits(self, x.shape[1]):
            return tiled_layer.prefill(self, x, attention_mask)
        given = self._project(x, position.unsqueeze(1) + torch.arange(x.shape[1], device=x.device), attention_mask)
        lengths = None if given.valid is None else given.valid.sum(1)
        # What a masked token would leave in slotspace sums must not meet the tokens that follow, so it is silenced after phi in every class.
        layer = dataclasses.replace(self.computing(given.queries.dtype), masks_before_features=False)
        with full_precision(x):
            heads, state = functional.attend(layer, given, state, position, routing, mask, how, lengths=lengths)
        return self._project_out(heads), state

    def observe(self, x: torch.Tensor, attention_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What a call on x [b, T, C] would read and hold, at every token: read weights [b, H, T, K] and slot states [b, H, T, K, d].

        Attributes that act on calls (override, mask, interventions) act here too. Memory grows with T K d."""
        record = Recorded(keeps_slots=True)
        self._compute(x, attention_mask, self._routing(), self._slot_mask(None, "read", "all"), record)
        return torch.cat(record.parts["read_weights"], 2), torch.cat(record.parts["slots"], 2)

    def _compute(
        self,
        x: torch.Tensor,
        attention_mask: torch.Tensor | None,
        routing: Routing,
        mask: SlotMask,
        record: Recorded | None,
    ) -> torch.Tensor:
        self._check_input(x, attention_mask)
        how = self._refine()
        plain = record is None and routing.is_plain and mask.keep is None and how is None
        if plain and tiled_layer.fits(self, x.shape[1]):
            return self.dropout(tiled_layer.forward(self, x, attention_mask))
        positions = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        given = self._project(x, positions, attention_mask)
        check_override_shape(routing.override, x.shape[0], self.num_heads, x.shape[1], self.num_slots)
        start = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        with full_precision(x):
            layer = self.computing(given.queries.dtype)
            if plain and (layer.exact or layer.chunk == 1):  # one and the same function, which knows no chunks
                layer = dataclasses.replace(layer, exact=True, chunk=EXACT_PIECE)
            state = self.init_state(x.shape[0])
            heads, _ = functional.attend(layer, given, state, start, routing, mask, how, record)
        return self.dropout(self._project_out(heads))

    def _project(self, x: torch.Tensor, positions: torch.Tensor, attention_mask: torch.Tensor | None) -> Projected:
        """Queries, keys and values by head, in at least float32: sums of exponentials lose everything in half precision."""

        def heads(linear: nn.Linear) -> torch.Tensor:
            y = linear(x)
            return y.to(torch.promote_types(y.dtype, torch.float32)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        valid = None if attention_mask is None else attention_mask != 0
        return Projected(heads(self.Wq_read), heads(self.Wk_write), heads(self.Wv_write), positions, valid)

    def _project_out(self, heads: torch.Tensor) -> torch.Tensor:
        merged: torch.Tensor = self.out_proj(heads.transpose(1, 2).flatten(-2).to(self.out_proj.weight.dtype))
        return merged

    def computing(self, dtype: torch.dtype) -> Layer:
        """The tensors and constants of this layer in `dtype`, with this call's slot dropout."""
        slotspace = self._slotspace_weights(dtype)
        drop = self._slot_dropout_mask()
        keys = self.slot_keys.to(dtype)
        return Layer(
            slot_keys=keys if drop is None else keys * drop.to(dtype).unsqueeze(-1),
            strength=as_dtype(self.strength, dtype),
            slopes=self._alibi_slopes.to(dtype),
            gamma=as_dtype(self.gamma, dtype),
            slotspace=slotspace,
            rope_keys=self.rope,
            rope_slotspace=self.rope_slotspace,
            read_temperature=self.read_temperature,
            write_temperature=self.write_temperature,
            normalize_k=self.normalize_k,
            signed=self.slotspace_signed_weights,
            chunk=self.write_chunk_size or 2**62,  # 0 means the whole sequence
            exact=self.write_mode == "exact",
            masks_before_features=self.masks_before_features,
            dropout=self._slotspace_dropout(),
        )

    def _slotspace_weights(self, dtype: torch.dtype) -> SlotspaceWeights | None:
        if (
            self.slot_in is None
            or self.slot_q is None
            or self.slot_k is None
            or self.slot_v is None
            or self.slot_out is None
        ):
            return None
        entry, out = matrix(self.slot_in).to(dtype), matrix(self.slot_out).to(dtype)
        queries, keys, values = (matrix(linear).to(dtype) @ entry for linear in (self.slot_q, self.slot_k, self.slot_v))
        gate = self.gate
        assert gate is not None
        return SlotspaceWeights(queries, keys, values, out, gate.to(dtype))

    def _slot_dropout_mask(self) -> torch.Tensor | None:
        """Whole slot keys are dropped, the same for every row and position of a call, without rescaling: [H, K], or None."""
        if not self.training or self.slot_dropout <= 0:
            return None
        return torch.rand(self.num_heads, self.num_slots, device=self.slot_keys.device) >= self.slot_dropout

    def _slotspace_dropout(self) -> Callable[[torch.Tensor], torch.Tensor]:
        rate = self.slotspace_dropout_rate if self.training else 0.0
        return lambda x: F.dropout(x, rate, training=rate > 0)

    def _routing(self, **settings: Any) -> Routing:
        return Routing(override=self.routing_override, **settings)

    def _slot_mask(self, given: torch.Tensor | None, where: str, scope: str) -> SlotMask:
        return SlotMask(self.slot_mask if given is None else given, where, scope).checked(self.num_slots)

    def _refine(self) -> Refine | None:
        return None

    def _check_input(self, x: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"x: wanted [batch, time, {self.embed_dim}], got {list(x.shape)}")
        if 0 in x.shape:
            raise ValueError(
                f"x holds no token: wanted at least one row and one position, got batch {x.shape[0]}, time {x.shape[1]}"
            )
        weights = self.out_proj.weight.dtype
        if x.dtype != weights and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"x: wanted {weights}, the dtype of the weights, got {x.dtype}. Cast either, or use torch.autocast"
            )
        if attention_mask is not None and (
            not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != x.shape[:2]
        ):
            got = (
                list(attention_mask.shape)
                if isinstance(attention_mask, torch.Tensor)
                else type(attention_mask).__name__
            )
            raise ValueError(f"attention_mask: wanted a tensor {list(x.shape[:2])} (batch, time), got {got}")

    def _scalars(self) -> Info:
        """Strength where it is learned, the content weight (0 without content read), and the gate where it exists."""
        found = {
            "alibi_strength": self.strength if self._alibi_strength_param is not None else None,
            "content_read_gamma": self.slot_keys.new_zeros(()) if self.gamma is None else self.gamma,
            "slotspace_gate": self.gate,
        }
        return {name: value.detach() for name, value in found.items() if value is not None}

    def _delta_norm(self, recorded: Recorded) -> Info:
        """Mean norm of the refinement over rows, heads and positions: with the gate in the Intervene class, without it in the others."""
        parts = recorded.parts.get("refined_norm")
        if parts is None:
            return {}
        gate = self.gate if self._delta_norm_gated else None
        mean = torch.cat(parts, dim=2).mean()
        return {"slotspace_delta_norm": mean if gate is None else mean * gate.detach().to(mean)}

    def extra_repr(self) -> str:
        """Sizes, and what changes the function."""
        return f"C={self.embed_dim}, H={self.num_heads}, K={self.num_slots}, chunk={self.write_chunk_size}, write_mode={self.write_mode!r}"


def _check_sizes(embed_dim: int, heads: int, slots: int, chunk: int) -> None:
    for name, value in (("embed_dim", embed_dim), ("num_heads", heads), ("num_slots", slots)):
        if value < 1:
            raise ValueError(f"{name}: wanted at least 1, got {value}")
    if embed_dim % heads:
        raise ValueError(f"embed_dim {embed_dim} does not divide into num_heads {heads} equal parts")
    if chunk < 0:
        raise ValueError(f"write_chunk_size: wanted 0 (the whole sequence) or more, got {chunk}")


def _check_slotspace(width: int, *, used: bool, rotated: bool) -> None:
    if used and (width < 1 or (rotated and width % 2)):
        wanted = (
            "an even number (its positions pair channels; use_rope_slotspace=False lifts that)"
            if rotated
            else "at least 1"
        )
        raise ValueError(f"slotspace_dim: wanted {wanted}, got {width}")


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: wanted a share from 0 to below 1, got {value}")


def _check_continuation(
    x: torch.Tensor, state: LayerState, position: torch.Tensor, attention_mask: torch.Tensor | None
) -> None:
    batch = x.shape[0]
    if not isinstance(position, torch.Tensor) or position.shape != (batch,):
        got = list(position.shape) if isinstance(position, torch.Tensor) else type(position).__name__
        raise ValueError(f"position: wanted a tensor [{batch}], the tokens that each row has read, got {got}")
    if state.write.den.shape[0] != batch:
        raise ValueError(f"state: wanted one of {batch} rows, like x, got {state.write.den.shape[0]}")
    if attention_mask is not None and bool(((attention_mask[:, 1:] != 0) & (attention_mask[:, :-1] == 0)).any()):
        raise ValueError(
            "padding on the right only: a valid token after padding would stand at another position than its column says"
        )


@contextmanager
def full_precision(x: torch.Tensor) -> Iterator[None]:
    """Autocast off: sums of exponentials over a text lose everything in half precision, whatever the projections run in."""
    with torch.autocast(x.device.type, enabled=False):
        yield


def inverse_softplus(strength: float, minimum: float) -> float:
    if minimum > strength:
        warnings.warn(
            f"min_strength {minimum} is above alibi_strength_init {strength}: the strength starts at min_strength, as in published code",
            stacklevel=5,
        )
    above = max(strength - minimum, 1e-8)
    return above + math.log(-math.expm1(-above))  # log(exp(x) - 1), without the overflow


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(float(value)))


def _wide(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def as_dtype(value: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if value is None else value.to(dtype)
