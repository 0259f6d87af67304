"""Checkpoints of Addressed State Models as subjects: found by path, loaded strictly, named by content, measured like any other model."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.asa.tiny_models import tiny

from asa.checkpoint import save_checkpoint
from asa.hf import from_language_model
from asa.interventions import setting
from trialplate.models import catalog, checks, resolve
from trialplate.models.errors import ModelLoadError, ModelNotFound, TokenizerError
from trialplate.models.load import load
from trialplate.models.resolve import Source
from trialplate.models.spec import ModelSpec
from trialplate.models.stored import context_length, stored_digest, stored_manifest
from trialplate.models.tokenizers import byte_tokenizer, peek_tokenizer
from trialplate.scoring import Scorer
from trialplate.scoring.identity import is_patched, responder

PAIRS = [
    ("the hill and the", " sand"), ("the hill and the", " sea is in"), ("the hill and the", " sea"), ("on", " and on"), ("", "in the end"),
    ("a much longer context, with and without the", " the"), ("in the sand", " and"),
]  # fmt: skip


@pytest.fixture(scope="module")
def core():
    return tiny(vocab_size=270)


@pytest.fixture
def place(tmp_path, tokenizer_file):
    """A folder with a tokenizer."""
    shutil.copy(tokenizer_file, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(dict.fromkeys(("bos_token", "eos_token"), "<|endoftext|>"))
    )
    return tmp_path


@pytest.fixture
def file(core, place):
    return save_checkpoint(place / "asm.pt", core, step=3)


def logits(model):
    return model.logits(torch.arange(1, 20).unsqueeze(0))


def test_a_file_by_any_path_is_the_model(core, file, monkeypatch):
    model = load(ModelSpec(str(file)))
    torch.testing.assert_close(logits(model), core(torch.arange(1, 20).unsqueeze(0)))
    assert (model.n_layers, model.n_heads, model.d_model, model.max_length, model.vocab_rows) == (2, 4, 32, 64, 270)
    monkeypatch.chdir(file.parent.parent)
    relative = load(ModelSpec(f"{file.parent.name}/asm.pt"))  # looks like a hub id, ends like a checkpoint
    assert relative.weights_digest == model.weights_digest
    identity = model.identity()
    assert (identity["source"], identity["architecture"], identity["label"]) == ("file", "ASMForCausalLM", str(file))
    assert model.tokenizer.eos_id == 0
    assert peek_tokenizer(ModelSpec(str(file))).digest == model.tokenizer.digest


def test_a_folder_with_one_checkpoint_is_that_checkpoint(core, file, tmp_path_factory):
    model = load(ModelSpec(str(file.parent)))
    assert model.identity()["source"] == "folder"
    assert torch.equal(logits(model), logits(load(ModelSpec(str(file)))))
    (file.parent / "config.json").write_text(json.dumps({"schema": 1, "cfg": core.cfg.to_dict()}))
    assert load(ModelSpec(str(file.parent))).weights_digest == model.weights_digest
    save_checkpoint(file.parent / "best.pt", core)
    with pytest.raises(ModelNotFound, match=r"holds 2 checkpoints \(asm\.pt, best\.pt\): name the file"):
        load(ModelSpec(str(file.parent)))


def test_a_folder_for_transformers_stays_one(core, place):
    from_language_model(core).save_pretrained(str(place))
    save_checkpoint(place / "extra.pt", core)
    model = load(ModelSpec(str(place)))
    assert (model.source.checkpoint, type(model.module).__name__) == (None, "ASMForCausalLM")
    torch.testing.assert_close(logits(model), core(torch.arange(1, 20).unsqueeze(0)))


def test_the_folder_of_a_training_run(core, place):
    (place / "config.json").write_text(json.dumps({"schema": 1, "cfg": core.cfg.to_dict()}))
    (place / "checkpoints").mkdir()
    last = save_checkpoint(place / "checkpoints" / "last.pt", core)
    with pytest.raises(ModelNotFound, match=r"no weights: .* Name a checkpoint of it, such as .*last\.pt"):
        load(ModelSpec(str(place)))
    assert load(ModelSpec(str(last))).tokenizer.eos_id == 0  # the run's tokenizer, one folder above


@pytest.mark.parametrize("change", ["alt", "wrapped", "safetensors"])
def test_other_forms_of_the_same_weights(core, file, change):
    reference = load(ModelSpec(str(file)))
    assert reference.weights_digest  # read before the file is replaced
    if change == "wrapped":
        state = {f"module._orig_mod.{name}": tensor for name, tensor in core.state_dict().items()}
        torch.save({"cfg": core.cfg.to_dict(), "model_state_dict": state}, file)
    else:
        naming = "alt" if change == "alt" else "asm"
        file = save_checkpoint(
            file.with_suffix(".safetensors" if change == "safetensors" else ".pt"), core, naming=naming
        )
    model = load(ModelSpec(str(file)))
    assert torch.equal(logits(model), logits(reference))
    assert model.weights_digest != reference.weights_digest  # as stored: names count
    assert checks.key_coverage(model).is_same
    stored = checks.stored_gap(model)
    assert (stored.n_different, stored.max_abs) == (0, 0.0)
    assert stored.n_tensors >= 41


def test_digests_follow_the_content(core, file):
    digest = load(ModelSpec(str(file))).weights_digest
    save_checkpoint(file, core, step=4, opt={"more": 1})
    assert load(ModelSpec(str(file))).weights_digest == digest
    changed = tiny(vocab_size=270)
    changed.blocks[1].asa.slot_keys[0, 0, 0] += 1
    save_checkpoint(file, changed)
    again = load(ModelSpec(str(file)))
    assert again.weights_digest != digest
    assert again.key_manifest_digest == load(ModelSpec(str(file))).key_manifest_digest
    exact = load(ModelSpec(str(save_checkpoint(file, tiny(vocab_size=270, write_mode="exact")))))
    assert exact.config_digest != again.config_digest


def test_what_is_stored_can_be_read_without_loading(core, file, make_folder):
    source = resolve.resolve(ModelSpec(str(file)))
    manifest = stored_manifest(source, transposed=True)
    assert manifest.keys() == stored_manifest(source).keys() == core.state_dict().keys()
    assert manifest["blocks.0.asa.slot_in.weight"].transposed is not None
    assert stored_manifest(source, content=True)["norm.bias"].content == manifest["norm.bias"].content
    assert stored_digest(source) == load(ModelSpec(str(file))).weights_digest
    assert (context_length(source), context_length(Source("folder", make_folder("gpt2")))) == (64, 64)
    torch.save({"model": core.state_dict()}, file)
    assert context_length(source) is None


def test_checks_of_model_code(file, tmp_path):
    model, rng = load(ModelSpec(str(file))), np.random.default_rng(0)
    scale = checks.logit_scale(model, rng)
    assert scale > 1
    padding = checks.padding_gap(model, rng)
    gaps = [
        padding.left,
        padding.right,
        checks.causality_gap(model, rng),
        checks.batch_gap(model, rng),
        checks.cache_gap(model, rng, length=30),
    ]
    assert max(gaps) < 1e-4 * scale
    assert checks.repeat_gap(model, rng) == 0
    assert checks.finite_counts(model, rng).activations == 0
    assert checks.tied(model).ok
    trip = checks.round_trip(model, tmp_path / "saved", rng)
    assert (trip.is_identical, trip.logit_gap) == (True, 0.0)
    assert checks.dtypes_differing(load(ModelSpec(str(file), dtype="bfloat16"))) == 0


def test_random_twin(file):
    model = load(ModelSpec(str(file)))
    a, b, c = model.random_twin(1), model.random_twin(1), model.random_twin(2)
    assert a.weights_digest == b.weights_digest
    assert len({a.weights_digest, c.weights_digest, model.weights_digest}) == 3
    assert a.config_digest == model.config_digest
    assert a.source is None


def test_an_embedded_model_needs_its_folder_and_its_line_only(core, place, monkeypatch):
    stored = place / "asm-tiny"
    from_language_model(core, eos_token_id=0).half().save_pretrained(str(stored))
    shutil.copy(place / "tokenizer.json", stored)
    monkeypatch.setattr(resolve, "EMBEDDED_FOLDER", place)
    for module in (resolve, catalog):
        monkeypatch.setattr(module, "EMBEDDED", (*catalog.EMBEDDED, "embedded:asm-tiny", "embedded:asm-random"))
        monkeypatch.setattr(
            module, "EMBEDDED_RANDOM", {**catalog.EMBEDDED_RANDOM, "embedded:asm-random": ("embedded:asm-tiny", 0)}
        )
    model, drawn = load(ModelSpec("embedded:asm-tiny")), load(ModelSpec("embedded:asm-random"))
    assert (model.dtype, model.tokenizer.eos_id, model.has_files, drawn.has_files) == (torch.float32, 0, True, False)
    assert drawn.weights_digest == model.random_twin(0).weights_digest
    assert {info.dtype for info in stored_manifest(model.source).values()} == {"F16"}


def test_no_tokenizer_says_what_to_put_where(core, hub_cache, tmp_path, make_folder):
    (tmp_path / "bare").mkdir()
    file = save_checkpoint(tmp_path / "bare" / "asm.pt", core)
    with pytest.raises(TokenizerError) as caught:
        load(ModelSpec(str(file)))
    assert str(caught.value) == (
        f"no tokenizer for {file}: wanted tokenizer.json (or vocab.json with merges.txt) beside it in {file.parent}. Its configuration names 'gpt2', "
        f"which the hub cache {tmp_path / 'hub'} does not have. Put it there, or fetch it with `hf download openai-community/gpt2 tokenizer.json`."
    )
    hub_cache("openai-community/gpt2", make_folder("gpt2"))
    assert load(ModelSpec(str(file))).tokenizer.vocab_size == 270
    unnamed = tiny(vocab_size=270, tokenizer_name="")
    with pytest.raises(TokenizerError, match=r"beside it in .*bare\. Put it there\.$"):
        load(ModelSpec(str(save_checkpoint(file, unnamed))))
    elsewhere = tiny(vocab_size=270, tokenizer_name=str(tmp_path / "lost"))
    with pytest.raises(TokenizerError, match=r"names '.*lost', which is not on this machine\. Put it there\.$"):
        load(ModelSpec(str(save_checkpoint(file, elsewhere))))
    file.write_bytes(b"")
    with pytest.raises(TokenizerError, match=r"the file itself does not name one: .*is empty"):
        load(ModelSpec(str(file)))


def test_tokenizers_that_a_training_names(tmp_path, tokenizer_file):
    for name, size in (
        ("embedded:neox-tiny", 1931),
        (str(tokenizer_file), 270),
        (str(tokenizer_file.parent), 270),
        ("bytes", 257),
    ):
        file = save_checkpoint(tmp_path / "asm.pt", tiny(tokenizer_name=name))
        assert peek_tokenizer(ModelSpec(str(file))).vocab_size == size, name


def test_bytes_are_ids():
    from asa.utils.tokenization import ByteTokenizer

    tokenizer = byte_tokenizer()
    for text in ("the end", "Ünïcödé 日本 🏳️‍🌈\r\n\t\0", " <|end|> "):
        assert tokenizer.encode(text) == list(text.encode()) == ByteTokenizer().encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.bos_id) == (
        ByteTokenizer.vocab_size,
        ByteTokenizer.end_id,
        None,
    )
    assert sorted(tokenizer.vocab.values()) == list(range(257))


def test_files_that_are_no_checkpoint(core, file, place):
    with pytest.raises(ModelNotFound, match=r"no checkpoint file at .*gone\.pt"):
        load(ModelSpec(str(place / "gone.pt")))
    with pytest.raises(ModelNotFound, match="is a file and has no revisions"):
        load(ModelSpec(str(file), "step1"))
    with pytest.raises(ModelNotFound, match=r"or a checkpoint file \(\.pt, \.pth, \.ckpt, \.safetensors\), got a file"):
        load(ModelSpec(str(place / "tokenizer.json")))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match=r"is not a readable torch file|without running code"):
        load(ModelSpec(str(file)))
    torch.save({"cfg": {**core.cfg.to_dict(), "num_slots": 9}, "model": core.state_dict()}, file)
    with pytest.raises(ModelLoadError, match="num_slots: the configuration says 9, the weights say 8"):
        load(ModelSpec(str(file)))


@pytest.mark.parametrize("share_contexts", [True, False])
@pytest.mark.parametrize("token_budget", [7, 40, 1024])
def test_ragged_and_batched_scores_are_those_of_each_request_alone(file, share_contexts, token_budget):
    model = load(ModelSpec(str(file)))
    scorer = Scorer(model, token_budget=token_budget, share_contexts=share_contexts)
    assert not scorer.shares_contexts  # no packed rows: that takes pairs of positions to mask
    together = scorer.loglikelihood(PAIRS)
    for pair, score in zip(PAIRS, together, strict=True):
        ids = model.tokenizer.encode(pair[0]) or [model.prefix_id]
        scored = model.tokenizer.encode(pair[0] + pair[1])[len(ids) if pair[0] else 0 :]
        full = model.logits(torch.tensor([[*ids, *scored]]))[0].log_softmax(-1)
        alone = sum(float(full[len(ids) - 1 + n, token]) for n, token in enumerate(scored))
        assert score.logprob == pytest.approx(alone, abs=2e-4)
        assert score.n_tokens == len(scored)
    assert max(score.logprob for score in together) < -1
    texts = ["the hill and the sand " * 12, "on and on", "a" * 70]
    for text, score in zip(texts, scorer.rolling(texts), strict=True):
        assert score.logprob == pytest.approx(Scorer(model, token_budget=1).rolling([text])[0].logprob, abs=1e-3)


def test_ragged_greedy_texts_are_those_of_each_prompt_alone(file):
    model = load(ModelSpec(str(file)))
    prompts = ["the hill and", "on", "in the sand the sea is on the", "a"]
    together = Scorer(model).generate(prompts, max_new_tokens=20)
    assert together == [Scorer(model).generate([prompt], max_new_tokens=20)[0] for prompt in prompts]
    assert len(set(together)) > 1


def test_the_response_cache_steps_aside_for_a_steered_layer(file):
    model = load(ModelSpec(str(file)))
    layers = model.module.language_model.layers
    named = responder(model)
    assert named == responder(model)
    assert not is_patched(model.module)
    for attributes in ({"routing_override": lambda *_: None}, {"slot_mask": torch.ones(8)}):
        with setting(layers, **attributes):
            assert responder(model) is None
    with setting(layers, write_mode="exact"):
        assert responder(model) not in (None, named)
    assert responder(model) == named
