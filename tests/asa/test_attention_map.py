"""The effective attention map says exactly what a head reads: applied to the values it gives the layer's output."""

from __future__ import annotations

import pytest
import torch

from asa.asa import AddressedStateAttention
from asa.attention_map import attention_map

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("chunk", "mode", "length"),
    [(8, "reference", 37), (1, "reference", 20), (128, "reference", 37), (0, "reference", 21), (8, "exact", 37)],
)
def test_shares_times_values_are_the_reads(chunk, mode, length):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = AddressedStateAttention(
            32, 4, 6, write_chunk_size=chunk, write_mode=mode, alibi_strength_init=1.0, use_slotspace_refine=False
        ).eval()
        x = torch.randn(2, length, 32)
    with torch.no_grad():
        for linear in (layer.Wk_write, layer.Wq_read):
            linear.weight.mul_(4)  # far from uniform weights
        y, info = layer(x, return_info=True)
        shares = attention_map(info, chunk, exact=mode == "exact")
        values = layer.Wv_write(x).unflatten(-1, (4, 8)).transpose(1, 2)
        again = layer.out_proj((shares @ values).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(again, y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 4, length))
    assert not shares.triu(1).any()
    assert float(shares.min()) >= 0


def test_masked_tokens_have_no_share():
    layer = AddressedStateAttention(32, 4, 6, write_chunk_size=4).eval()
    mask = torch.tensor([[0, 0, 1, 1, 0, 1, 1]])
    with torch.no_grad():
        _, info = layer(torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(0)), mask, return_info=True)
    shares = attention_map(info, 4)
    assert torch.isfinite(shares).all()
    assert not shares[..., mask[0] == 0].any()
    assert not shares[:, :, :2].any()  # nothing was written yet
    torch.testing.assert_close(shares[:, :, 2:].sum(-1), torch.ones(1, 4, 5))


def test_a_record_without_weights_is_refused():
    with pytest.raises(ValueError, match="wanted a record with read_weights and write_logits"):
        attention_map({"read_weights": None}, 8)
