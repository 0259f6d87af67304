"""No NaN anywhere: forward, gradients and a few steps of training, for each variant, with padding on both sides, in float32 and bfloat16."""

import pytest
import torch

from asa.config import ASMTrainConfig
from asa.train import Batch, Precision, TrainSettings, accumulate, fresh_model, make_optimizer, update
from trialplate.cli.asa_smoke import SHRUNK

VARIANTS = ("baseline", "online", "intervene")
IDS = torch.randint(SHRUNK["vocab_size"], (3, 41), generator=torch.Generator().manual_seed(0))


def model_of(variant, seed=0, **changes):
    return fresh_model(ASMTrainConfig.from_dict({**SHRUNK, **changes}), seed, variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("autocast", ["off", "bf16"])
def test_a_few_steps_stay_finite(variant, autocast):
    model = model_of(variant).train()
    settings = TrainSettings(learning_rate=1e-2)
    optimizer, precision = make_optimizer(model, settings), Precision(autocast, torch.device("cpu"))
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for _ in range(8):
            loss = accumulate(model, [Batch(IDS)], precision)
            losses.append(loss.nats / loss.weight)
            assert update(model, optimizer, precision, 1.0)[1]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", ["left", "right", "inside", "nothing valid"])
def test_padding_gives_no_nan(variant, side):
    """Rows of padding only are defined too: their loss is not read, and must not poison the batch."""
    mask = torch.ones(3, 40, dtype=torch.long)
    mask[
        1, {"left": slice(0, 17), "right": slice(23, 40), "inside": slice(10, 20), "nothing valid": slice(0, 40)}[side]
    ] = 0
    model = model_of(variant).train()
    logits = model(IDS[:, :-1], attention_mask=mask)
    assert torch.isfinite(logits).all()
    (logits * mask.unsqueeze(-1)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"alibi_strength_init": 50.0},
        {"write_temperature": 0.01, "read_temperature": 0.01},
        {"write_mode": "exact"},
        {"write_mode": "exact", "alibi_strength_init": 50.0},
        {"use_slotspace_refine": False, "use_content_read": False, "use_alibi_write": False},
        {"slotspace_signed_weights": False, "normalize_k": True},
    ],
    ids=str,
)
def test_hard_settings_give_no_nan(changes):
    model = model_of("baseline", **changes).train()
    accumulate(model, [Batch(IDS)], Precision("off", torch.device("cpu")))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
