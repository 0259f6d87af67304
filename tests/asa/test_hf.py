"""An ASM as a model of transformers: the same numbers, the same keys, and refusals where an ASM cannot do what is asked."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors import safe_open
from tests.asa.tiny_models import ids, tiny
from torch.nn.functional import cross_entropy

import asa.registration  # noqa: F401 - before transformers, as with `import asa`
from asa.asm_lm import build_model_from_cfg
from asa.checkpoint import load_checkpoint
from asa.generation import generate
from asa.hf import ASMCache, ASMConfig, ASMForCausalLM, from_language_model
from asa.hf_config import MODEL_FIELDS

MASKS = {
    "none": None,
    "left": [[0, 0, 0, 1, 1, 1, 1, 1, 1], [1] * 9],
    "right": [[1, 1, 1, 1, 1, 1, 0, 0, 0], [1] * 9],
    "both, all rows": [[0, 1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1, 0]],
}


@pytest.fixture(scope="module")
def core():
    return tiny()


@pytest.fixture(scope="module")
def wrapped(core):
    return from_language_model(core).requires_grad_(False)


@pytest.fixture(scope="module")
def folder(wrapped, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")
    wrapped.save_pretrained(str(place))
    return place


def close(a, b, **tolerance):
    torch.testing.assert_close(a, b, **{"rtol": 1e-5, "atol": 1e-4, **tolerance})  # logits are of size 10


def rows_of(tokens, mask):
    if mask is None:
        return tokens.tolist()
    return [[t for t, m in zip(row, keep, strict=True) if m] for row, keep in zip(tokens.tolist(), mask, strict=True)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_logits_at_tokens_are_those_of_the_text_alone(core, wrapped, mask, use_cache):
    tokens = ids(2, 9)
    given = None if mask is None else torch.tensor(mask)
    logits = wrapped(tokens, attention_mask=given, use_cache=use_cache).logits
    keep = torch.ones_like(tokens, dtype=torch.bool) if given is None else given.bool()
    for n, row in enumerate(rows_of(tokens, mask)):
        close(logits[n][keep[n]], core(torch.tensor([row]))[0])


def test_a_hole_is_no_part_of_the_text_and_repeats_the_token_before_it(core, wrapped):
    tokens, mask = ids(1, 9), torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 0]])
    logits = wrapped(tokens, attention_mask=mask).logits[0]
    close(logits[mask[0].bool()], core(tokens[:, mask[0].bool()])[0])
    close(logits[[2, 3, 7, 8]], logits[[1, 1, 6, 6]], atol=0)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_decoding_through_the_cache_equals_one_pass(core, wrapped, mask):
    tokens, more = ids(2, 9), ids(2, 20, seed=3)
    given = torch.ones_like(tokens) if mask is None else torch.tensor(mask)
    output = wrapped(tokens, attention_mask=given)
    parts = []
    for size in (1, 3, 9, 7):  # across borders of chunks of 8
        piece = more[:, sum(p.shape[1] for p in parts) :][:, :size]
        given = torch.cat([given, torch.ones_like(piece)], 1)
        output = wrapped(piece, attention_mask=given, past_key_values=output.past_key_values)
        parts.append(output.logits)
    assert output.past_key_values.get_seq_length() == 29
    for n, row in enumerate(rows_of(tokens, mask)):
        close(torch.cat(parts, 1)[n], core(torch.tensor([row + more[n].tolist()]))[0, len(row) :])


def test_the_trunk_and_the_head_are_the_model(wrapped):
    tokens = ids(2, 9)
    output = wrapped.base_model(tokens, use_cache=False)
    close(wrapped.get_output_embeddings()(output.last_hidden_state), wrapped(tokens).logits)
    assert output.past_key_values is None
    state = wrapped.base_model(tokens[:, :4], use_cache=True).past_key_values
    after = wrapped.base_model(tokens[:, 4:], past_key_values=state, use_cache=True).last_hidden_state
    close(after, output.last_hidden_state[:, 4:])
    assert wrapped.base_model.blocks is wrapped.blocks
    assert wrapped(tokens, return_dict=False)[0].shape == (2, 9, 61)


def test_logits_to_keep(wrapped):
    tokens = ids(2, 9)
    logits = wrapped(tokens).logits
    close(wrapped(tokens, logits_to_keep=2).logits, logits[:, -2:])
    close(wrapped(tokens, logits_to_keep=torch.tensor([0, 5])).logits, logits[:, [0, 5]])
    with pytest.raises(ValueError, match="leave logits_to_keep out"):
        wrapped(tokens, labels=tokens, logits_to_keep=1)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_labels_give_the_loss_of_each_token_after_those_before_it(core, wrapped, mask):
    tokens = ids(2, 9)
    loss = wrapped(tokens, attention_mask=None if mask is None else torch.tensor(mask), labels=tokens).loss
    parts = [
        cross_entropy(core(torch.tensor([row]))[0, :-1], torch.tensor(row[1:]), reduction="none")
        for row in rows_of(tokens, mask)
    ]
    close(loss, torch.cat(parts).mean())
    some = tokens.clone()
    some[:, 4:] = -100
    if mask is None:
        close(
            wrapped(tokens, labels=some).loss,
            cross_entropy(core(tokens)[:, :3].flatten(0, 1), tokens[:, 1:4].flatten()),
        )
    close(wrapped(tokens, labels=tokens, num_items_in_batch=100).loss * 100, wrapped(tokens, labels=tokens).loss * 16)


def test_it_trains_like_the_plain_model():
    core = tiny().requires_grad_(True)
    wrapped = from_language_model(core)
    tokens = ids(2, 9)
    output = wrapped(tokens, labels=tokens)
    assert output.past_key_values is None
    output.loss.backward()
    cross_entropy(core(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for (name, a), (_, b) in zip(wrapped.named_parameters(), core.named_parameters(), strict=True):
        close(a.grad, b.grad, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_with_and_without_cache_and_with_beams(wrapped, beams):
    settings = {"max_new_tokens": 20, "do_sample": False, "num_beams": beams}
    cached = wrapped.generate(ids(2, 6), **settings)
    assert torch.equal(cached, wrapped.generate(ids(2, 6), use_cache=False, **settings))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_greedy_generate_is_ours(core, wrapped, mask):
    tokens = ids(2, 9)
    given = None if mask is None else torch.tensor(mask)
    theirs = wrapped.generate(tokens, attention_mask=given, max_new_tokens=20, do_sample=False)
    assert theirs[:, 9:].tolist() == generate(core, tokens, given, max_new_tokens=20).new_tokens


def test_generate_goes_on_from_a_cache(wrapped):
    tokens = ids(2, 9)
    whole = wrapped.generate(tokens, max_new_tokens=8, do_sample=False)
    cache = ASMCache()
    wrapped(tokens[:, :6], past_key_values=cache, use_cache=True)
    kept = copy.deepcopy(cache)
    assert torch.equal(wrapped.generate(tokens, past_key_values=cache, max_new_tokens=8, do_sample=False), whole)
    assert cache.get_seq_length() == 16
    close(wrapped(tokens[:, 6:], past_key_values=kept).logits, wrapped(tokens).logits[:, 6:])  # the copy stood still


def test_the_cache_as_tools_use_it(wrapped):
    tokens = ids(3, 7)
    cache = wrapped(tokens).past_key_values
    assert (cache.batch_size, cache.get_seq_length(), cache.is_compileable, cache.is_croppable) == (3, 7, False, False)
    size = cache.state.numel_per_row()
    cache.reorder_cache(torch.tensor([2, 0, 0]))
    close(
        wrapped(tokens[:, :1], past_key_values=cache).logits,
        wrapped(torch.cat([tokens[[2, 0, 0]], tokens[:, :1]], 1)).logits[:, -1:],
    )
    assert cache.state.numel_per_row() == size
    cache.batch_repeat_interleave(2)
    assert cache.batch_size == 6
    assert torch.equal(cache.state.position, torch.full((6,), 8))
    with pytest.raises(ValueError, match="cannot forget its last 1 tokens"):
        cache.crop(1)
    cache.reset()
    assert (cache.batch_size, cache.get_seq_length(), cache.is_initialized) == (-1, 0, False)


def test_hidden_states_and_effective_attention(core, wrapped):
    tokens, mask = ids(2, 9), torch.tensor(MASKS["left"])
    output = wrapped(tokens, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    alone = wrapped(tokens[:1, 3:], output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 3
    for a, b in zip(output.hidden_states, alone.hidden_states, strict=True):
        close(a[0, 3:], b[0])
    close(output.hidden_states[0][1], core.tok(tokens[1]))
    close(wrapped.lm_head(output.hidden_states[-1][1]), output.logits[1])
    for a, b in zip(output.attentions, alone.attentions, strict=True):
        assert a.shape == (2, 4, 9, 9)
        close(a[0, :, 3:, 3:], b[0])
        assert not a[0, :, :3].any()
        assert not a[0, :, :, :3].any()
        close(a[1].sum(-1), torch.ones(4, 9))
        assert not a.triu(1).any()
    cached = wrapped(tokens[:, :4], output_hidden_states=True)
    later = wrapped(tokens[:, 4:], past_key_values=cached.past_key_values, output_hidden_states=True)
    whole = wrapped(tokens, output_hidden_states=True)
    close(later.hidden_states[1], whole.hidden_states[1][:, 4:])
    with pytest.raises(ValueError, match="there are no maps after a cache"):
        wrapped(tokens[:, :1], past_key_values=later.past_key_values, output_attentions=True)
    with pytest.raises(ValueError, match='there are no maps of the "online" class'):
        from_language_model(tiny(variant="online"))(tokens, output_attentions=True)


def test_what_an_asm_cannot_take_is_refused(wrapped):
    tokens = ids(2, 9)
    cache = wrapped(tokens).past_key_values
    for arguments, says in (
        ({"inputs_embeds": torch.zeros(2, 9, 32)}, r"reads input_ids \[batch, time\], got inputs_embeds"),
        ({}, "reads input_ids"),
        (
            {"input_ids": tokens, "attention_mask": torch.zeros(2, 1, 9, 9)},
            r"wanted \[batch, time\] .* got \[2, 1, 9, 9\]",
        ),
        ({"input_ids": tokens, "attention_mask": torch.ones(2, 8)}, r"wanted the shape of input_ids, \[2, 9\]"),
        ({"input_ids": tokens, "attention_mask": torch.tensor([[1] * 9, [0] * 9])}, "a row has no token"),
        ({"input_ids": tokens, "position_ids": torch.arange(5, 14).unsqueeze(0)}, "row 0, column 0 is token 0, got 5"),
        ({"input_ids": tokens, "position_ids": torch.arange(9)}, r"position_ids: wanted \[2, 9\]"),
        ({"input_ids": tokens, "past_key_values": (1, 2)}, "past_key_values: wanted an ASMCache"),
        ({"input_ids": tokens[:1], "past_key_values": cache}, "past_key_values holds 2 rows, input_ids 1"),
        (
            {"input_ids": tokens, "past_key_values": cache, "attention_mask": torch.ones(2, 12)},
            "wanted 9 new columns, or 9 read before and these, got 12",
        ),
        (
            {"input_ids": tokens, "past_key_values": cache, "position_ids": torch.arange(9).unsqueeze(0)},
            "column 0 is token 9, got 0",
        ),
        (
            {
                "input_ids": tokens,
                "past_key_values": cache,
                "attention_mask": torch.ones(2, 18).index_fill(1, torch.tensor([0]), 0),
            },
            r"has read \[8, 8\] tokens a row, the cache says \[9, 9\]",
        ),
        ({"input_ids": ids(1, 65)}, "65 tokens are more than max_seq_len 64"),
    ):
        with pytest.raises(ValueError, match=says):
            wrapped(**arguments)
    assert cache.get_seq_length() == 9  # a refused call leaves the cache as it was
    with pytest.raises(TypeError, match="token_type_ids"):
        wrapped(tokens, token_type_ids=tokens)
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        wrapped.generate(tokens, assistant_model=wrapped, max_new_tokens=3)


def test_natural_positions_are_accepted(wrapped):
    tokens, mask = ids(2, 9), torch.tensor(MASKS["left"])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    plain = wrapped(tokens, attention_mask=mask)
    close(wrapped(tokens, attention_mask=mask, position_ids=positions).logits, plain.logits, atol=0)
    whole = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1)
    wrapped(
        tokens[:, :1],
        attention_mask=whole,
        past_key_values=plain.past_key_values,
        position_ids=torch.tensor([[6], [9]]),
    )


def test_a_saved_folder_has_the_published_keys_and_loads_everywhere(core, wrapped, folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    with safe_open(str(folder / "model.safetensors"), "pt") as opened:
        assert set(opened.keys()) == set(core.state_dict()) - {"lm_head.weight"}
    config = AutoConfig.from_pretrained(str(folder))
    assert type(config) is ASMConfig
    assert config.to_train_config() == core.cfg
    loaded, info = AutoModelForCausalLM.from_pretrained(str(folder), output_loading_info=True)
    assert type(loaded) is ASMForCausalLM
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert loaded.lm_head.weight is loaded.tok.weight
    assert loaded.language_model.tok is loaded.tok
    for (name, a), (_, b) in zip(loaded.named_buffers(), core.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    tokens = ids(2, 9)
    close(loaded(tokens).logits, core(tokens))
    plain = load_checkpoint(folder)
    assert plain.report.unknown_fields == ()
    with torch.no_grad():
        close(plain.model(tokens), core(tokens))


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_weights": False, "use_abs_pos": True},
        {"mlp_bias": True, "num_heads": 2, "embed_dim": 36, "variant": "intervene"},
    ],
)
def test_other_shapes_survive_saving(changes, tmp_path):
    core = tiny(**changes)
    from_language_model(core).save_pretrained(str(tmp_path))
    loaded = ASMForCausalLM.from_pretrained(str(tmp_path))
    assert loaded.config.variant == core.variant
    close(loaded(ids(2, 9)).logits, core(ids(2, 9)))
    for (name, a), (_, b) in zip(loaded.named_buffers(), core.named_buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(core, folder, dtype, tmp_path):
    loaded = ASMForCausalLM.from_pretrained(str(folder), dtype=dtype)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {dtype}
    assert {buffer.dtype for buffer in loaded.buffers()} == {torch.float32}  # tables are not stored and stay precise
    tokens = ids(2, 20)
    gap = (loaded(tokens).logits.float() - core(tokens)).abs().mean().detach()
    assert float(gap) < (0.05 if dtype == torch.float16 else 0.4)
    loaded.save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    again = ASMForCausalLM.from_pretrained(str(tmp_path))
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_weights_that_a_file_lacks_are_drawn_as_the_plain_model_draws(core, folder, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = {
        name: tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if not name.startswith("blocks.1.")
    }
    save_file(
        {**tensors, "blocks.0.asa._alibi_slopes": torch.zeros(4)},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    loaded, info = ASMForCausalLM.from_pretrained(str(tmp_path), output_loading_info=True)
    assert len(info["missing_keys"]) == 19
    assert not info["unexpected_keys"]  # buffers of old files are known
    fresh = build_model_from_cfg(core.cfg)
    for name, tensor in fresh.blocks[1].state_dict().items():
        drawn = loaded.blocks[1].state_dict()[name]
        if tensor.ndim < 2:
            close(drawn, tensor)
        else:
            assert float(drawn.std()) == pytest.approx(float(tensor.std()), rel=0.25), name


def test_a_fresh_module_is_the_plain_model_of_the_same_seed(core):
    config = ASMConfig.from_train_config(core.cfg)
    states = []
    for make in (lambda: ASMForCausalLM(config), lambda: build_model_from_cfg(core.cfg)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            states.append(make().state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_copies_and_a_larger_vocabulary(wrapped):
    tokens = ids(2, 9)
    twin = copy.deepcopy(wrapped)
    assert twin.language_model.tok is twin.tok
    assert twin.tok is not wrapped.tok
    close(twin(tokens).logits, wrapped(tokens).logits, atol=0)
    twin.resize_token_embeddings(70, mean_resizing=False)
    logits = twin(tokens).logits
    assert logits.shape == (2, 9, 70)
    close(logits[..., :61], wrapped(tokens).logits)
    assert twin.lm_head.weight is twin.tok.weight
    assert (twin.config.vocab_size, twin.language_model.vocab_size) == (70, 70)


def test_configuration_names_and_types():
    config = ASMConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=99,
        tie_word_embeddings=False,
    )
    assert (config.embed_dim, config.num_layers, config.num_heads, config.max_seq_len, config.tie_weights) == (
        48,
        3,
        6,
        99,
        False,
    )
    assert config.hidden_size == 48
    cfg = config.to_train_config()
    assert ASMConfig.from_train_config(cfg).to_train_config() == cfg
    with pytest.raises(ValueError, match="configuration field num_slots: wanted int, got '8'"):
        ASMConfig(num_slots="8")
    with pytest.raises(ValueError, match="embed_dim and its other name hidden_size have different values"):
        ASMConfig(hidden_size=48, embed_dim=32)
    with pytest.raises(ValueError, match="the model has no cfg"):
        from asa.asm_lm import ASMLanguageModel

        from_language_model(ASMLanguageModel(11, 8, 1, 2))


def test_the_model_fields_are_all_that_a_model_is_built_from():
    import dataclasses
    import inspect

    from asa.asa import AddressedStateAttention
    from asa.asm_lm import ASMLanguageModel
    from asa.config import ASMTrainConfig

    taken = {*inspect.signature(ASMLanguageModel).parameters, *inspect.signature(AddressedStateAttention).parameters}
    assert {f.name for f in dataclasses.fields(ASMTrainConfig)} & taken == set(MODEL_FIELDS)


def test_the_mode_reaches_the_plain_model():
    wrapped = from_language_model(tiny())
    for mode in (True, False):
        wrapped.train(mode)
        assert wrapped.language_model.training is mode
