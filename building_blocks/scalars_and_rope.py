"""Settings, learned scalars, ALiBi slopes and the position code of Addressed State Attention, the slow obvious way.

Symbols: B batch, H heads, T time, K slots, C width of the model, d = C / H width of a head, M width of slotspace. A layer is a dict
`state` of its parameters by name and a few settings; what a setting switches off has no parameter. Nothing here is random and nothing
trains: dropout is off, and every function can be differentiated. Numbers have the dtype of the input."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

DEFAULTS = {
    "embed_dim": None,
    "num_heads": 8,
    "num_slots": 8,
    "dropout": 0.1,
    "read_temperature": 1.0,
    "write_temperature": 1.0,
    "state_fp32": True,
    "slot_dropout": 0.0,
    "normalize_k": False,
    "use_rope_keys": True,
    "rope_base": 1e4,
    "use_alibi_write": True,
    "alibi_strength_init": 0.1,
    "learn_alibi_strength": True,
    "min_strength": 0.0,
    "use_content_read": True,
    "content_read_init": -4.0,
    "content_read_max_gamma": 3.0,
    "use_slotspace_refine": True,
    "slotspace_dim": 32,
    "slotspace_gate_init": -4.0,
    "slotspace_dropout": 0.05,
    "slotspace_signed_weights": True,
    "use_rope_slotspace": True,
    "rope_base_slotspace": 1e5,
    "write_chunk_size": 128,
    "slotspace_chunk_size": 128,
    "write_mode": "reference",
}


def settings_of(given):
    """The constructor's settings with their defaults, as attributes. Those of dropout and initialisation are read by nobody here."""
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise TypeError(f"no setting of the layer: {', '.join(unknown)}; it has {', '.join(DEFAULTS)}")
    return SimpleNamespace(**{**DEFAULTS, **given})


def alibi_strength(state, settings):
    """How fast recency grows: learned, or the constant that it was initialised with (then min_strength plays no part)."""
    if settings.learn_alibi_strength:
        return F.softplus(state["_alibi_strength_param"]) + settings.min_strength
    return state["slot_keys"].new_tensor(settings.alibi_strength_init)


def content_gamma(state, settings):
    """Weight of the content logit; 0 where content is not read. A maximum of None, or of 0 and less, is none."""
    if not settings.use_content_read:
        return state["slot_keys"].new_zeros(())
    gamma = F.softplus(state["_content_read_gamma_raw"])
    largest = settings.content_read_max_gamma
    if largest is None or largest <= 0:
        return gamma
    return torch.clamp(gamma, max=largest)


def slotspace_gate(state):
    """Weight of the refinement; it has no upper bound."""
    return F.softplus(state["_slotspace_gate_raw"])


def temperature(given):
    """No temperature is below 1e-6."""
    return max(1e-6, given)


def slopes_of_a_power_of_two(n_heads):
    """2^(-8 (i + 1) / n) for i = 0 .. n - 1."""
    return [2.0 ** (-8.0 * (i + 1) / n_heads) for i in range(n_heads)]


def alibi_slopes(n_heads):
    """One slope a head. Where H is no power of two: those of the power p below, then the 1st, 3rd, 5th ... of 2p heads."""
    power = 1
    while 2 * power <= n_heads:
        power = 2 * power
    slopes = slopes_of_a_power_of_two(power)
    return slopes + slopes_of_a_power_of_two(2 * power)[0::2][: n_heads - power]


def rope_frequencies(width, base, like):
    """f[j] = base^(-2j / D) for j = 0 .. D/2 - 1. They are float64 for a float64 input and float32 for any other."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    j = torch.arange(0, width, 2, dtype=dtype, device=like.device)
    return 1.0 / base ** (j / width)


def rope(x, frequencies):
    """Position code of x [..., T, D] as it really is: channel c has the frequency c mod D/2, and its partner is its neighbour.

    The two channels of a pair have different frequencies (unless D = 2), so this is no rotation: norms change, and products do not
    depend on relative positions alone. Checkpoints were trained with it."""
    n_tokens, width = x.shape[-2:]
    if width % 2:
        raise ValueError(f"the position code pairs neighbouring channels and needs an even width, got {width}")
    time = torch.arange(n_tokens, dtype=frequencies.dtype, device=x.device)
    channels = []
    for c in range(width):
        angle = time * frequencies[c % (width // 2)]
        cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
        if c % 2 == 0:
            channels.append(x[..., c] * cos - x[..., c + 1] * sin)
        else:
            channels.append(x[..., c] * cos + x[..., c - 1] * sin)
    return torch.stack(channels, dim=-1)


def split_heads(x, n_heads):
    """[B, T, C] -> [B, H, T, d]: head h is the h-th contiguous block of d channels."""
    width = x.shape[-1] // n_heads
    return torch.stack([x[..., h * width : (h + 1) * width] for h in range(n_heads)], dim=1)


def merge_heads(x):
    """[B, H, T, d] -> [B, T, C]."""
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1)
