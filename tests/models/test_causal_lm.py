"""The surface over every supported family: split head, positions under padding, cached decoding, attention, twins, identity."""

import numpy as np
import pytest
import torch

from trialplate.models.causal_lm import CausalLM, initialise
from trialplate.models.errors import ModelError, ModelLoadError
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec

FAMILIES = ["gpt_neox", "gpt2", "llama", "opt", "gpt_neo", "asm"]
TINY = ModelSpec("embedded:neox-tiny")


@pytest.fixture(scope="module")
def load_family(make_folder):
    models = {}

    def get(family, **changes) -> CausalLM:
        key = (family, *changes.items())
        if key not in models:
            models[key] = load(ModelSpec(str(make_folder(family, **changes))))
        return models[key]

    return get


def random_ids(n, length, seed=0, vocab=270):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, vocab, (n, length)))


@pytest.mark.parametrize("family", FAMILIES)
def test_head_of_hidden_is_logits(load_family, family):
    model = load_family(family)
    ids = random_ids(2, 9)
    assert model.splits_head
    hidden = model.hidden(ids)
    assert hidden.shape == (2, 9, model.d_model)
    torch.testing.assert_close(model.head(hidden), model.logits(ids), rtol=0, atol=1e-6)
    assert (model.n_layers, model.n_heads, model.d_model, model.max_length, model.vocab_rows) == (2, 4, 32, 64, 270)


@pytest.mark.parametrize(("family", "changes"), [("gemma2", {}), ("cohere", {"logit_scale": 0.25})])
def test_a_head_that_is_not_all_of_the_logits_is_not_split(load_family, family, changes):
    model = load_family(family, **changes)
    assert not model.splits_head
    with pytest.raises(ModelError, match=r"use logits\(\) instead of hidden\(\) and head\(\)"):
        model.hidden(random_ids(1, 4))
    ids = random_ids(2, 8)
    torch.testing.assert_close(model.start(ids)[0], model.logits(ids)[:, -1], rtol=0, atol=1e-5)


