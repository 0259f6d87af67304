"""Where heads read: how sharp their read weights are, whether one slot serves all, and how many slots are in use, layer by layer.

Symbols: p = read weights of one head at one position, probabilities over K slots. Routing that is uniform, or stuck on one slot, addresses
nothing, and a model may still predict the next token from the last few. Rows of held-out text are the observations.
Budget: 2 CPU seconds.
"""

import math

import numpy as np
import pytest
import torch

from trialplate.metrics import routing, statistics

pytestmark = pytest.mark.requires_architecture("asm")
N_ROWS = 12


@torch.no_grad()
def weights_by_row(lm, rows):
    """Of each layer the read weights of every row at its real positions: [layer][row] of [position * head, slot]."""
    _, infos = lm(rows.ids, return_info=True, info_level="basic")
    return [
        [routing.valid_rows(w[None], real[None]) for w, (_, real) in zip(info["read_weights"], rows, strict=True)]
        for info in infos
    ]


def test_sharpness(asm, asm_twin, rows, record):
    """Entropy of the read weights (nats; null: the random twin), and 1 - entropy / ln K, which is 0 where every slot is read alike."""
    text = rows(N_ROWS)
    top = math.log(asm.layers[0].num_slots)
    for layer, (ours, twins) in enumerate(zip(weights_by_row(asm, text), weights_by_row(asm_twin, text), strict=True)):
        entropy, twin = (np.array([routing.read_entropy(w) for w in found]) for found in (ours, twins))
        record("read_entropy", statistics.mean(entropy), null=("random_weights", statistics.mean(twin)), layer=layer)
        record("read_sharpness", statistics.mean(1 - entropy / top), null=("uniform over slots", 0.0), layer=layer)
        assert (entropy <= top + 1e-6).all()


def test_favourite_slot(asm, asm_twin, rows, record):
    """Share of (head, position) whose first choice is the slot that is first choice most often; 1 / K at least, 1 where one slot serves all."""
    text = rows(N_ROWS)
    for layer, (ours, twins) in enumerate(zip(weights_by_row(asm, text), weights_by_row(asm_twin, text), strict=True)):
        record("top1_frequency", favourite_share(ours), null=("random_weights", favourite_share(twins)), layer=layer)
        assert favourite_share(ours).value == pytest.approx(routing.top1_frequency(torch.cat(ours)))


def favourite_share(found):
    """Over the rows together, with each row one observation."""
    choices = [w.argmax(-1) for w in found]
    favourite = torch.bincount(torch.cat(choices)).argmax()
    return statistics.ratio_of_sums([(c == favourite).sum().item() for c in choices], [len(c) for c in choices])


def test_slot_usage(asm, asm_twin, rows, record):
    """Slots in use by mean read weight (exp of its entropy, 1 to K), and the share of (head, slot) that is somewhere the first choice."""
    text = rows(N_ROWS)
    for layer, (ours, twins) in enumerate(zip(weights_by_row(asm, text), weights_by_row(asm_twin, text), strict=True)):
        used, twin = (routing.usage_perplexity(torch.cat(found)) for found in (ours, twins))
        record("usage_perplexity", used, n=len(text), null=("random_weights", twin), layer=layer)
        ever, twin = (ever_chosen(found, asm.layers[layer].num_heads) for found in (ours, twins))
        record("slots_ever_chosen", ever.mean(), n=ever.size, null=("random_weights", twin.mean()), layer=layer)
        assert ever.any()


def ever_chosen(found, n_heads):
    """[head, slot]: whether the head reads that slot most at some position. Rows of `found` go head by head within each position."""
    choices = torch.cat(found).unflatten(0, (-1, n_heads)).argmax(-1)
    return np.stack([np.bincount(c, minlength=found[0].shape[-1]) > 0 for c in choices.T.cpu().numpy()])
