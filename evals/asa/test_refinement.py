"""The refinement: how the gated delta lies to the plain read, and what its parts are worth.

Symbols: o = plain read, delta = gated refinement of one head at one position; delta = par + orth with par = alpha o along the read.
Nulls: a random direction of the same length, drawn for each head and position, and the random twin. Published for a model of 230M
parameters: alpha -0.8, orthogonal fraction 0.2, |delta| / |o| 0.84, and an orthogonal part alone that ruins the model; a model whose gate
has hardly opened says nothing about that. Budget: 3 CPU seconds.
"""

import contextlib

import pytest
import torch
from evals.asa.rows import nats

from asa.asm_lm import build_model_from_cfg
from asa.interventions import setting
from asa.refine import split
from trialplate.metrics import statistics

pytestmark = pytest.mark.requires_architecture("asm", use_slotspace_refine=True)
N_ROWS = 8
PARTS = {
    "parallel only": {"_intv_mode": "delta_par"},
    "orthogonal only": {"_intv_mode": "delta_orth"},
    "nothing": {"_intv_mode": "orth_gate", "_intv_beta": 0.0, "_intv_par_beta": 0.0, "_intv_tau_kind": "abs", "_intv_score_clip_pctl": None},
}  # fmt: skip
STORED = {"store_out1": True, "store_delta": True}


def randomly_turned(delta, generator):
    """A delta of the same length in a random direction."""
    turned = torch.randn(delta.shape, generator=generator).to(delta)
    return turned * (delta.norm(dim=-1, keepdim=True) / turned.norm(dim=-1, keepdim=True))


@torch.no_grad()
def geometry(lm, rows, generator):
    """Of each layer, row by row: alpha, orthogonal fraction, |delta| / |o|, and the fraction if delta were turned at random."""
    _, infos = lm(rows.ids, return_info=True, info_level="basic", info_cfg=STORED)
    return [geometry_of_layer(info["out1"], info["delta"], rows, generator) for info in infos]


def geometry_of_layer(read, delta, rows, generator):
    parts, turned = split(read, delta), split(read, randomly_turned(delta, generator))
    values = {
        "alpha": parts.alpha,
        "orthogonal": parts.orth_norm / parts.delta_norm.clamp(min=1e-8),
        "size": parts.delta_norm / parts.read_norm.clamp(min=1e-8),
        "turned alpha": turned.alpha,
        "turned": turned.orth_norm / turned.delta_norm.clamp(min=1e-8),
    }
    return {
        name: statistics.mean([v[:, real].double().mean().item() for v, real in zip(value, rows.is_real, strict=True)])
        for name, value in values.items()
    }


def test_refinement_geometry(asm, asm_twin, rows, record, seed):
    """alpha, the share of delta that lies across the read, and its length relative to the read; means over heads and positions of a row."""
    text = rows(N_ROWS)
    ours, twins = (geometry(lm, text, torch.Generator().manual_seed(seed)) for lm in (asm, asm_twin))
    for layer, (found, twin) in enumerate(zip(ours, twins, strict=True)):
        record("refinement_alpha", found["alpha"], null=("random direction", found["turned alpha"]), layer=layer)
        record("refinement_orthogonal", found["orthogonal"], null=("random direction", found["turned"]), layer=layer)
        record("refinement_size", found["size"], null=("random_weights", twin["size"]), layer=layer)
        assert found["size"].value > 0


def intervening(lm):
    """The same weights in the class that takes interventions."""
    weight, found = lm.tok.weight, build_model_from_cfg(lm.cfg, "intervene")
    found.load_state_dict(lm.state_dict())
    return found.to(device=weight.device, dtype=weight.dtype).eval()


@contextlib.contextmanager
def turned_at_random(lm, generator):
    """Every refinement keeps its length and loses its direction."""

    def turn(layer, args, output):
        y, info = output
        change = randomly_turned(info["delta"], generator) - info["delta"]  # [row, head, T, head width]
        return y + layer.out_proj(change.transpose(1, 2).flatten(-2).to(y)), info

    hooks = [layer.register_forward_hook(turn) for layer in lm.layers]
    yield
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def costs(lm, rows, generator):
    """{what is left of every delta: nats a row that it costs}, by name."""
    whole, found = nats(lm(rows.ids), rows), {}
    for name, settings in PARTS.items():
        with setting(lm.layers, **settings):
            found[name] = nats(lm(rows.ids), rows) - whole
    with turned_at_random(lm, generator):
        logits, _ = lm(rows.ids, return_info=True, info_level="basic", info_cfg=STORED)
    return found | {"random direction": nats(logits, rows) - whole}


def test_refinement_ablation(asm, asm_twin, rows, record, seed):
    """Nats a token that are lost where all layers keep only a part of their refinement, nothing of it, or its length alone."""
    text = rows(N_ROWS)
    ours, twins = (costs(intervening(lm), text, torch.Generator().manual_seed(seed)) for lm in (asm, asm_twin))
    random = per_token(ours["random direction"], text)
    for kept in PARTS:
        null = ("random direction of the same length", random)
        record("refinement_cost", per_token(ours[kept], text), kept=kept, null=null)
    twin = per_token(twins["random direction"], text)
    record("refinement_cost", random, kept="random direction", null=("random_weights", twin))
    assert all(cost.any() for cost in ours.values())


def per_token(cost, rows):
    """Mean over the tokens that were predicted."""
    return statistics.ratio_of_sums(cost, (rows.is_real.sum(1) - 1).cpu().numpy())