def test_cohere_without_scale_is_split(load_family):
    assert load_family("cohere", logit_scale=1.0).splits_head


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(load_family, family, side):
    model = load_family(family)
    short, long = random_ids(1, 5, 1), random_ids(1, 9, 2)
    pad = random_ids(1, 4, 3)
    parts = [pad, short] if side == "left" else [short, pad]
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0 if side == "left" else 1
    mask[0, 5:] = 0 if side == "right" else 1
    batch = torch.cat([torch.cat(parts, 1), long])
    logits = model.logits(batch, mask)
    torch.testing.assert_close(logits[0][mask[0].bool()], model.logits(short)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits[1], model.logits(long)[0], rtol=0, atol=1e-5)
    last, state = model.start(batch, mask)
    torch.testing.assert_close(last[0], model.logits(short)[0, -1], rtol=0, atol=1e-5)
    more = random_ids(2, 3, 4)
    for t in range(3):
        last, state = model.step(state, more[:, t : t + 1])
    torch.testing.assert_close(last[0], model.logits(torch.cat([short, more[:1]], 1))[0, -1], rtol=0, atol=1e-5)
    torch.testing.assert_close(last[1], model.logits(torch.cat([long, more[1:]], 1))[0, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", [*FAMILIES, "gemma2"])
@pytest.mark.parametrize("sizes", [[1] * 12, [5, 4, 3], [11, 1]])
def test_cached_decoding_equals_full_forward(load_family, family, sizes):
    model = load_family(family)
    ids = random_ids(2, 13)
    full = model.logits(ids)
    first, state = model.start(ids[:, :1])
    parts, done = [first.unsqueeze(1)], 1
    for size in sizes:
        logits, state = model.extend(state, ids[:, done : done + size])
        parts.append(logits)
        done += size
    torch.testing.assert_close(torch.cat(parts, 1), full, rtol=0, atol=1e-5)


def test_explicit_positions_are_used(load_family):
    model = load_family("gpt2")
    ids = random_ids(1, 4)
    shifted = torch.arange(10, 14).unsqueeze(0)
    assert not torch.allclose(model.logits(ids), model.logits(ids, position_ids=shifted))
    logits, state = model.start(ids, position_ids=shifted)
    torch.testing.assert_close(logits, model.logits(ids, position_ids=shifted)[:, -1], rtol=0, atol=1e-6)
    assert state.next_position.tolist() == [14]


@pytest.mark.parametrize("family", FAMILIES)
def test_attentions_are_causal_probabilities_and_the_implementation_is_restored(load_family, family):
    model = load_family(family)
    before = model.module.config._attn_implementation
    layers = model.attentions(random_ids(2, 7))
    assert [tuple(layer.shape) for layer in layers] == [(2, 4, 7, 7)] * 2
    for layer in layers:
        torch.testing.assert_close(layer.sum(-1), torch.ones(2, 4, 7))
        assert float(layer.triu(1).abs().max()) == 0
    assert model.module.config._attn_implementation == before


def test_no_attention_is_an_error_and_the_implementation_is_restored(load_family, monkeypatch):
    model = load_family("llama")
    monkeypatch.setattr(model.module, "forward", lambda **_: object())
    with pytest.raises(ModelError, match="gives no attention probabilities"):
        model.attentions(random_ids(1, 3))
    assert model.module.config._attn_implementation == "sdpa"


def test_a_model_without_a_cache_says_so(load_family, monkeypatch):
    model = load_family("opt")
    monkeypatch.setattr(model, "_parameters", {"input_ids": None})
    monkeypatch.setattr(model, "_takes", lambda name: False)
    with pytest.raises(ModelError, match="has no key/value cache"):
        model.start(random_ids(1, 3))


def test_module_is_in_evaluation_mode_without_gradients(load_family):
    model = load_family("gpt2")
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert not model.logits(random_ids(1, 3)).requires_grad


def test_random_twin_repeats_its_seed_and_leaves_generators_alone():
    model = load(TINY)
    before = torch.random.get_rng_state()
    a, b, c = model.random_twin(1), model.random_twin(1), model.random_twin(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert a.weights_digest == b.weights_digest
    assert len({a.weights_digest, c.weights_digest, model.weights_digest}) == 3
    assert (a.label, a.config_digest, a.tokenizer.digest) == (
        "embedded:neox-tiny~random1",
        model.config_digest,
        model.tokenizer.digest,
    )
    assert a.source is None


def test_embedded_random_is_the_twin_of_the_trained_one():
    drawn = load(ModelSpec("embedded:neox-random"))
    assert drawn.weights_digest == load(TINY).random_twin(0).weights_digest
    assert drawn.identity()["source"] == "embedded"
    assert not drawn.has_files


def test_twin_has_the_dtype_and_is_the_cast_of_the_float32_twin():
    half = load(ModelSpec("embedded:neox-tiny", dtype="bfloat16")).random_twin(3)
    whole = load(TINY).random_twin(3)
    for name, tensor in half.module.state_dict().items():
        assert torch.equal(tensor, whole.module.state_dict()[name].bfloat16()), name
    buffers = dict(half.module.named_buffers())
    assert all(buffer.dtype == torch.float32 for name, buffer in buffers.items() if name.endswith("inv_freq"))


def test_identity_is_plain_and_complete(load_family):
    model = load(TINY)
    identity = model.identity()
    assert identity["label"] == "embedded:neox-tiny"
    assert identity["architecture"] == "GPTNeoXForCausalLM"
    assert identity["n_parameters"] == sum(p.numel() for p in model.module.parameters())
    assert all(value is None or type(value) in (str, int) for value in identity.values())
    for name in ("weights_digest", "tokenizer_digest", "key_manifest_digest", "config_digest"):
        assert len(identity[name]) == 64
    assert load_family("gpt2").identity()["source"] == "folder"


def test_weights_digest_does_not_depend_on_the_compute_dtype():
    digests = {
        load(ModelSpec("embedded:neox-tiny", dtype=dtype)).weights_digest
        for dtype in ("float32", "float16", "bfloat16")
    }
    assert len(digests) == 1


def test_config_digest_sees_what_weights_do_not(make_folder):
    digests = {
        load(ModelSpec(str(make_folder("gpt_neox", use_parallel_residual=flag)))).config_digest
        for flag in (True, False)
    }
    assert len(digests) == 2


def test_prefix_id_is_bos_else_eos_else_none(load_family):
    model = load_family("gpt2")
    tokenizer = model.tokenizer
    assert model.prefix_id == tokenizer.bos_id == 0
    for bos, eos, wanted in ((None, 7, 7), (3, 7, 3), (None, None, None)):
        tokenizer.bos_id, tokenizer.eos_id = bos, eos
        assert model.prefix_id == wanted
    tokenizer.bos_id = tokenizer.eos_id = 0


def test_modules_of_another_kind_are_refused(tokenizer_file):
    with pytest.raises(ModelLoadError, match="a Linear has no config"):
        CausalLM(TINY, torch.nn.Linear(2, 2), None)


def test_a_configuration_without_context_length_is_refused(build_config):
    from transformers import MambaForCausalLM

    with pytest.raises(ModelLoadError, match="MambaConfig has no whole number num_attention_heads"):
        CausalLM(TINY, initialise(MambaForCausalLM, build_config("mamba"), 0), None)
