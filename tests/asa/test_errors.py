"""Wrong settings and shapes: every message says what was wanted and what was got."""

import pytest
import torch

from asa import (
    AddressedStateAttention,
    AddressedStateAttentionIntervene,
    AddressedStateAttentionOnline,
    ASMLanguageModel,
    ASMTrainConfig,
    ConfigError,
    build_model_from_cfg,
    setting,
)

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_slots": 0}, "num_slots: wanted at least 1, got 0"),
        ({"num_heads": 5}, "embed_dim 24 does not divide into num_heads 5"),
        ({"embed_dim": 12, "num_heads": 4}, "wanted an even head width, got embed_dim 12 / num_heads 4 = 3"),
        ({"slotspace_dim": 7}, "slotspace_dim: wanted an even number"),
        ({"write_chunk_size": -1}, "write_chunk_size: wanted 0"),
        ({"write_mode": "exakt"}, "write_mode: wanted one of reference, exact, got 'exakt'"),
    ],
)
def test_constructor(changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        AddressedStateAttention(**{"embed_dim": 24, "num_heads": 4, **changes})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"routing_mode": "best"}, "routing_mode: wanted one of softmax"),
        ({"routing_mode": "external"}, "needs read_weights_override"),
        (
            {"routing_mode": "external", "read_weights_override": torch.ones(2, 4, 9, 5)},
            "read_weights_override: wanted",
        ),
        ({"routing_noise": "pink"}, "routing_noise: wanted None"),
        ({"slot_mask": torch.ones(3)}, r"slot_mask: wanted shape \[8\]"),
        ({"slot_mask": torch.zeros(8)}, "keeps no slot"),
        ({"slot_mask_where": "writes"}, "slot_mask_where: wanted one of read"),
        ({"slot_mask_scope": "first"}, "slot_mask_scope: wanted one of all"),
        ({"info_level": "most"}, "info_level: wanted one of basic"),
        ({"info_cfg": {"stride": 2}}, "info_cfg: unknown stride"),
        ({"info_cfg": {"time_stride": 0}}, "strides are at least 1"),
        ({"attention_mask": torch.ones(2, 8)}, r"attention_mask: wanted a tensor \[2, 9\]"),
    ],
)
def test_call(call, message):
    layer = AddressedStateAttention(24, 4, 8)
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 9, 24), **call)


def test_inputs():
    layer = AddressedStateAttention(24, 4, 8)
    with pytest.raises(ValueError, match="holds no token"):
        layer(torch.randn(2, 0, 24))
    with pytest.raises(ValueError, match=r"wanted \[batch, time, 24\], got \[2, 9, 23\]"):
        layer(torch.randn(2, 9, 23))


def test_online_takes_no_controls():
    with pytest.raises(TypeError, match="routing_mode"):
        AddressedStateAttentionOnline(24, 4, 8)(torch.randn(1, 4, 24), routing_mode="top1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (torch.ones(2, 4, 8, 8), r"routing_override: wanted \[2, 4, 9, 8\]"),
        ("softmax", "routing_override: wanted a callable or a tensor"),
        (lambda *_: torch.ones(2, 4, 3, 8), r"routing_override returned \[2, 4, 3, 8\] for positions 0 to 9"),
        (lambda *_: None, "routing_override returned NoneType"),
    ],
)
def test_overrides(override, message):
    layer = AddressedStateAttention(24, 4, 8)
    with setting(layer, routing_override=override), pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 9, 24))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"_intv_mode": "par"}, "_intv_mode: wanted one of off"),
        ({"_intv_score_kind": "x", "_intv_mode": "orth_gate"}, "_intv_score_kind"),
        ({"_intv_tau_kind": "x", "_intv_mode": "orth_gate"}, "_intv_tau_kind"),
        ({"_intv_mask_mode": "x", "_intv_mode": "orth_gate"}, "_intv_mask_mode"),
        ({"_intv_head_mask": torch.ones(3), "_intv_mode": "delta_par"}, r"_intv_head_mask: wanted shape \[4\]"),
    ],
)
def test_interventions(attributes, message):
    layer = AddressedStateAttentionIntervene(24, 4, 8)
    with setting(layer, **attributes), pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 9, 24))


