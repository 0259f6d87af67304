"""Knocking out slots: what a slot is worth is what the model loses where no head of the layer may read it.

Symbols: K = slots of a layer. A slot is masked before the softmax, so its read weight goes to the slots that are kept. The cost is told in
bits a byte of held-out rows, against the same rows with every slot. Nulls: other slots of the layer, the random twin, and for "what is read
much is worth much" the same usages dealt to the slots at random. Budget: 6 CPU seconds.
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


class Entered:
    """A layer with what enters its block [row, T, C], the mean read weight of its slots, and the nats of every row as they are."""

    @torch.no_grad()
    def __init__(self, lm, rows, index):
        seen = []
        hook = lm.blocks[index].register_forward_pre_hook(lambda block, args: seen.append(args[0]))
        _, infos = lm(rows.ids, return_info=True, info_level="basic")
        hook.remove()
        self.lm, self.rows, self.index, self.layer, self.x = lm, rows, index, lm.layers[index], seen[0]
        self.usage = routing.slot_usage(routing.valid_rows(infos[index]["read_weights"], rows.is_real)).numpy()
        self.whole = self.spent()

    def spent(self):
        """Nats of every row, run from the block on."""
        x = self.x
        for block in self.lm.blocks[self.index :]:
            x, _ = block(x)
        return nats(self.lm.lm_head(self.lm.norm(x)), self.rows)

    @torch.no_grad()
    def cost(self, keep):
        """Nats that it costs every row to read the slots in `keep` [K] alone."""
        with setting(self.layer, slot_mask=torch.as_tensor(keep, device=self.x.device)):
            return self.spent() - self.whole


def knockouts(entered, slots):
    """[slot, row] costs of reading every slot but one."""
    return np.array([entered.cost(1 - np.eye(entered.layer.num_slots)[slot]) for slot in slots])


def test_knockout(asm, asm_twin, rows, record, rng):
    """The cost of losing the slot that is read most, or a slot at random, and whether cost goes with usage (rank correlation over slots)."""
    text = rows(N_ROWS)
    for index, layer in enumerate(asm.layers):
        entered, slots = Entered(asm, text, index), range(layer.num_slots)
        costs, most = knockouts(entered, slots), int(entered.usage.argmax())
        samples = [
            {"item": f"slot {k}", "value": per_byte(costs[k], text).value, "usage": entered.usage[k]} for k in slots
        ]
        others = per_byte(np.delete(costs, most, 0).mean(0), text)
        record("knockout_cost", per_byte(costs[most], text), lost="most read", layer=index, samples=samples,
               null=("mean of the other slots", others))  # fmt: skip
        few = text.first(2)
        twins = per_byte(knockouts(Entered(asm_twin, few, index), slots[::4]).mean(0), few)
        record(
            "knockout_cost",
            per_byte(costs.mean(0), text),
            lost="one at random",
            layer=index,
            null=("random_weights", twins),
        )
        ranks, worth = rankdata(entered.usage), rankdata(costs.mean(1))
        dealt = [np.corrcoef(rng.permutation(ranks), worth)[0, 1] for _ in range(DEALS)]
        null = Estimate(np.mean(dealt), len(slots), np.std(dealt), tuple(np.quantile(dealt, [0.025, 0.975])))
        record("usage_cost_correlation", np.corrcoef(ranks, worth)[0, 1], n=len(slots), layer=index,
               null=("usages dealt at random", null))  # fmt: skip
        assert costs.any()


def test_single_slot(asm, asm_twin, rows, record):
    """The cost of reading one slot for everything, the one that is read most: what the layer's choice among slots is worth. Null: the
    random twin, whose choice is worth nothing."""
    text = rows(N_ROWS_OF_SINGLE)
    for index, layer in enumerate(asm.layers):
        ours, twin = (Entered(lm, text, index) for lm in (asm, asm_twin))
        cost, null = (per_byte(e.cost(np.eye(layer.num_slots)[e.usage.argmax()]), text) for e in (ours, twin))
        record("knockout_cost", cost, lost="all but the most read", layer=index, null=("random_weights", null))
        assert ours.whole.all()
