"""Known behaviours of published code, each kept or fixed here; docs/METHOD.md has the table, whose row numbers are those of these tests."""

import math

import pytest
import torch
from tests.asa.tiny_models import tiny
from torch.testing import assert_close

from asa import AddressedStateAttention, AddressedStateAttentionIntervene, AddressedStateAttentionOnline, setting
from asa.asm_block import ASMBlock
from asa.checkpoint import load_checkpoint, save_checkpoint
from asa.refine import Refine, intervene
from asa.rotary import Rotary, rotate
from asa.scan import WriteState, write_exact, write_reference

pytestmark = pytest.mark.fast

WIDTH, HEADS, SLOTS, CHUNK, LENGTH = 16, 2, 4, 16, 37
CLASSES = (AddressedStateAttention, AddressedStateAttentionOnline, AddressedStateAttentionIntervene)


def layer_of(cls=AddressedStateAttention, seed=0, **changes):
    """A small layer with open gates, whose parts all matter."""
    how = {
        "write_chunk_size": CHUNK,
        "slotspace_dim": 8,
        "alibi_strength_init": 1.0,
        "content_read_init": 0.5,
        "slotspace_gate_init": 0.5,
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layer = cls(WIDTH, HEADS, SLOTS, **{**how, **changes}).eval().requires_grad_(False)
        for name, parameter in layer.named_parameters():
            if name.startswith(("Wk", "Wq", "slot_")):
                parameter.mul_(2)
    return layer


def x_of(rows=2, length=LENGTH, seed=1):
    return torch.randn(rows, length, WIDTH, generator=torch.Generator().manual_seed(seed))


def mask_of(*padded, length=LENGTH):
    """One row for each slice of masked columns."""
    mask = torch.ones(len(padded), length, dtype=torch.long)
    for row, columns in enumerate(padded):
        mask[row, columns] = 0
    return mask


def columns_that_differ(a, b):
    """[row, column] pairs at which tensors [b, H, T, n] differ."""
    return [tuple(pair) for pair in (a != b).any(-1).any(1).nonzero().tolist()]


# 1. The write depends on where chunks begin: kept, with an exact mode beside it.


def test_1_slot_states_of_both_modes_worked_out_by_hand():
    logits = torch.tensor([0.0, 1.0, 0.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).reshape(1, 1, 4, 1)
    nothing = WriteState.empty(1, 1, 1, 1, dtype=torch.float64, device=torch.device("cpu"))
    first = write_reference(logits[..., :2], values[:, :, :2], nothing)
    second = write_reference(logits[..., 2:], values[:, :, 2:], first.state.folded(torch.tensor([True])))
    e = math.e
    # Weights of tokens 0 and 1 are 1 and 1 where they came; the rise to 1 at token 1 does not shrink the first. The fold at token 2 leaves
    # them; the rise to 2 at token 3 shrinks what was carried by e, and leaves the 1/e of token 2 in its own chunk alone.
    wanted = [1, (1 + 2) / 2, (1 + 2 + 3 / e) / (2 + 1 / e), (3 / e + 3 / e + 4) / (2 / e + 1 / e + 1)]
    assert_close(torch.cat([first.slots, second.slots], 2).flatten(), torch.tensor(wanted, dtype=torch.float64))
    softmax = [1, (1 + 2 * e) / (1 + e), (1 + 2 * e + 3) / (2 + e), (1 + 2 * e + 3 + 4 * e**2) / (2 + e + e**2)]
    assert_close(write_exact(logits, values, nothing).slots.flatten(), torch.tensor(softmax, dtype=torch.float64))


@pytest.mark.parametrize("cls", CLASSES)
def test_1_the_chunk_size_is_part_of_the_function_and_the_exact_mode_has_none(cls):
    x = x_of()
    found = {chunk: layer_of(cls, write_chunk_size=chunk)(x)[0] for chunk in (1, 8, 16, 0)}
    for one, other in ((1, 8), (8, 16), (16, 0)):
        assert (found[one] - found[other]).norm() / found[other].norm() > 0.01
    assert_close(found[0], layer_of(cls, write_chunk_size=LENGTH)(x)[0])
    for chunk in (1, 8, 0):
        exact = layer_of(cls, write_chunk_size=chunk, write_mode="exact")(x)[0]
        assert_close(exact, found[1], rtol=1e-4, atol=1e-5)


def test_1_a_checkpoint_keeps_its_chunk_size_and_mode(tmp_path):
    loaded = load_checkpoint(save_checkpoint(tmp_path / "a.pt", tiny(write_chunk_size=7, write_mode="exact")))
    assert [(layer.write_chunk_size, layer.write_mode) for layer in loaded.model.layers] == [(7, "exact")] * 2


# 2. The position table mixes two conventions: kept.


def test_2_the_rotary_table_worked_out_by_hand():
    cos, sin = Rotary(4, base=100.0).at(torch.tensor([3]), torch.float32)
    fast, slow = (
        3.0,
        0.3,
    )  # 3 * 100^0 and 3 * 100^(-1/2); the channels have fast, slow, fast, slow, and pairs are (0, 1) and (2, 3)
    turned = rotate(torch.tensor([[1.0, 2.0, 5.0, 7.0]]), cos, sin)
    wanted = [
        1 * math.cos(fast) - 2 * math.sin(fast), 2 * math.cos(slow) + 1 * math.sin(slow),
        5 * math.cos(fast) - 7 * math.sin(fast), 7 * math.cos(slow) + 5 * math.sin(slow),
    ]  # fmt: skip
    assert_close(turned, torch.tensor([wanted]))


def test_2_the_table_is_no_rotation_and_knows_no_relative_positions():
    rope = Rotary(8, base=1e4)
    query, key = x_of(1, 1)[0, 0, :8], x_of(1, 1, seed=2)[0, 0, :8]

    def at(x, t):
        return rotate(x, *(table[0] for table in rope.at(torch.tensor([t]), x.dtype)))

    assert abs(at(query, 5).norm() / query.norm() - 1) > 0.01
    assert abs(at(query, 5) @ at(key, 3) - at(query, 15) @ at(key, 13)) > 0.01


# 3. Padding in front gave NaN: fixed, a slot in which nothing was written is 0.


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_3_padding_in_front_is_finite_and_changes_no_other_row(cls, mode):
    x, layer = x_of(), layer_of(cls, write_mode=mode)
    y = layer(x, mask_of(slice(0, 0), slice(0, 20)))[0]
    assert torch.isfinite(y).all()
    assert_close(y[:1], layer(x[:1])[0])
    assert torch.isfinite(layer(x, mask_of(slice(0, 0), slice(0, LENGTH)))[0]).all()  # a row without any token


def test_3_slots_are_zero_until_something_is_written():
    _, info = layer_of()(x_of(), mask_of(slice(0, 0), slice(0, 20)), return_info=True)
    assert (info["slot_state_norm"] == 0).all(2).all(1).nonzero().tolist() == [[1, t] for t in range(20)]


# 4. `last_pos_only` means the end of every write chunk for reads: kept under that name, `last_token` added.


@pytest.mark.parametrize(
    ("where", "scope", "columns"),
    [
        ("read", "last_pos_only", [(0, 15), (0, 31), (0, 36), (1, 15), (1, 31), (1, 36)]),
        ("content_read_only", "last_pos_only", [(0, 15), (0, 31), (0, 36), (1, 15), (1, 31), (1, 36)]),
        ("read", "last_token", [(0, 36), (1, 24)]),
        ("content_read_only", "last_token", [(0, 36), (1, 24)]),
    ],
)
def test_4_where_reads_are_masked(where, scope, columns):
    layer, x, mask = layer_of(), x_of(), mask_of(slice(0, 0), slice(25, None))
    keep = torch.tensor([1, 0, 1, 1])
    _, info = layer(x, mask, return_info=True, slot_mask=keep, slot_mask_where=where, slot_mask_scope=scope)
    _, free = layer(x, mask, return_info=True)
    assert columns_that_differ(info["read_logits"], free["read_logits"]) == columns


@pytest.mark.parametrize(("scope", "columns"), [("last_pos_only", [(0, 36)]), ("last_token", [(0, 36), (1, 24)])])
def test_4_where_slotspace_is_masked(scope, columns):
    """Column 36 of the second row is padding, whose refinement is 0 with and without the mask."""
    layer, x, mask = layer_of(), x_of(), mask_of(slice(0, 0), slice(25, None))
    how = {"slot_mask": torch.tensor([1, 0, 1, 1]), "slot_mask_where": "slotspace_only", "slot_mask_scope": scope}
    delta, free = (layer(x, mask, return_info=True, info_cfg={"store_delta": True}, **h)[1]["delta"] for h in (how, {}))
    assert columns_that_differ(delta, free) == columns


# 5. Online silences slotspace maps of masked tokens before their feature map: kept.


def test_5_online_differs_after_padding_inside_a_text_only():
    default, online = layer_of(), layer_of(AddressedStateAttentionOnline)
    online.load_state_dict(default.state_dict())
    x = x_of()
    assert_close(online(x)[0], default(x)[0])
    right = mask_of(slice(25, None), slice(0, 0))
    assert_close(online(x, right)[0][0, :25], default(x, right)[0][0, :25])
    inside = mask_of(slice(10, 14), slice(0, 0))
    a, b = online(x, inside)[0], default(x, inside)[0]
    assert_close(a[0, :10], b[0, :10])
    assert (a[0, 14:] - b[0, 14:]).abs().amax(-1).min() > 1e-4
    assert_close(a[1], b[1])


# 6. Thresholds of orth_gate are quantiles over the batch, padding included: kept, `_intv_tau_per_head` added.

GATED = {"_intv_mode": "orth_gate", "_intv_mask_mode": "hard", "_intv_score_clip_pctl": None}


def gated(x, mask=None, **how):
    layer = layer_of(AddressedStateAttentionIntervene, write_chunk_size=LENGTH)
    with setting(layer, **GATED, **how):
        return layer(x, mask, return_info=True)


def test_6_a_threshold_depends_on_the_company_and_on_padding():
    x = x_of()
    together, alone = gated(x), gated(x[:1])
    assert together[1]["tau"] != alone[1]["tau"]
    assert not torch.equal(together[0][0], alone[0][0])
    padded = x.clone()
    padded[:, 30:] = 0
    mask = mask_of(slice(30, None), slice(30, None))
    assert gated(padded, mask)[1]["tau"] != gated(padded[:, :30])[1]["tau"]


def test_6_thresholds_per_head_are_means_over_rows_of_quantiles_over_time():
    generator = torch.Generator().manual_seed(3)
    read, delta = torch.randn(2, 2, HEADS, LENGTH, 8, generator=generator)  # each [b, H, L, d]
    how = Refine("orth_gate", mask_mode="hard", score_clip_pctl=None, tau_per_head=True, tau_pctl=75.0)
    logs = intervene(read, delta, read[..., :SLOTS], how)[1]
    wanted = torch.quantile(logs["score"], 0.75, dim=-1).mean(0)
    assert_close(logs["tau"].flatten(), wanted)
    assert torch.equal(logs["mask"], (logs["score"] > wanted[:, None]).float())
    delta[:, 1] = read[:, 1] + 1e-3 * delta[:, 1]  # hardly anything across the read in the second head
    changed = intervene(read, delta, read[..., :SLOTS], how)[1]["tau"].flatten()
    assert changed[0] == wanted[0]
    assert changed[1] < wanted[1]
    assert gated(x_of(), _intv_tau_per_head=True)[1]["tau"].shape == (HEADS,)


# 7. `slotspace_delta_norm` has the gate in one class and not in the others: kept.


def test_7_the_norm_of_the_delta_with_and_without_its_gate():
    default, online, intervene = (layer_of(cls) for cls in CLASSES)
    x = x_of()
    plain = default(x, return_info=True)[1]["slotspace_delta_norm"]
    assert_close(online(x, return_info=True, return_light_stats=True)[1]["slotspace_delta_norm"], plain)
    gate = default.gate
    assert abs(gate - 1) > 0.01
    assert_close(intervene(x, return_info=True)[1]["slotspace_delta_norm"], plain * gate)


# 8. The score `slot_peaked` needed a stored record: fixed.


def test_8_slot_peaked_needs_no_record():
    layer, x = layer_of(AddressedStateAttentionIntervene), x_of()
    with setting(layer, _intv_mode="orth_gate", _intv_score_kind="slot_peaked"):
        y, info = layer(x)
        recorded, _ = layer(x, return_info=True, info_cfg={"store_slot_w": True})
    assert info is None
    assert_close(y, recorded)
    assert (y - layer(x)[0]).abs().max() > 1e-4


# 9. Masking all slots, or a content weight of exactly 0 under a read mask, gave NaN: an error, and guarded.


@pytest.mark.parametrize("scope", ["all", "last_pos_only", "last_token"])
def test_9_a_mask_that_leaves_nothing_to_read_is_refused(scope):
    with pytest.raises(ValueError, match="slot_mask keeps no slot, so there is nothing to read"):
        layer_of()(x_of(), slot_mask=torch.zeros(SLOTS), slot_mask_scope=scope)
    y, _ = layer_of()(x_of(), slot_mask=torch.zeros(SLOTS), slot_mask_where="slotspace_only", slot_mask_scope=scope)
    assert torch.isfinite(y).all()


def test_9_a_content_weight_of_zero_is_no_content_read():
    x, keep = x_of(), torch.tensor([1, 0, 1, 1])
    silent = layer_of(content_read_init=-1e4)
    assert silent.gamma == 0
    without = layer_of(use_content_read=False)
    without.load_state_dict({name: t for name, t in silent.state_dict().items() if "content" not in name})
    assert_close(silent(x, slot_mask=keep)[0], without(x, slot_mask=keep)[0])


# 10. In the second public code the dropout of blocks did not reach attention: fixed. Biases, key lists and positions: see test_checkpoint.py.


def test_10_the_dropout_of_a_block_reaches_its_attention():
    block = ASMBlock(WIDTH, HEADS, SLOTS, dropout=0.37)
    assert block.asa.dropout.p == 0.37
    x = x_of(1)
    with torch.random.fork_rng(devices=[]):
        silent = ASMBlock(WIDTH, HEADS, SLOTS, dropout=1.0).train()
        assert_close(silent(x)[0], x)  # everything that is added is dropped


# 12. A fused public class refined without being asked: fixed.


@pytest.mark.parametrize("cls", CLASSES)
def test_12_without_slotspace_there_is_no_parameter_of_it_and_no_delta(cls):
    layer = layer_of(cls, use_slotspace_refine=False)
    assert not [
        name for name in layer.state_dict() if "slotspace" in name or name.startswith(("slot_in", "slot_q", "slot_out"))
    ]
    reads = layer_of(use_slotspace_refine=False)
    reads.load_state_dict(layer.state_dict())
    x = x_of()
    _, info = reads(x, return_info=True, info_cfg={"store_out1": True})
    assert info["delta"] is None
    assert_close(layer(x)[0], reads.out_proj(info["out1"].transpose(1, 2).flatten(-2)))


# 14. A minimum strength above the initial one sets the strength to the minimum: kept, with a warning.


def test_14_a_minimum_above_the_initial_strength_warns_and_wins():
    with pytest.warns(UserWarning, match=r"min_strength 0\.5 is above alibi_strength_init 0\.1"):
        layer = layer_of(alibi_strength_init=0.1, min_strength=0.5)
    assert_close(layer.strength, torch.tensor(0.5))
    fixed = layer_of(alibi_strength_init=0.1, min_strength=0.5, learn_alibi_strength=False)
    assert_close(fixed.strength, torch.tensor(0.1))  # a fixed strength has no minimum


# 15. The cache of the position table: harmless, and rounded frequencies are computed again.


def test_15_position_tables_have_full_precision_whatever_was_asked_before():
    cpu = torch.device("cpu")
    wanted = [table.clone() for table in Rotary(8, 1e4).table(2000, cpu, torch.float32)]
    rounded = Rotary(8, 1e4).bfloat16()
    assert rounded.inv_freq.dtype == torch.bfloat16
    for dtype in (torch.float64, torch.float32):
        for table, expected in zip(rounded.table(2000, cpu, dtype), wanted, strict=True):
            assert table.dtype == dtype
            assert_close(table.float(), expected)
    longer = rounded.table(2001, cpu, torch.float32)[0]
    assert torch.equal(longer[:2000], wanted[0])


# 16. Overrides stayed set after an error: fixed by a context manager.


def test_16_settings_are_restored_after_an_error():
    model = tiny(variant="intervene")
    keep = torch.ones(8)
    before = [dict(vars(layer)) for layer in model.layers]
    with pytest.raises(KeyError, match="inside"), setting(model.layers, slot_mask=keep, _intv_mode="delta_par"):
        assert all(layer.slot_mask is keep and layer._intv_mode == "delta_par" for layer in model.layers)
        raise KeyError("inside")
    assert [vars(layer) for layer in model.layers] == before


def test_16_a_misspelt_setting_changes_nothing():
    layers = tiny().layers
    with (
        pytest.raises(AttributeError, match="has no setting 'slot_maks'; nearest is 'slot_mask'"),
        setting(layers, routing_override=1, slot_maks=2),
    ):
        pass
    assert all(layer.routing_override is None and layer.slot_mask is None for layer in layers)
