"""Knocking out slots: what a slot is worth is what the model loses where no head of the layer may read it.

Symbols: K = slots of a layer. A slot is masked before the softmax, so its read weight goes to the slots that are kept. The cost is told in
bits a byte of held-out rows, against the same rows with every slot. Nulls: other slots of the layer, the random twin, and for "what is read
much is worth much" the same usages dealt to the slots at random. Budget: 8 CPU seconds.
"""

import numpy as np
import pytest
import torch
from evals.asa.rows import nats, per_byte
from scipy.stats import rankdata

from asa.interventions import setting
from trialplate.metrics import routing
from trialplate.metrics.estimate import Estimate

pytestmark = pytest.mark.requires_architecture("asm")
N_ROWS, N_ROWS_OF_SINGLE, DEALS = 6, 16, 2000


class Observed:
    """One run with every slot: what enters each block [row, T, C], the mean read weight of each slot [layer][K], the nats of every row."""

    @torch.no_grad()
    def __init__(self, lm, rows):
        self.lm, self.rows, self.stream = lm, rows, []
        hooks = [b.register_forward_pre_hook(lambda _, args: self.stream.append(args[0])) for b in lm.blocks]
        logits, infos = lm(rows.ids, return_info=True, info_level="basic")
        for hook in hooks:
            hook.remove()
        reads = [routing.valid_rows(info["read_weights"], rows.is_real) for info in infos]
        self.usage = [routing.slot_usage(weights).numpy() for weights in reads]
        self.whole = nats(logits, rows)

    @torch.no_grad()
    def cost(self, layer, keep):
        """Nats that it costs every row to read only the slots in `keep` [K] in a layer; the run begins at its block."""
        x = self.stream[layer]
        with setting(self.lm.layers[layer], slot_mask=torch.as_tensor(keep, device=x.device)):
            for block in self.lm.blocks[layer:]:
                x, _ = block(x)
        return nats(self.lm.lm_head(self.lm.norm(x)), self.rows) - self.whole

    def knockouts(self, layer, slots):
        """[slot, row] costs of reading every slot but one."""
        return np.array([self.cost(layer, 1 - np.eye(len(self.usage[layer]))[slot]) for slot in slots])


def test_knockout(asm, asm_twin, rows, record, rng):
    """The cost of losing the slot that is read most, or a slot at random, and whether cost goes with usage (rank correlation over slots)."""
    text = rows(N_ROWS)
    few = text.first(2)
    ours, twin = Observed(asm, text), Observed(asm_twin, few)
    for layer, usage in enumerate(ours.usage):
        slots, most = range(len(usage)), int(usage.argmax())
        costs = ours.knockouts(layer, slots)
        samples = [{"item": f"slot {k}", "value": per_byte(costs[k], text).value, "usage": usage[k]} for k in slots]
        others = per_byte(np.delete(costs, most, 0).mean(0), text)
        record("knockout_cost", per_byte(costs[most], text), lost="most read", layer=layer, samples=samples,
               null=("mean of the other slots", others))  # fmt: skip
        record("knockout_cost", per_byte(costs.mean(0), text), lost="one at random", layer=layer,
               null=("random_weights", per_byte(twin.knockouts(layer, slots[::4]).mean(0), few)))  # fmt: skip
        ranks, worth = rankdata(usage), rankdata(costs.mean(1))
        dealt = [np.corrcoef(rng.permutation(ranks), worth)[0, 1] for _ in range(DEALS)]
        null = Estimate(np.mean(dealt), len(slots), np.std(dealt), tuple(np.quantile(dealt, [0.025, 0.975])))
        record("usage_cost_correlation", np.corrcoef(ranks, worth)[0, 1], n=len(slots), layer=layer,
               null=("usages dealt at random", null))  # fmt: skip
        assert costs.std(0).all()


def test_single_slot(asm, asm_twin, rows, record):
    """The cost of reading one slot for everything, the one that is read most: what the layer's choice among slots is worth. Null: the
    random twin, whose choice is worth nothing."""
    text = rows(N_ROWS_OF_SINGLE)
    ours, twins = Observed(asm, text), Observed(asm_twin, text)
    for layer in range(len(asm.layers)):
        cost, null = (
            per_byte(seen.cost(layer, np.eye(len(seen.usage[layer]))[seen.usage[layer].argmax()]), text)
            for seen in (ours, twins)
        )
        record("knockout_cost", cost, lost="all but the most read", layer=layer, null=("random_weights", null))
    assert (ours.whole > 0).all()
