"""Each measurement of model code is near zero on a good model, and far from it on a model with that fault."""

import numpy as np
import pytest
import torch

from trialplate.models import checks
from trialplate.models.errors import ModelError
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec

TINY = ModelSpec("embedded:neox-tiny")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["gpt_neox", "gpt2", "llama", "opt", "gpt_neo", "asm"])
def model(request, make_folder):
    return load(ModelSpec(str(make_folder(request.param))))


@pytest.fixture
def neox():
    """A fresh embedded model that the test may damage."""
    return load(TINY)


def test_good_models_have_no_gaps(model, rng, tmp_path):
    assert checks.logit_scale(model, rng) > 1e-3
    assert checks.causality_gap(model, rng) < 1e-5
    padding = checks.padding_gap(model, rng)
    assert max(padding.left, padding.right) < 1e-5
    assert checks.batch_gap(model, rng) < 1e-5
    assert checks.cache_gap(model, rng) < 1e-5
    assert checks.repeat_gap(model, rng) == 0
    counts = checks.finite_counts(model, rng)
    assert (counts.weights, counts.activations) == (0, 0)
    assert counts.n_weights >= model.n_parameters
    assert counts.n_activations > 1000
    assert checks.tied(model).ok
    assert checks.key_coverage(model).is_same
    stored = checks.stored_gap(model)
    assert (stored.n_different, stored.max_abs) == (0, 0.0)
    assert stored.n_tensors == len(model.module.state_dict()) - checks.tied(model).actual
    trip = checks.round_trip(model, tmp_path, rng)
    assert (trip.is_identical, trip.logit_gap) == (True, 0.0)
    assert checks.dtypes_differing(model) == 0


def test_same_generator_state_gives_same_numbers(neox):
    values = [checks.cache_gap(neox, np.random.default_rng(5)) for _ in range(2)]
    assert values[0] == values[1]


def change_inputs(model, change):
    """Let `change` edit the keyword arguments that reach the trunk."""
    trunk = model.module.base_model
    plain = trunk.forward

    def changed(input_ids, **kwargs):
        return plain(input_ids, **{**kwargs, **change(input_ids, kwargs)})

    trunk.forward = changed


def test_non_causal_mask_is_seen(neox, rng):
    def every_token(ids, kwargs):
        return {"attention_mask": torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])}

    change_inputs(neox, every_token)
    assert checks.causality_gap(neox, rng) > 1e-2


def test_ignored_mask_is_seen(neox, rng):
    change_inputs(neox, lambda ids, kwargs: {"attention_mask": torch.ones_like(ids)})
    gap = checks.padding_gap(neox, rng)
    assert gap.left > 1e-2
    assert gap.right < 1e-4  # a causal model does not see padding after it


def test_rows_that_leak_into_each_other_are_seen(neox, rng):
    neox.module.gpt_neox.final_layer_norm.register_forward_hook(lambda m, i, out: out + 0.1 * out.mean(0, keepdim=True))
    assert checks.batch_gap(neox, rng) > 1e-2


def test_positions_forgotten_in_the_cache_are_seen(neox, rng):
    def forget(ids, kwargs):
        return {"position_ids": torch.zeros_like(ids)} if kwargs.get("past_key_values") is not None else {}

    change_inputs(neox, forget)
    assert checks.cache_gap(neox, rng) > 1e-2


def test_dropout_left_on_is_seen(neox, rng):
    neox.module.gpt_neox.emb_dropout.p = 0.5
    neox.module.gpt_neox.emb_dropout.train()
    with torch.random.fork_rng(devices=[]):
        assert checks.repeat_gap(neox, rng) > 1e-2


def test_one_nan_is_counted_and_never_looks_like_agreement(neox, rng):
    neox.module.gpt_neox.layers[1].mlp.dense_h_to_4h.weight.data[3, 5] = float("nan")
    counts = checks.finite_counts(neox, rng)
    assert counts.weights == 1
    assert counts.activations > 0
    assert checks.repeat_gap(neox, rng) == float("inf")
    assert checks.stored_gap(neox).max_abs == float("inf")


def test_changed_weights_are_seen_against_the_file(neox):
    weight = neox.module.gpt_neox.layers[2].attention.dense.weight.data
    weight.copy_(weight.T.clone())
    gap = checks.stored_gap(neox)
    assert gap.n_different == 1
    assert gap.max_abs > 0


def test_untied_head_is_seen(make_folder):
    model = load(ModelSpec(str(make_folder("gpt2"))))
    model.module.lm_head.weight = torch.nn.Parameter(model.module.lm_head.weight.clone(), requires_grad=False)
    assert not checks.tied(model).ok


def test_missing_and_extra_keys_are_seen(neox):
    del neox.module.gpt_neox.layers[3]
    diff = checks.key_coverage(neox)
    assert diff.counts()["unexpected"] == 12
    assert not diff.is_same


def test_wrong_dtype_is_counted(neox):
    neox.module.gpt_neox.layers[0].mlp.half()
    assert checks.dtypes_differing(neox) == 4


def test_a_fault_in_saving_is_seen(neox, rng, tmp_path, monkeypatch):
    plain = type(neox.module).save_pretrained

    def rounding(self, folder, **kwargs):
        plain(self.bfloat16(), folder, **kwargs)
        self.float()

    before = neox.module.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    monkeypatch.setattr(
        type(neox.module),
        "save_pretrained",
        lambda self, folder: (rounding(self, folder), self.load_state_dict(before)),
    )
    trip = checks.round_trip(neox, tmp_path, rng)
    assert not trip.is_identical
    assert trip.logit_gap > 0


def test_what_needs_files_says_so(neox):
    twin = neox.random_twin(0)
    for check in (checks.key_coverage, checks.stored_gap):
        with pytest.raises(ModelError, match="come from no file"):
            check(twin)


def test_adapted_models_are_compared_by_their_base(make_folder, tmp_path, rng):
    peft = pytest.importorskip("peft")
    folder = make_folder("gpt_neox")
    peft_model = peft.get_peft_model(
        load(ModelSpec(str(folder))).module, peft.LoraConfig(r=2, target_modules=["dense"], init_lora_weights=False)
    )
    peft_model.save_pretrained(str(tmp_path / "lora"))
    adapted = load(ModelSpec(str(folder), adapter=str(tmp_path / "lora")))
    assert checks.key_coverage(adapted).is_same
    assert checks.stored_gap(adapted).n_different == 0
    assert checks.cache_gap(adapted, rng) < 1e-5
    with pytest.raises(ModelError, match="round trip of its base"):
        checks.round_trip(adapted, tmp_path / "trip", rng)
