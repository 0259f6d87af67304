"""Tokenizers: plain encoding whatever the file asks for, special ids, and a digest that follows content."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from trialplate.models.errors import TokenizerError
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import (
    TokenizerAdapter,
    load_tokenizer,
    peek_encode,
    peek_tokenizer,
    vocab_diff,
    wrap_tokenizer,
)

TINY = ModelSpec("embedded:neox-tiny")


@pytest.fixture
def folder(tmp_path, tokenizer_file):
    shutil.copy(tokenizer_file, tmp_path)
    return tmp_path


def rewrite(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_encode_decode_and_sizes(folder):
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode("and the Paris")
    assert tokenizer.decode(ids) == "and the Paris"
    assert tokenizer.encode_batch(["and the Paris", ""]) == [ids, []]
    assert tokenizer.offsets("and the") == [(0, 3), (3, 7)]
    assert tokenizer.vocab_size == 270
    assert max(tokenizer.vocab.values()) == 269


@pytest.fixture(scope="module")
def embedded():
    return peek_tokenizer(TINY)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_embedded_tokenizer_gives_every_text_back(embedded, text):
    tokenizer = embedded
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= n < tokenizer.vocab_size for n in ids)


def test_padding_and_truncation_of_the_file_are_switched_off(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_tokenizer(folder).encode("xyz uvw")) == 7


def test_special_tokens_are_not_added(folder):
    def add_post_processor(content):
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
        }

    before = load_tokenizer(folder)
    rewrite(folder / "tokenizer.json", add_post_processor)
    after = load_tokenizer(folder)
    assert after.backend.encode("x").ids[0] == 0
    assert after.encode("x") == before.encode("x")
    assert after.digest != before.digest


def test_special_ids_by_name_by_number_or_none(folder):
    assert load_tokenizer(folder).bos_id is None
    (folder / "config.json").write_text(json.dumps({"bos_token_id": 5, "eos_token_id": [6, 7]}))
    assert (load_tokenizer(folder).bos_id, load_tokenizer(folder).eos_id, load_tokenizer(folder).pad_id) == (5, 6, None)
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<|endoftext|>"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (0, None)


def test_special_token_outside_the_vocabulary_is_an_error(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    with pytest.raises(TokenizerError, match=r"name '\[PAD\]' as pad_token, which is not in the vocabulary of 270"):
        load_tokenizer(folder)


def test_vocab_and_merges_are_read_like_tokenizer_json(folder, tmp_path_factory):
    content = json.loads((folder / "tokenizer.json").read_text())["model"]
    other = tmp_path_factory.mktemp("vocab")
    (other / "vocab.json").write_text(json.dumps(content["vocab"]))
    (other / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in content["merges"])]))
    text = "and the Paris, the end."
    assert load_tokenizer(other).encode(text) == load_tokenizer(folder).encode(text)


def test_other_kinds_are_errors_and_never_replaced(tmp_path):
    with pytest.raises(
        TokenizerError, match=r"no tokenizer in .*: wanted tokenizer.json, or vocab.json with merges.txt"
    ):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(TokenizerError, match=r"It has tokenizer.model; convert it once"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(TokenizerError, match="is not a readable tokenizer"):
        load_tokenizer(tmp_path)


def test_damaged_settings_are_errors(folder):
    for text, says in (("{", "is not JSON"), ("[]", "holds a list")):
        (folder / "tokenizer_config.json").write_text(text)
        with pytest.raises(TokenizerError, match=says):
            load_tokenizer(folder)


def test_digest_follows_content_and_not_the_file(folder):
    first = load_tokenizer(folder).digest
    assert load_tokenizer(folder).digest == first
    rewrite(folder / "tokenizer.json", lambda content: None)  # other white space
    assert load_tokenizer(folder).digest == first

    def merges_as_text(content):
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]

    rewrite(folder / "tokenizer.json", merges_as_text)
    assert load_tokenizer(folder).digest == first


def shift_ids(content):
    vocab = content["model"]["vocab"]
    a, b = "x", "y"
    vocab[a], vocab[b] = vocab[b], vocab[a]


def drop_merge(content):
    content["model"]["merges"].pop()


def lower_case(content):
    content["normalizer"] = {"type": "Lowercase"}


def prefix_space(content):
    content["pre_tokenizer"]["add_prefix_space"] = True


@pytest.mark.parametrize("change", [shift_ids, drop_merge, lower_case, prefix_space])
def test_digest_sees_every_change_of_content(folder, change):
    first = load_tokenizer(folder).digest
    rewrite(folder / "tokenizer.json", change)
    assert load_tokenizer(folder).digest != first


def test_digest_sees_special_ids(folder):
    backend = load_tokenizer(folder).backend
    assert TokenizerAdapter(backend, bos_id=0).digest != TokenizerAdapter(backend).digest


def test_vocab_diff_lists_added_removed_moved():
    diff = vocab_diff({"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 2, "d": 3})
    assert (diff.added, diff.removed, diff.moved) == ({"d": 3}, {"c": 2}, {"b": (1, 2)})
    assert not diff.is_same
    assert diff.render() == "1 added: 'd'; 1 removed: 'c'; 1 moved: 'b' 1 -> 2"
    assert vocab_diff({"a": 0}, {"a": 0}).render() == "the same vocabulary"


def test_peek_needs_no_weights(copy_folder):
    folder = copy_folder("gpt2")
    (folder / "model.safetensors").unlink()
    assert peek_encode(ModelSpec(str(folder)))("the") == load_tokenizer(folder).encode("the")


def test_wrap_takes_fast_tokenizers_and_nothing_slow(folder):
    from transformers import PreTrainedTokenizerFast

    adapter = load_tokenizer(folder)
    assert wrap_tokenizer(adapter) is adapter
    assert wrap_tokenizer(adapter.backend).encode("the") == adapter.encode("the")
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<|endoftext|>")
    wrapped = wrap_tokenizer(fast)
    assert (wrapped.bos_id, wrapped.eos_id) == (0, None)
    assert wrapped.encode("and the") == adapter.encode("and the")
    with pytest.raises(TokenizerError, match="cannot use a function as tokenizer"):
        wrap_tokenizer(lambda text: text.split())


def test_agrees_with_transformers_on_the_embedded_model():
    from transformers import AutoTokenizer

    from trialplate.models.resolve import resolve

    theirs = AutoTokenizer.from_pretrained(str(resolve(TINY).path), local_files_only=True)
    ours = peek_tokenizer(TINY)
    text = "When Mary and John went to the store, 17 + 32 = 49.\n\tdef f(x):  return 'é😀'"
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)


def _with_template(adds: bool) -> Tokenizer:
    from tokenizers import models, processors

    backend = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2}, unk_token="a"))
    if adds:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return backend


@pytest.mark.parametrize(
    ("template", "flag", "expected"),
    [(True, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_adds_bos_is_what_the_files_ask_for_and_encode_leaves_it_out(template, flag, expected):
    adapter = TokenizerAdapter(_with_template(template), bos_id=0, adds_bos=flag)
    assert adapter.adds_bos is expected
    assert adapter.encode("b") == [2]


def test_without_a_beginning_token_none_is_added():
    assert TokenizerAdapter(_with_template(False), adds_bos=True).adds_bos is False
