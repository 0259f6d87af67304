"""The layer to take apart: the refinement delta is split along and across what was read, and parts of it are scaled or gated.

With o = what was read and delta = the gated refinement at one position of one head, eps = 1e-8:

    alpha = <delta, o> / max(<o, o>, eps);   par = alpha o;   orth = delta - par
    off: delta;   delta_par: par;   delta_orth: orth;   delta_par_plus_orth: par + orth;   orth_gate: par_beta par + beta m orth

m is a gate on a score against a threshold tau. Clip and threshold are quantiles over a whole write chunk (every row, head and position,
padding too), so the outcome depends on the batch and on the chunk size; `_intv_tau_per_head` takes them over time by row and head instead,
averaged over rows. Settings of the intervention have the names of the attributes that they are in the layer."""

import math
from types import SimpleNamespace

import torch
from building_blocks.asa_default import CALL, detached, write_and_read
from building_blocks.scalars_and_rope import merge_heads, settings_of

EPS = 1e-8
INTERVENTION = {
    "_intv_mode": "off",
    "_intv_beta": 1.0,
    "_intv_par_beta": 1.0,
    "_intv_score_kind": "orth_frac",
    "_intv_tau_kind": "pctl",
    "_intv_tau": 0.15,
    "_intv_tau_pctl": 75.0,
    "_intv_tau_per_head": False,
    "_intv_mask_mode": "soft",
    "_intv_soft_temp": 0.05,
    "_intv_head_mask": None,
    "_intv_score_clip_pctl": 99.0,
    "_log_refine_geom": False,
}
INFO_CFG = {
    "store_read_weights": True,
    "store_read_logits": True,
    "store_write_logits": True,
    "store_slot_state_norm": True,
    "store_out1": False,
    "store_delta": False,
    "store_slot_w": False,
    "detach_to_cpu": False,
    "time_stride": 1,
    "batch_stride": 1,
}
ALIASES = {
    "score": "intv_score_mean",
    "mask": "intv_mask_mean",
    "tau": "intv_tau",
    "alpha": "intv_alpha_mean",
    "out1_norm": "intv_out1_norm_mean",
    "dpar_norm": "intv_dpar_norm_mean",
    "dorth_norm": "intv_dorth_norm_mean",
}


def asa_intervene(x, state, *, attention_mask=None, info_level="full", info_cfg=None, **keywords):
    """(y [B, T, C], info) of x [B, T, C]."""
    if info_level not in ("basic", "logits", "full"):
        raise ValueError(f"info_level: wanted basic, logits or full, got {info_level!r}")
    call = SimpleNamespace(**{name: keywords.pop(name, value) for name, value in CALL.items()})
    how = SimpleNamespace(**{name[1:]: keywords.pop(name, value) for name, value in INTERVENTION.items()})
    settings = settings_of(keywords)
    if settings.write_chunk_size < 1:
        raise ValueError(f"write_chunk_size: the intervening layer wants 1 or more, got {settings.write_chunk_size}")
    p = write_and_read(x, state, settings, call, attention_mask)
    refined, logs = [], []
    for t0 in range(0, x.shape[1], p.chunk):
        o, delta = p.o[:, :, t0 : t0 + p.chunk], p.delta[:, :, t0 : t0 + p.chunk]
        z = None if p.z is None else p.z[:, :, t0 : t0 + p.chunk]
        modified, log = intervene(o, delta, z, how)
        refined.append(modified)
        logs.append({**(geometry(o, delta) if how.log_refine_geom else {}), **log})
    y = merge_heads(p.o + torch.cat(refined, dim=2)) @ state["out_proj.weight"].T
    info = {
        **intervene_info(p, settings, call, info_level, {**INFO_CFG, **(info_cfg or {})}),
        "intv_mode": how.intv_mode,
    }
    return y, detached({**info, **mean_over_chunks(logs)})


def split(o, delta):
    """(alpha [B, H, L], part along o, part across o)."""
    alpha = (delta * o).sum(-1) / (o * o).sum(-1).clamp(min=EPS)
    par = alpha.unsqueeze(-1) * o
    return alpha, par, delta - par


def norm(x):
    """[B, H, L] of [B, H, L, d]."""
    return torch.linalg.vector_norm(x, dim=-1)


def intervene(o, delta, z, how):
    """(delta as it goes on, what is logged) of one chunk."""
    if how.intv_mode in ("off", None):
        return delta, {}
    alpha, par, orth = split(o, delta)
    log = {"alpha": alpha}
    if how.intv_mode == "delta_par":
        modified = par
    elif how.intv_mode == "delta_orth":
        modified = orth
    elif how.intv_mode == "delta_par_plus_orth":
        modified = par + orth
    elif how.intv_mode == "orth_gate":
        s = score(how.intv_score_kind, alpha, orth, delta, o, z)
        s = clipped(s, how)
        tau = threshold(s, how)
        m = gate_of(s, tau, how)
        modified = how.intv_par_beta * par + how.intv_beta * m.unsqueeze(-1) * orth
        log |= {
            "score": s,
            "tau": tau,
            "mask": m,
            "out1_norm": norm(o),
            "dpar_norm": norm(par),
            "dorth_norm": norm(orth),
        }
    else:
        raise ValueError(
            f"_intv_mode: wanted off, delta_par, delta_orth, delta_par_plus_orth or orth_gate, got {how.intv_mode!r}"
        )
    if how.intv_head_mask is not None:
        hm = torch.as_tensor(how.intv_head_mask).to(delta)
        log["head_mask"] = hm
        modified = hm[None, :, None, None] * modified + (1 - hm[None, :, None, None]) * delta
    return modified, log