def test_language_model():
    model = ASMLanguageModel(31, embed_dim=24, num_layers=1, num_heads=4, max_seq_len=10)
    with pytest.raises(ValueError, match="11 tokens are more than max_seq_len 10"):
        model(torch.zeros(1, 11, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one token"):
        model(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(ValueError, match="wanted ids from 0 to 30, got 3 to 31"):
        model(torch.tensor([[3, 31]]))
    with pytest.raises(ValueError, match=r"wanted whole numbers \(torch.long\), got torch.float32"):
        model(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="padding on the right only"):
        model.prefill(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0, 1, 1]]))
    with pytest.raises(ValueError, match="variant: wanted one of baseline, online, intervene"):
        build_model_from_cfg(ASMTrainConfig(), "fast")
    with pytest.raises(ValueError, match="num_layers: wanted at least 1"):
        ASMLanguageModel(31, num_layers=0)


def test_config_fields():
    cfg = ASMTrainConfig.from_dict(
        {"num_slots": 5, "betas": [0.9, 0.99], "from_later": {"a": 1}, "content_read_max_gamma": None}
    )
    assert (cfg.num_slots, cfg.betas, cfg.unknown, cfg.content_read_max_gamma) == (
        5,
        (0.9, 0.99),
        {"from_later": {"a": 1}},
        None,
    )
    assert cfg.to_dict()["from_later"] == {"a": 1}
    assert ASMTrainConfig.from_dict(cfg.to_dict()) == cfg
    fields = {"vocab_size": 31, "embed_dim": 16, "num_layers": 1, "num_heads": 2}
    assert build_model_from_cfg(fields).cfg == ASMTrainConfig(**fields)
    with pytest.raises(ConfigError, match=r"configuration field num_slots: wanted int, got 'many' \(str\)"):
        ASMTrainConfig.from_dict({"num_slots": "many"})
    with pytest.raises(ConfigError, match="betas: wanted two numbers"):
        ASMTrainConfig.from_dict({"betas": [0.9]})
    with pytest.raises(ConfigError, match="tie_weights: wanted bool, got 1"):
        ASMTrainConfig.from_dict({"tie_weights": 1})


def test_min_strength_above_the_initial_strength_is_said():
    with pytest.warns(UserWarning, match="min_strength 0.5 is above alibi_strength_init 0.1"):
        layer = AddressedStateAttention(24, 4, 8, min_strength=0.5)
    assert abs(float(layer.strength.detach()) - 0.5) < 1e-6


def test_decoding():
    layer = AddressedStateAttentionIntervene(24, 4, 8).eval()
    x, start = torch.randn(2, 3, 24), torch.zeros(2, dtype=torch.long)
    state = layer.init_state(2)
    with pytest.raises(ValueError, match="padding on the right only"):
        layer.extend(x, state, start, torch.tensor([[1, 1, 1], [0, 1, 1]]))
    with pytest.raises(ValueError, match=r"position: wanted a tensor \[2\]"):
        layer.extend(x, state, 0)
    with pytest.raises(ValueError, match="state: wanted one of 2 rows"):
        layer.extend(x, layer.init_state(3), start)
    with setting(layer, _intv_mode="orth_gate"), pytest.raises(ValueError, match="depends on a whole write chunk"):
        layer.extend(x, state, start)
    with (
        setting(layer, routing_override=torch.ones(2, 4, 9, 8)),
        pytest.raises(ValueError, match="routing_override: wanted"),
    ):
        layer.extend(x, state, start)


def test_no_refinement_to_intervene_on():
    layer = AddressedStateAttentionIntervene(24, 4, 8, use_slotspace_refine=False)
    with setting(layer, _intv_mode="delta_par"), pytest.raises(ValueError, match="has no refinement to split or log"):
        layer(torch.randn(2, 3, 24))


@pytest.mark.parametrize("return_info", [False, True])
def test_dtype_of_the_input(return_info):
    with pytest.raises(ValueError, match=r"x: wanted torch\.float32, the dtype of the weights, got torch\.float64"):
        AddressedStateAttention(24, 4, 8)(torch.randn(2, 3, 24).double(), return_info=return_info)
