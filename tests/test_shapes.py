"""Shapes and dtypes of what the model core gives: layers, records, blocks, language models, states."""

import pytest
import torch

import asa
from asa import ASMBlock, ASMLanguageModel

pytestmark = pytest.mark.fast
B, T, C, H, K, M = 2, 21, 24, 4, 6, 8
CLASSES = ("AddressedStateAttention", "AddressedStateAttentionOnline", "AddressedStateAttentionIntervene")


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"use_slotspace_refine": False}, {"use_content_read": False}, {"use_alibi_write": False}, {"num_slots": 1}],
)
@pytest.mark.parametrize("length", [1, 7, T, 40])
def test_layers_keep_the_shape(cls, changes, length):
    layer = getattr(asa, cls)(
        **{"embed_dim": C, "num_heads": H, "num_slots": K, "slotspace_dim": M, "write_chunk_size": 8, **changes}
    )
    x = torch.randn(B, length, C)
    y, info = layer(x)
    assert (y.shape, y.dtype, info) == (x.shape, x.dtype, None)


@pytest.mark.parametrize("cls", ["AddressedStateAttention", "AddressedStateAttentionIntervene"])
def test_records(cls):
    layer = getattr(asa, cls)(C, H, K, slotspace_dim=M, write_chunk_size=8).eval()
    _, info = layer(
        torch.randn(B, T, C), return_info=True, info_cfg={"store_out1": True, "store_delta": True, "store_slot_w": True}
    )
    routed, written, heads = [B, H, T, K], [B, H, K, T], [B, H, T, C // H]
    wanted = {
        **dict.fromkeys(("read_weights", "read_logits", "read_logits_key", "read_logits_content", "slot_w"), routed),
        **dict.fromkeys(("write_logits_raw", "write_logits", "slot_state_norm"), written),
        **dict.fromkeys(("out1", "delta"), heads),
        **{
            key: []
            for key in (
                "alibi_strength",
                "content_read_gamma",
                "slotspace_gate",
                "slotspace_delta_norm",
                "use_rope_slotspace",
            )
        },
        "alibi_bias_applied": [1, H, 1, T],
    }
    assert {name: list(info[name].shape) for name in wanted} == wanted
    assert not any(value.requires_grad for value in info.values() if isinstance(value, torch.Tensor))


def test_strides_and_levels_of_a_record():
    layer = asa.AddressedStateAttentionIntervene(C, H, K, slotspace_dim=M).eval()
    x = torch.randn(B, T, C)
    _, info = layer(x, return_info=True, info_cfg={"time_stride": 4, "batch_stride": 2, "store_out1": True})
    assert list(info["read_weights"].shape) == [1, H, 6, K]
    assert list(info["write_logits"].shape) == [1, H, K, 6]
    assert list(info["out1"].shape) == [1, H, T, C // H]
    _, basic = layer(x, return_info=True, info_level="basic")
    _, logits = layer(x, return_info=True, info_level="logits")
    assert [basic[name] is None for name in ("read_weights", "read_logits", "write_logits")] == [False, True, True]
    assert [logits[name] is None for name in ("read_weights", "read_logits", "write_logits")] == [False, False, True]


def test_light_statistics_are_scalars():
    _, stats = asa.AddressedStateAttentionOnline(C, H, K, slotspace_dim=M)(
        torch.randn(B, T, C), return_info=True, return_light_stats=True
    )
    assert set(stats) == {
        "alibi_strength_mean",
        "content_read_gamma_mean",
        "slotspace_gate_mean",
        "slotspace_delta_norm",
        "entropy_mean",
        "top1freq_mean",
    }
    assert all(value.ndim == 0 for value in stats.values())


@pytest.mark.parametrize("variant", ["baseline", "online", "intervene"])
def test_blocks_and_language_models(variant):
    block = ASMBlock(C, H, K, variant=variant, slotspace_dim=M)
    y, info = block(torch.randn(B, T, C))
    assert list(y.shape) == [B, T, C]
    assert info is None
    model = ASMLanguageModel(
        31,
        embed_dim=C,
        num_layers=2,
        num_heads=H,
        num_slots=K,
        slotspace_dim=M,
        max_seq_len=T,
        variant=variant,
        use_abs_pos=True,
    ).eval()
    ids = torch.randint(0, 31, (B, T))
    logits, infos = model(ids, return_info=True)
    assert list(logits.shape) == [B, T, 31]
    assert len(infos) == 2
    assert list(model(ids).shape) == [B, T, 31]
    assert list(model.hidden(ids).shape) == [B, T, C]
    hidden, state = model.prefill(ids[:, :9])
    assert list(hidden.shape) == [B, 9, C]
    assert state.position.tolist() == [9, 9]
    hidden, later = model.extend(ids[:, 9:11], state)
    assert list(hidden.shape) == [B, 2, C]
    assert later.select(torch.tensor([1, 1, 0])).position.tolist() == [11, 11, 11]
    width = C // H
    assert state.numel_per_row() == later.numel_per_row() == 2 * H * (2 * K * width + 4 * K + M * K + M)
