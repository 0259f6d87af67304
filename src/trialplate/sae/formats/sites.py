"""Names of sites in files: `blocks.3.hook_resid_post` in SAELens and its kin is `L3.resid_post` here. Names without a counterpart stay as they are."""

from __future__ import annotations

import re

_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_attn_out": "attn_out",
    "hook_resid_mid": "resid_mid",
    "hook_mlp_out": "mlp_out",
    "hook_resid_post": "resid_post",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_post": "mlp_act",
}
_SITES = {site: hook for hook, site in _HOOKS.items()}
CENTRED = frozenset(
    {"hook_embed", *(f"hook_{name}" for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"))}
)
"""Hooks that see another activation once the weights that write to the stream are centred: the stream, and what is added to it."""


def site_of(hook: str) -> str:
    """The site that a hook of TransformerLens names."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    return f"L{found[1]}.{_HOOKS[found[2]]}" if found and found[2] in _HOOKS else hook


def hook_of(site: str) -> str:
    """The hook of TransformerLens at a site."""
    found = re.fullmatch(r"L(\d+)\.(\w+)", site)
    return f"blocks.{found[1]}.{_SITES[found[2]]}" if found and found[2] in _SITES else site


def is_centred(hook: str) -> bool:
    """Whether centring the weights of a model changes what this hook sees."""
    return re.sub(r"^blocks\.\d+\.", "", hook) in CENTRED
