"""What must hold for every ASA layer and model: causality, chunk invariance where it is promised, routings that sum to 1, decoding, dtypes, masks."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import asa
from asa import ASMLanguageModel, setting

pytestmark = pytest.mark.fast


def layer(cls="AddressedStateAttention", **changes):
    torch.manual_seed(changes.pop("seed", 0))
    made = getattr(asa, cls)(
        **{"embed_dim": 24, "num_heads": 4, "num_slots": 6, "slotspace_dim": 8, "write_chunk_size": 16, **changes}
    )
    for name, value in (("_content_read_gamma_raw", 0.5), ("_slotspace_gate_raw", 0.5)):
        if getattr(made, name) is not None:
            getattr(made, name).data.fill_(value)
    return made.eval()


def inputs(length=53, batch=2, seed=1, width=24):
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", ["reference", "exact"])
@pytest.mark.parametrize("with_info", [False, True])
@settings(max_examples=4, deadline=None)
@given(st.integers(0, 51))
def test_a_token_changes_nothing_before_it(mode, with_info, at):
    made, x = layer(write_mode=mode), inputs()
    changed = x.clone()
    changed[:, at + 1 :] += 3.0
    with torch.no_grad():
        before, _ = made(x, return_info=with_info)
        after, _ = made(changed, return_info=with_info)
    assert_close(before[:, : at + 1], after[:, : at + 1], rtol=1e-5, atol=2e-6)
    assert not torch.allclose(before[:, at + 1 :], after[:, at + 1 :])


def test_exact_mode_knows_no_chunks_and_reference_mode_does():
    x = inputs()
    with torch.no_grad():
        exact = [layer(write_mode="exact", write_chunk_size=size)(x)[0] for size in (1, 7, 16, 64, 0)]
        reference = [layer(write_chunk_size=size)(x)[0] for size in (1, 7, 16, 64, 0)]
    for found in exact[1:]:
        assert_close(found, exact[0], rtol=1e-5, atol=1e-6)
    assert_close(reference[0], exact[0], rtol=1e-5, atol=1e-6)
    for found in reference[1:]:
        assert (found - exact[0]).abs().max() > 1e-3


def test_exact_mode_is_the_softmax_over_the_prefix():
    made, x = layer(write_mode="exact", use_slotspace_refine=False, use_content_read=False), inputs(length=20)
    with torch.no_grad():
        _, info = made(x, return_info=True)
        values = made.Wv_write(x).unflatten(-1, (4, -1)).transpose(1, 2)
        for t in (0, 7, 19):
            weights = torch.softmax(info["write_logits"][..., : t + 1], dim=-1)
            assert_close(
                (weights @ values[:, :, : t + 1]).norm(dim=-1), info["slot_state_norm"][..., t], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_strong_recency_stays_finite(mode):
    made = layer(alibi_strength_init=50.0, write_mode=mode)
    x = inputs(length=300).requires_grad_()
    y, _ = made(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in (x, *made.parameters()))


@pytest.mark.parametrize(
    "controls",
    [
        {"routing_mode": "softmax"},
        {"routing_mode": "top1"},
        {"routing_mode": "topk", "routing_topk": 3},
        {"routing_mode": "topk", "routing_topk": 99},
        {"routing_noise": "gumbel"},
        {"routing_noise": "gaussian", "routing_noise_scale": 2.0},
        {"slot_mask": torch.tensor([1.0, 0, 1, 1, 0, 1])},
        {"slot_mask": torch.tensor([1.0, 0, 1, 1, 0, 1]), "slot_mask_scope": "last_token"},
        {"routing_mode": "top1", "slot_mask": torch.tensor([0.0, 0, 0, 0, 0, 1])},
    ],
)
def test_read_weights_sum_to_one(controls):
    with torch.no_grad():
        _, info = layer()(inputs(), return_info=True, **controls)
    assert_close(info["read_weights"].sum(-1), torch.ones(2, 4, 53), rtol=0, atol=1e-5)
    assert (info["read_weights"] >= 0).all()


def test_topk_of_every_slot_is_softmax_and_top1_is_topk_of_one():
    made, x = layer(), inputs()
    with torch.no_grad():
        assert_close(made(x, routing_mode="topk", routing_topk=6)[0], made(x)[0], rtol=1e-5, atol=1e-6)
        assert_close(
            made(x, routing_mode="topk", routing_topk=1)[0], made(x, routing_mode="top1")[0], rtol=1e-5, atol=1e-6
        )


def test_parts_of_the_delta_add_up():
    made, x = layer("AddressedStateAttentionIntervene"), inputs()
    with torch.no_grad():
        off = made(x)[0]
        with setting(made, _intv_mode="delta_par_plus_orth"):
            both = made(x)[0]
        with setting(made, _intv_mode="orth_gate", _intv_mask_mode="hard", _intv_tau_kind="abs", _intv_tau=-1.0):
            gated = made(x)[0]
        with setting(made, _intv_mode="delta_par"):
            par = made(x)[0]
    assert_close(both, off, rtol=1e-5, atol=1e-6)
    assert_close(gated, off, rtol=1e-5, atol=1e-6)
    assert (par - off).abs().max() > 1e-3


def test_thresholds_per_head_do_not_depend_on_other_heads():
    """With `_intv_tau_per_head` the threshold is one number a head; by default it is one over everything."""
    made, x = layer("AddressedStateAttentionIntervene"), inputs()
    with torch.no_grad(), setting(made, _intv_mode="orth_gate"):
        usual, info = made(x, return_info=True)
        with setting(made, _intv_tau_per_head=True):
            per_head, _ = made(x)
            alone, _ = made(x[:1])
    assert info["tau"].ndim == 0
    assert (per_head - usual).abs().max() > 1e-5
    assert torch.isfinite(alone).all()


def test_a_setting_is_restored_after_an_error():
    made = layer()
    with pytest.raises(RuntimeError, match="inside"), setting(made, slot_mask=torch.ones(6)):
        raise RuntimeError("inside")
    assert made.slot_mask is None
    with pytest.raises(AttributeError, match="nearest is 'slot_mask'"), setting(made, slot_maks=None):
        pass


@pytest.mark.parametrize(
    "cls", ["AddressedStateAttention", "AddressedStateAttentionOnline", "AddressedStateAttentionIntervene"]
)
@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_decoding_equals_the_full_forward(cls, mode):
    """Token by token and in pieces, across chunk borders; the state stays as large as it was."""
    made, x = layer(cls, write_mode=mode), inputs(length=50)
    with torch.no_grad():
        whole, _ = made(x)
        state, found, at = made.init_state(2), [], 0
        sizes = {sum(t.numel() for t in state.tensors())}
        for step in (1, 1, 3, 16, 12, 1, 16):
            y, state = made.extend(x[:, at : at + step], state, torch.full((2,), at))
            sizes.add(sum(t.numel() for t in state.tensors()))
            found.append(y)
            at += step
    assert_close(torch.cat(found, dim=1), whole, rtol=1e-5, atol=1e-5)
    heads, slots, width, wide = 4, 6, 6, 8
    assert sizes == {2 * heads * (2 * slots * width + 4 * slots + wide * slots + wide)}


@pytest.mark.parametrize("cls", ["AddressedStateAttention", "AddressedStateAttentionOnline"])
@pytest.mark.parametrize("return_info", [False, True])
def test_left_padding_gives_finite_numbers_and_gradients(cls, return_info):
    """Where nothing was written a slot state is 0; the row alone gives the same numbers only up to its absolute positions."""
    made, x = layer(cls), inputs().requires_grad_()
    mask = torch.ones(2, 53)
    mask[1, :20] = 0
    y, _ = made(x, mask, return_info)
    y.square().sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in (x, *made.parameters()))
    with torch.no_grad():
        assert_close(y[0], made(x[:1], None, return_info)[0][0], rtol=1e-5, atol=1e-6)


def test_right_padding_leaves_valid_tokens_alone():
    made, x = layer(), inputs()
    mask = torch.ones(2, 53, dtype=torch.bool)
    mask[1, 30:] = False
    with torch.no_grad():
        y, _ = made(x, mask)
        assert_close(y[1, :30], made(x[1:, :30])[0][0], rtol=1e-5, atol=1e-6)


def test_fully_masked_row_is_finite():
    made, x = layer(), inputs()
    mask = torch.ones(2, 53)
    mask[1] = 0
    with torch.no_grad():
        assert torch.isfinite(made(x, mask)[0]).all()


@pytest.mark.parametrize("state_fp32", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype, state_fp32):
    """Weights and input of another dtype work with either `state_fp32`; sums run in float32 at least, so half precision costs only rounding."""
    made, x = layer(state_fp32=state_fp32), inputs()
    with torch.no_grad():
        usual = made(x)[0]
        cast = made.to(dtype)
        for return_info in (False, True):
            found, _ = cast(x.to(dtype), return_info=return_info)
            assert found.dtype == dtype
            tolerance = 1e-5 if dtype == torch.float64 else 0.05
            assert_close(found.float(), usual, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("return_info", [False, True])
def test_autocast_keeps_sums_in_full_precision(return_info):
    made, x = layer(), inputs().requires_grad_()
    with torch.no_grad():
        usual = made(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, info = made(x, return_info=return_info)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), usual, rtol=0.05, atol=0.05)
    assert torch.isfinite(x.grad).all()
    if info is not None:
        assert info["read_logits"].dtype == torch.float32


def test_a_bfloat16_cast_does_not_round_positions():
    made = layer().to(torch.bfloat16)
    cos, _ = made.rope.table(4000, torch.device("cpu"), torch.float32)
    fresh, _ = layer().rope.table(4000, torch.device("cpu"), torch.float32)
    assert_close(cos, fresh, rtol=0, atol=0)


def test_all_controls_pass_through_the_language_model():
    torch.manual_seed(0)
    model = ASMLanguageModel(
        31, embed_dim=24, num_layers=2, num_heads=4, num_slots=6, slotspace_dim=8, max_seq_len=64, variant="intervene"
    ).eval()
    ids = torch.randint(0, 31, (2, 20), generator=torch.Generator().manual_seed(0))
    weights = torch.rand(2, 4, 20, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, infos = model(
            ids,
            None,
            True,
            routing_mode="external",
            read_weights_override=weights,
            info_level="basic",
            info_cfg={"time_stride": 2},
        )
    assert logits.shape == (2, 20, 31)
    assert len(infos) == 2
    for info in infos:
        assert info["read_logits"] is None
        assert_close(info["read_weights"], (weights / weights.sum(-1, keepdim=True))[:, :, ::2])


def test_overrides_see_real_tensors():
    made, x = layer(), inputs()
    seen = []

    def override(t0, t1, logits, by_key, by_content, ctx):
        seen.append((t0, t1))
        assert_close(
            torch.einsum("bhld,bhkld->bhlk", ctx["q_read_c"], ctx["slot_state_t"]) / 6**0.5,
            by_content,
            rtol=1e-5,
            atol=1e-6,
        )
        assert_close(by_key + made.gamma * by_content, logits, rtol=1e-5, atol=1e-6)
        assert ctx["T"] == 53
        return torch.softmax(logits / ctx["rtemp"], dim=-1)

    with torch.no_grad(), setting(made, routing_override=override):
        found, _ = made(x)
    with torch.no_grad():
        assert_close(found, made(x)[0], rtol=1e-5, atol=1e-6)
    assert seen == [(0, 16), (16, 32), (32, 48), (48, 53)]


def test_last_token_scope_is_the_last_valid_token():
    made, x = layer(), inputs()
    mask = torch.ones(2, 53)
    mask[1, 30:] = 0
    keep = torch.tensor([1.0, 1, 0, 1, 1, 1])
    with torch.no_grad():
        _, info = made(x, mask, True, slot_mask=keep, slot_mask_scope="last_token")
    masked = (info["read_weights"][..., 2] == 0).all(1)
    assert masked.nonzero().tolist() == [[0, 52], [1, 29]]


@pytest.mark.parametrize("name", ["Wk_write", "Wv_write", "Wq_read", "slot_in", "slot_k", "slot_out"])
def test_a_wrapped_projection_acts_on_every_path(name):
    """An adapter around a linear module changes the outputs, and the same way with a record, without, and in decoding."""

    class Adapted(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.delta = (
                base,
                torch.nn.Parameter(torch.randn(base.weight.shape, generator=torch.Generator().manual_seed(5))),
            )

        @property
        def weight(self):
            return self.base.weight

        def forward(self, x):
            return self.base(x) + x @ self.delta.T

    made, x = layer(), inputs()
    with torch.no_grad():
        before = made(x)[0]
        setattr(made, name, Adapted(getattr(made, name)))
        plain, recorded = made(x)[0], made(x, return_info=True)[0]
        decoded, _ = made.extend(x, made.init_state(2), torch.zeros(2, dtype=torch.long))
    assert (plain - before).abs().max() > 1e-4
    assert_close(recorded, plain, rtol=1e-4, atol=1e-5)
    assert_close(decoded, plain, rtol=1e-4, atol=1e-5)


def test_backward_under_autocast():
    made, x = layer(), inputs().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made(x)[0].float().square().sum().backward()
    inside = x.grad.clone()
    x.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = made(x)[0].float().square().sum()
    loss.backward()
    assert_close(inside, x.grad, rtol=0.02, atol=0.02)


def test_odd_slotspace_without_positions():
    made, x = layer(slotspace_dim=7, use_rope_slotspace=False), inputs()
    with torch.no_grad():
        assert_close(made(x)[0], made(x, return_info=True)[0], rtol=1e-5, atol=1e-6)


def test_hooks_on_projections_run_on_every_path():
    made, x, seen = layer(), inputs(), []
    for name in ("Wq_read", "Wk_write", "Wv_write"):
        getattr(made, name).register_forward_hook(lambda module, args, out: seen.append(out.shape))
    with torch.no_grad():
        made(x)
        made.extend(x, made.init_state(2), torch.zeros(2, dtype=torch.long))
    assert len(seen) == 6


def test_constants_return_with_the_weights():
    """A layer made on no device has garbage in its constant buffers until a state dict is loaded."""
    usual, x = layer(), inputs()
    with torch.device("meta"):
        made = layer()
    made.to_empty(device="cpu")
    made.rope.inv_freq.fill_(7.0)
    made._alibi_slopes.fill_(7.0)
    made.load_state_dict(usual.state_dict())
    with torch.no_grad():
        assert_close(made.eval()(x)[0], usual(x)[0], rtol=0, atol=0)


def test_a_copy_carries_no_tables():
    made = layer()
    made(inputs())
    assert made.rope._tables
    assert not copy.deepcopy(made).rope._tables


def test_a_state_draws_nothing():
    made = layer(slot_dropout=0.5).train()
    before = torch.get_rng_state()
    made.init_state(3)
    assert torch.equal(torch.get_rng_state(), before)
