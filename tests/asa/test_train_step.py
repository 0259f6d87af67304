"""One step: shifted targets, gradients of accumulated batches, refused gradients, decay groups, the schedule."""

import math

import pytest
import torch
from tests.asa.train_setup import VOCAB, text, tiny_model, tiny_settings
from torch import nn
from torch.testing import assert_close

from asa.train import (  # fmt: skip
    Batch,
    Precision,
    SettingsError,
    TrainSettings,
    accumulate,
    decay_groups,
    learning_rate,
    make_optimizer,
    token_nats,
    update,
)

pytestmark = pytest.mark.fast
CPU = torch.device("cpu")


def rows(n, seed=0):
    return torch.stack([text(17, seed=seed + i) for i in range(n)])


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_the_loss_is_of_the_next_token():
    """A model that predicts its own input has a perfect identity loss, and must have a bad next-token loss."""

    class Echo(nn.Module):
        def forward(self, ids):
            return 100.0 * nn.functional.one_hot(ids, VOCAB).float()

    ids = torch.tensor([[3, 4, 4, 5]])
    nats = token_nats(Echo(), ids, Precision("off", CPU))
    assert nats.shape == (1, 3)
    assert_close(
        nats, torch.tensor([[100.0, 0.0, 100.0]])
    )  # 4 follows 3: wrong; 4 follows 4: right; 5 follows 4: wrong


def test_gradient_of_accumulated_batches_is_that_of_one_batch():
    """Also where the batches have other numbers of valid tokens: token-weighted, not a mean of means."""
    ids, weights = rows(6), torch.ones(6, 16)
    weights[0, 3:] = 0
    weights[4] = 0.2
    whole, parts = tiny_model(), tiny_model()
    one = accumulate(whole, [Batch(ids, weights)], Precision("off", CPU))
    two = accumulate(
        parts, [Batch(ids[:1], weights[:1]), Batch(ids[1:4], weights[1:4]), Batch(ids[4:], weights[4:])], Precision("off", CPU)
    )  # fmt: skip
    assert_close(two.nats, one.nats, rtol=1e-5, atol=0)
    assert two.weight == pytest.approx(one.weight)
    assert_close(gradients(parts), gradients(whole), rtol=1e-4, atol=1e-7)


def test_gradient_is_not_the_mean_of_the_batches_means():
    ids, weights = rows(2), torch.ones(2, 16)
    weights[0, 3:] = 0
    whole, means = tiny_model(), tiny_model()
    accumulate(whole, [Batch(ids, weights)], Precision("off", CPU))
    for i in (0, 1):
        accumulate(means, [Batch(ids[i : i + 1], weights[i : i + 1])], Precision("off", CPU))
    halved = {name: grad / 2 for name, grad in gradients(means).items()}
    with pytest.raises(AssertionError):
        assert_close(halved, gradients(whole), rtol=1e-2, atol=1e-4)


def test_targets_of_weight_zero_do_not_count():
    ids, weights = rows(2), torch.ones(2, 16)
    weights[1, 5:] = 0
    changed = ids.clone()
    changed[1, 7:] = 0
    models = tiny_model(), tiny_model()
    for model, batch in zip(models, (ids, changed), strict=True):
        accumulate(model, [Batch(batch, weights)], Precision("off", CPU))
    assert_close(gradients(models[0]), gradients(models[1]), rtol=1e-5, atol=1e-8)


def test_a_step_without_targets_is_an_error():
    with pytest.raises(ValueError, match="weight 0"):
        accumulate(tiny_model(), [Batch(rows(2), torch.zeros(2, 16))], Precision("off", CPU))


def test_a_gradient_that_is_not_finite_is_refused():
    model = tiny_model()
    optimizer, precision = make_optimizer(model, tiny_settings()), Precision("off", CPU)
    before = {name: p.clone() for name, p in model.named_parameters()}
    accumulate(model, [Batch(rows(2))], precision)
    model.norm.weight.grad[0] = math.nan
    norm, taken = update(model, optimizer, precision, 1.0)
    assert not taken
    assert math.isnan(norm)
    assert_close(dict(model.named_parameters()), before, rtol=0, atol=0)
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())


def test_the_norm_is_clipped_and_reported_as_it_was():
    """With plain SGD at rate 1 the parameters move by the clipped gradient: length 0.5."""
    model = tiny_model()
    optimizer, precision = torch.optim.SGD(model.parameters(), lr=1.0), Precision("off", CPU)
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    accumulate(model, [Batch(rows(4))], precision)
    true = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    norm, taken = update(model, optimizer, precision, 0.5)
    assert taken
    assert true > 0.5
    assert norm == pytest.approx(true, rel=1e-5)
    moved = nn.utils.parameters_to_vector(model.parameters()) - before
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_decay_groups():
    model = tiny_model()
    decayed, plain = decay_groups(model)
    assert "tok.weight" in decayed
    assert "lm_head.weight" not in decayed + plain  # tied: named once
    assert "blocks.0.asa.slot_in.weight" in decayed
    scalars = ["_alibi_strength_param", "_content_read_gamma_raw", "_slotspace_gate_raw", "slot_keys"]
    assert {f"blocks.1.asa.{name}" for name in scalars} <= set(plain)
    assert {"norm.weight", "norm.bias", "blocks.0.norm1.bias"} <= set(plain)
    assert len(decayed) + len(plain) == len(list(model.parameters()))
    groups = make_optimizer(model, tiny_settings(weight_decay=0.3)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(len(decayed), 0.3), (len(plain), 0.0)]


def test_the_schedule_by_hand():
    """Warm-up of 4 to a peak of 8, then half a cosine to a quarter of it at the last of 9 steps."""
    rates = [learning_rate(step, peak=8.0, warmup=4, total=9, final_fraction=0.25) for step in range(9)]
    middle = 8 * (0.25 + 0.75 * 0.5)
    assert rates[:5] == [2, 4, 6, 8, 8]
    assert rates[6] == pytest.approx(middle)
    assert rates[8] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch_size": 0}, "batch_size: wanted at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: wanted more than 0, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: wanted more than 0, got nan"),
        ({"stride_frac_val": 1.5}, "stride_frac_val: wanted more than 0 and at most 1, got 1.5"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"autocast": "fp8"}, "autocast: wanted one of off, bf16, fp16, got 'fp8'"),
        ({"warmup_steps": 300}, "wanted fewer than total_steps"),
        ({"seed": -1}, "seed: wanted at least 0"),
    ],
)
def test_settings_out_of_range(changes, text):
    with pytest.raises(SettingsError) as caught:
        TrainSettings(**changes)
    assert text in str(caught.value)


def test_half_precision_on_the_cpu_is_refused():
    with pytest.raises(SettingsError, match="CUDA only"):
        Precision("fp16", CPU)


def test_autocast_computes_in_bfloat16_and_keeps_float32_weights():
    model, seen = tiny_model(), []
    model.blocks[0].mlp[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    accumulate(model, [Batch(rows(2))], Precision("bf16", CPU))
    assert seen == [torch.bfloat16]
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
