"""Interventions on the refinement delta, and its geometry relative to the plain read.

Symbols: o = plain read, delta = gated refinement, both [b, H, L, d] of one write chunk. delta = par + orth with par along o.
The thresholds of `orth_gate` are quantiles over the whole chunk: every row, head and position, padding too. So the outcome depends on
the batch and on the chunk size; `tau_per_head` takes them per row and head over time, averaged over rows, instead."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

EPS = 1e-8
MODES = ("off", "delta_par", "delta_orth", "delta_par_plus_orth", "orth_gate")
SCORES = ("orth_frac", "orth_ratio", "alpha_abs", "slot_peaked")
TAU_KINDS = ("abs", "pctl")
MASK_MODES = ("soft", "hard")
GEOMETRY = ("geom_alpha_mean", "geom_alpha_abs", "geom_sign_pos", "geom_orth_frac", "geom_d_ratio", "geom_dpar_ratio")
LARGEST_QUANTILE = 2**24  # torch.quantile refuses more elements


@dataclass(slots=True)
class Refine:
    """Settings of an intervention; the names and defaults are those of the layer's `_intv_*` attributes."""

    mode: str | None = "off"
    beta: float = 1.0
    par_beta: float = 1.0
    score_kind: str = "orth_frac"
    tau_kind: str = "pctl"
    tau: float | torch.Tensor = 0.15
    tau_pctl: float = 75.0
    mask_mode: str = "soft"
    soft_temp: float = 0.05
    head_mask: torch.Tensor | None = None
    score_clip_pctl: float | None = 99.0
    tau_per_head: bool = False

    def __post_init__(self) -> None:
        self.mode = "off" if self.mode is None else self.mode
        for name, value, known in (
            ("_intv_mode", self.mode, MODES),
            ("_intv_score_kind", self.score_kind, SCORES),
            ("_intv_tau_kind", self.tau_kind, TAU_KINDS),
            ("_intv_mask_mode", self.mask_mode, MASK_MODES),
        ):
            if value not in known:
                raise ValueError(f"{name}: wanted one of {', '.join(known)}, got {value!r}")

    @property
    def depends_on_chunk(self) -> bool:
        """Whether a threshold or clip is a quantile over the chunk."""
        clips = self.score_clip_pctl is not None and 0 < self.score_clip_pctl < 100
        return self.mode == "orth_gate" and (self.tau_kind == "pctl" or clips)


@dataclass(slots=True)
class Parts:
    """delta along the read and across it: alpha [b, H, L]; par, orth [b, H, L, d]; and the norms that scores and logs use."""

    alpha: torch.Tensor
    par: torch.Tensor
    orth: torch.Tensor
    read_norm: torch.Tensor
    delta_norm: torch.Tensor
    orth_norm: torch.Tensor


def split(read: torch.Tensor, delta: torch.Tensor) -> Parts:
    """alpha = <delta, o> / max(<o, o>, eps)."""
    alpha = (delta * read).sum(-1) / (read * read).sum(-1).clamp(min=EPS)
    par = alpha.unsqueeze(-1) * read
    orth = delta - par
    return Parts(alpha, par, orth, read.norm(dim=-1), delta.norm(dim=-1), orth.norm(dim=-1))


def intervene(
    read: torch.Tensor, delta: torch.Tensor, pre_activation: torch.Tensor, how: Refine
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The delta that is used, and what the intervention logs ([H] tensors stay, all others become scalar means)."""
    if how.mode == "off":
        return delta, {}
    parts = split(read, delta)
    logs = {"alpha": parts.alpha}
    if how.mode == "delta_par":
        changed = parts.par
    elif how.mode == "delta_orth":
        changed = parts.orth
    elif how.mode == "delta_par_plus_orth":
        changed = parts.par + parts.orth
    else:
        gate, gate_logs = _gate(parts, pre_activation, how)
        changed = how.par_beta * parts.par + how.beta * gate.unsqueeze(-1) * parts.orth
        logs |= gate_logs
    if how.head_mask is not None:
        head_mask = _head_mask(how.head_mask, delta)
        changed = head_mask[:, None, None] * changed + (1 - head_mask[:, None, None]) * delta
        logs["head_mask"] = head_mask
    return changed, logs


def geometry(read: torch.Tensor, delta: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means over rows and positions, [H]: alpha, |alpha|, share of positive alpha, and three ratios of norms."""
    parts = split(read, delta)
    delta_norm, read_norm = parts.delta_norm.clamp(min=EPS), parts.read_norm.clamp(min=EPS)
    values = (
        parts.alpha,
        parts.alpha.abs(),
        (parts.alpha > 0).to(parts.alpha),
        parts.orth_norm / delta_norm,
        delta_norm / read_norm,
        parts.par.norm(dim=-1) / delta_norm,
    )
    return {name: value.mean(dim=(0, 2)) for name, value in zip(GEOMETRY, values, strict=True)}


def _gate(parts: Parts, pre_activation: torch.Tensor, how: Refine) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    score = _score(parts, pre_activation, how.score_kind)
    if how.score_clip_pctl is not None and 0 < how.score_clip_pctl < 100:
        score = torch.minimum(score, _quantile(score, how.score_clip_pctl / 100, how.tau_per_head))
    if how.tau_kind == "pctl":
        tau = _quantile(score, how.tau_pctl / 100, how.tau_per_head)
    else:
        tau = torch.as_tensor(how.tau, dtype=score.dtype, device=score.device)
        tau = tau[:, None] if tau.ndim == 1 else tau  # [H] thresholds stand before time
    if how.mask_mode == "hard":
        gate = (score > tau).to(score.dtype)
    else:
        gate = torch.sigmoid((score - tau) / max(1e-6, how.soft_temp))
    return gate, {
        "score": score,
        "tau": tau.squeeze(-1) if tau.ndim == 2 else tau,
        "mask": gate,
        "out1_norm": parts.read_norm,
        "dpar_norm": parts.par.norm(dim=-1),
        "dorth_norm": parts.orth_norm,
    }


def _score(parts: Parts, pre_activation: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "orth_frac":
        return parts.orth_norm / parts.delta_norm.clamp(min=EPS)
    if kind == "orth_ratio":
        return parts.orth_norm / parts.read_norm.clamp(min=EPS)
    if kind == "alpha_abs":
        return parts.alpha.abs()
    p = torch.softmax(pre_activation, dim=-1).clamp(min=EPS)
    n_slots = pre_activation.shape[-1]
    return 1 + (p * p.log()).sum(-1) / math.log(n_slots) if n_slots > 1 else torch.ones_like(parts.alpha)


def _quantile(score: torch.Tensor, share: float, per_head: bool) -> torch.Tensor:
    """A threshold without gradient: a scalar over everything, or [H, 1] per head (quantile over time in each row, mean over rows)."""
    score = score.detach()
    if per_head:
        return torch.quantile(score, share, dim=-1, keepdim=True).mean(0)
    if score.numel() > LARGEST_QUANTILE:
        raise ValueError(
            f"orth_gate takes a quantile over {score.numel()} scores of one write chunk and torch.quantile takes at most {LARGEST_QUANTILE}: "
            "use a smaller batch, _intv_tau_per_head=True, or _intv_tau_kind='abs' with _intv_score_clip_pctl=None"
        )
    return torch.quantile(score.flatten(), share)


def _head_mask(mask: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    found = torch.as_tensor(mask).to(delta)
    if found.shape != (delta.shape[1],):
        raise ValueError(
            f"_intv_head_mask: wanted shape [{delta.shape[1]}] (one entry a head), got {list(found.shape)}"
        )
    return found