def score(kind, alpha, orth, delta, o, z):
    """[B, H, L]: how much there is to gate."""
    if kind == "orth_frac":
        return norm(orth) / norm(delta).clamp(min=EPS)
    if kind == "orth_ratio":
        return norm(orth) / norm(o).clamp(min=EPS)
    if kind == "alpha_abs":
        return alpha.abs()
    if kind == "slot_peaked":
        if z is None:
            raise ValueError(
                "_intv_score_kind 'slot_peaked' needs slotspace; this layer has use_slotspace_refine=False"
            )
        probability = torch.softmax(z, dim=-1).clamp(min=EPS)
        return 1 + (probability * probability.log()).sum(-1) / math.log(z.shape[-1])
    raise ValueError(f"_intv_score_kind: wanted orth_frac, orth_ratio, alpha_abs or slot_peaked, got {kind!r}")


def quantile(s, percent, per_head):
    """A number that `percent` of the scores are below: over the chunk, or [H, 1] over time, averaged over rows. No gradient."""
    s = s.detach()
    if per_head:
        return torch.quantile(s, percent / 100, dim=-1).mean(0)[:, None]
    return torch.quantile(s.flatten(), percent / 100)


def clipped(s, how):
    """Scores, none above the quantile `_intv_score_clip_pctl`; None, 0 and 100 clip nothing."""
    percent = how.intv_score_clip_pctl
    if percent is None or not 0 < percent < 100:
        return s
    return torch.minimum(s, quantile(s, percent, how.intv_tau_per_head))


def threshold(s, how):
    """tau: a number, or one a head."""
    if how.intv_tau_kind == "abs":
        tau = torch.as_tensor(how.intv_tau).to(s)
    elif how.intv_tau_kind == "pctl":
        tau = quantile(s, how.intv_tau_pctl, how.intv_tau_per_head)
    else:
        raise ValueError(f"_intv_tau_kind: wanted abs or pctl, got {how.intv_tau_kind!r}")
    return tau.flatten() if tau.dim() else tau


def gate_of(s, tau, how):
    """m [B, H, L] between 0 and 1."""
    tau = tau[:, None] if tau.dim() else tau
    if how.intv_mask_mode == "hard":
        return (s > tau).to(s.dtype)
    if how.intv_mask_mode == "soft":
        return torch.sigmoid((s - tau) / max(1e-6, how.intv_soft_temp))
    raise ValueError(f"_intv_mask_mode: wanted soft or hard, got {how.intv_mask_mode!r}")


def geometry(o, delta):
    """How the refinement lies to what was read: means over rows and positions, [H] each. It changes nothing."""
    alpha, par, orth = split(o, delta)
    size = norm(delta).clamp(min=EPS)
    found = {
        "geom_alpha_mean": alpha,
        "geom_alpha_abs": alpha.abs(),
        "geom_sign_pos": (alpha > 0).to(alpha.dtype),
        "geom_orth_frac": norm(orth) / size,
        "geom_d_ratio": size / norm(o).clamp(min=EPS),
        "geom_dpar_ratio": norm(par) / size,
    }
    return {name: value.mean(dim=(0, 2)) for name, value in found.items()}


def mean_over_chunks(logs):
    """Plain averages over chunks: of [H] where a log is [H], of scalar means otherwise; the scalars under their other names too."""
    found = {}
    for name in logs[0]:
        rows = [log[name] if log[name].dim() == 1 else log[name].mean() for log in logs]
        found[name] = torch.stack(rows).mean(0)
    return found | {alias: found[name] for name, alias in ALIASES.items() if name in found}


def intervene_info(p, settings, call, level, cfg):
    """Tensors as `level` and `cfg` ask, None where something is not stored, and scalars."""
    logits = level in ("logits", "full") and cfg["store_read_logits"]
    writes = level == "full" and cfg["store_write_logits"]
    norms = level == "full" and cfg["store_slot_state_norm"]

    def thinned(x, time_axis=None):
        if x is None:
            return None
        x = x[:: cfg["batch_stride"]]
        if time_axis is not None:
            x = x[(slice(None),) * time_axis + (slice(None, None, cfg["time_stride"]),)]
        return x.cpu() if cfg["detach_to_cpu"] else x

    info = {
        "read_weights": thinned(p.r, 2) if cfg["store_read_weights"] else None,
        "read_logits": thinned(p.logits, 2) if logits else None,
        "read_logits_key": thinned(p.key, 2) if logits else None,
        "read_logits_content": thinned(p.content, 2) if logits else None,
        "write_logits_raw": thinned(p.raw, 3) if writes else None,
        "write_logits": thinned(p.w, 3) if writes else None,
        "slot_state_norm": thinned(torch.linalg.vector_norm(p.S, dim=-1), 3) if norms else None,
        "out1": thinned(p.o) if cfg["store_out1"] else None,
        "delta": thinned(p.delta) if cfg["store_delta"] else None,
        "slot_w": thinned(p.z, 2) if cfg["store_slot_w"] else None,
        "content_read_gamma": p.gamma,
        "routing_mode": call.routing_mode,
        "slot_mask_where": call.slot_mask_where,
        "slot_mask_scope": call.slot_mask_scope,
    }
    if settings.use_alibi_write:
        info["alibi_bias_applied"] = thinned(p.bias, 3) if level == "full" else None
        if settings.learn_alibi_strength:
            info["alibi_strength"] = p.strength
    if settings.use_slotspace_refine:
        info["slotspace_gate"] = p.gate
        info["use_rope_slotspace"] = torch.tensor(bool(settings.use_rope_slotspace))
        info["slotspace_delta_norm"] = torch.linalg.vector_norm(p.delta, dim=-1).mean()  # with the gate
    return info
