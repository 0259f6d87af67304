"""Across the borders of write chunks: what any causal language model must do, where an Addressed State Model could go wrong.

At a border the sums of a chunk are folded into what is carried, so causality, decoding and padding are measured on texts of several chunks
(the model's own, or a quarter of its window where no border would lie inside it). Budget: 2 CPU seconds.
"""

import pytest

from asa.interventions import setting
from trialplate.models import checks

pytestmark = pytest.mark.requires_architecture("asm")
MOST = 512


@pytest.fixture
def chunk(model, asm):
    """The chunk size that the model has for the length of the case."""
    window, own = min(model.max_length, MOST), asm.layers[0].write_chunk_size
    size = own if 0 < own <= window // 2 else max(2, window // 4)
    with setting(asm.layers, write_chunk_size=size):
        yield size


@pytest.fixture
def length(model, chunk):
    """Two whole chunks and the beginning of a third, where the window has room for them."""
    return min(model.max_length, MOST, 2 * chunk + 3)


def test_causality_across_borders(model, chunk, length, record, rng):
    """Changing a token anywhere in several chunks leaves every logit before it alone."""
    gap = checks.causality_gap(model, rng, n=8, length=length)
    record("causality_gap", gap, n=8, null=("scale of the logits", checks.logit_scale(model, rng)), chunk=chunk)
    assert length > chunk


def test_decoding_across_borders(model, asm, chunk, length, record, rng):
    """Decoding token by token, and in pieces that straddle borders, equals reading at once. The state never grows."""
    gap = checks.cache_gap(model, rng, length=length, chunkings=((1,), (chunk + 1, 2), (chunk - 1, 1)))
    record("cache_gap", gap, n=2, null=("scale of the logits", checks.logit_scale(model, rng)), chunk=chunk)
    sizes = [asm.prefill(checks.random_ids(model, rng, 1, n))[1].numel_per_row() for n in (1, chunk, length)]
    keys_and_values = 2 * model.n_layers * model.d_model * model.max_length
    record("decoding_state", sizes[-1], n=len(sizes), null=("keys and values of a full window", keys_and_values))
    assert len(set(sizes)) == 1


def test_padding_across_borders(model, chunk, length, record, rng):
    """Padding behind a mask moves no border: on either side it leaves the logits of real tokens alone."""
    gap, scale = checks.padding_gap(model, rng, length=length - 3, n_pad=3), checks.logit_scale(model, rng)
    for side in ("left", "right"):
        record("padding_gap", getattr(gap, side), n=4, null=("scale of the logits", scale), side=side, chunk=chunk)
    assert length - 3 >= chunk
