"""The write chunk and the write mode are part of a checkpoint's function: within a chunk a token keeps the weight that it had when it came.

The same weights run with chunks of half and twice the size, and in the other mode (`exact`, the softmax over the whole past, for a
`reference` checkpoint). A checkpoint that is told the wrong one predicts worse than it could, and nothing else says so.
Budget: 3 CPU seconds.
"""

import pytest
import torch
from evals.asa.rows import nats, per_byte

from asa.interventions import setting
from trialplate.metrics import language

pytestmark = pytest.mark.requires_architecture("asm")
N_ROWS = 16


def alternatives(layer, width):
    """{name: settings} of the writes that a text of `width` tokens can tell from the layer's own."""
    chunk = min(layer.write_chunk_size or width, width)
    other = "exact" if layer.write_mode == "reference" else "reference"
    found = {"other mode": {"write_mode": other}, "half chunk": {"write_chunk_size": max(1, chunk // 2)}}
    return found | ({"double chunk": {"write_chunk_size": 2 * chunk}} if chunk < width else {})


@torch.no_grad()
def test_own_chunk_is_best(asm, asm_twin, rows, record):
    """Bits a byte that every other write costs, row by row against the own one; and how far it moves the logits, relative to their size."""
    text = rows(N_ROWS)
    own, twin = asm(text.ids), asm_twin(text.ids)
    spent, twin_spent = nats(own, text), nats(twin, text)
    record("bits_per_byte", language.bits_per_byte(-spent, text.n_bytes), write="own",
           null=("random_weights", language.bits_per_byte(-twin_spent, text.n_bytes)))  # fmt: skip
    for name, changed in alternatives(asm.layers[0], text.ids.shape[1]).items():
        with setting([*asm.layers, *asm_twin.layers], **changed):
            other, twin_other = asm(text.ids), asm_twin(text.ids)
        cost, twin_cost = nats(other, text) - spent, nats(twin_other, text) - twin_spent
        record(
            "bits_per_byte_cost", per_byte(cost, text), write=name, null=("random_weights", per_byte(twin_cost, text))
        )
        record("logit_shift", shift(own, other, text), write=name, n=len(text),
               null=("random_weights", shift(twin, twin_other, text)))  # fmt: skip
    assert (spent > 0).all()


def shift(own, other, text):
    """|other - own| / |own| of centred logits at real positions."""
    a, b = (x[text.is_real].double() for x in (own, other))
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return ((b - a).norm() / a.norm()).item()
