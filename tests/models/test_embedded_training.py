"""The embedded model is what its generator makes: tokenizer, weights of the losses, training that repeats, files that were earned."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import trialplate.models
from trialplate.models import embedded_training
from trialplate.models.embedded_training import publish as building
from trialplate.models.embedded_training.batches import ANSWER, PROMPT, REST, Packer, encode_document, induction_piece
from trialplate.models.embedded_training.evaluate import Score, scores
from trialplate.models.embedded_training.loop import _rate, train
from trialplate.models.embedded_training.recipe import CARD_SEED, SHIPPED, TARGETS, Phase, Recipe, missed
from trialplate.models.embedded_training.tokenizer import END_OF_TEXT_ID, required_pieces, train_tokenizer
from trialplate.tasks.corpus import corpus
from trialplate.tasks.document import Document
from trialplate.tasks.probes.induction import word_ids

FOLDER = Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny"
TINY = Recipe(
    phases=(Phase(3, 7e-3, 0.35),),
    hidden_size=16,
    n_layers=1,
    n_heads=2,
    corpus_size=400,
    tokenizer_documents=200,
    rows=2,
)
SHIPPED_TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
PERFECT = {name: Score(1.0, 10) for name in TARGETS}


@pytest.fixture(scope="module")
def tokenizer():
    return SHIPPED_TOKENIZER


@pytest.fixture(scope="module")
def tiny_run():
    return train(recipe=TINY, seed=0)


def weights_hash(model):
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_shipped_tokenizer_is_what_the_corpus_makes():
    texts = (d.text for d in corpus(SHIPPED.corpus_seed, SHIPPED.tokenizer_documents))
    made = json.loads(train_tokenizer(texts, SHIPPED.vocab_size).to_str())
    assert made == json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))


def test_tokenizer_that_is_too_small_is_refused():
    with pytest.raises(
        ValueError, match=r"vocabulary of 600 entries splits \d+ required words, first .*raise vocab_size \(600\)"
    ):
        train_tokenizer([], 600)


def test_required_pieces_are_single_tokens(tokenizer):
    assert all(len(tokenizer.encode(piece).ids) == 1 for piece in required_pieces())


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1732", ["17", "32"]),
        (" 1732", ["Ġ17", "32"]),
        ("732", ["7", "32"]),
        (" 85", ["Ġ85"]),
        ("12 + 7 = 19.", ["12", "Ġ+", "Ġ7", "Ġ=", "Ġ19", "."]),
        ("the year 17", ["the", "Ġyear", "Ġ17"]),
        ("0456789", ["0", "45", "67", "89"]),
    ],
)
def test_numbers_are_cut_into_pairs_from_the_right(tokenizer, text, tokens):
    assert tokenizer.encode(text).tokens[-len(tokens) :] == tokens


@given(st.text())
def test_tokenizer_is_lossless(text):
    assert SHIPPED_TOKENIZER.decode(SHIPPED_TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


def test_transformers_loads_the_same_tokenizer(tokenizer):
    loaded = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (END_OF_TEXT_ID,) * 3
    assert loaded.model_max_length == SHIPPED.row_length
    for document in corpus(1, 50):
        assert loaded.encode(document.text) == tokenizer.encode(document.text).ids
        assert loaded.decode(loaded.encode(document.text)) == document.text


def test_loss_weights_by_hand(tokenizer):
    piece = encode_document(tokenizer, Document("facts", "The capital of France is", " Paris", "."))
    assert [tokenizer.id_to_token(i) for i in piece.ids[5:]] == ["ĠParis", ".", "<|endoftext|>"]
    assert piece.weights == [PROMPT] * 5 + [ANSWER] + [REST] * 2


def test_induction_piece_repeats_its_block(tokenizer):
    from random import Random

    words = word_ids(lambda text: tokenizer.encode(text).ids)
    for seed in range(20):
        piece = induction_piece(Random(seed), words, tokenizer.get_vocab_size())
        length = piece.weights.index(0.8)
        body = piece.ids[:-1]
        assert len(body) % length == 0
        assert body == body[:length] * (len(body) // length)
        assert len(piece.ids) == len(piece.weights)


def test_rows_are_full_and_hold_the_share_of_random_sequences(tokenizer):
    packer = Packer(tokenizer, corpus(0, 300), rows=8, row_length=64, seed=0)
    batches = packer.batches(0.35)
    random_tokens, total = 0, 0
    for _ in range(20):
        ids, weights = next(batches)
        assert ids.shape == (8, 65)
        assert weights.shape == (8, 64)
        random_tokens += ((weights == 0.01) | (weights == 0.8)).sum().item()
        total += weights.numel()
    assert random_tokens / total == pytest.approx(0.35, abs=0.05)


def test_learning_rate_rises_and_falls_to_zero():
    rates = [_rate(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[100] == 0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_training_repeats_bit_for_bit_and_leaves_no_trace(tiny_run):
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    again = train(recipe=TINY, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert weights_hash(again.model) == weights_hash(tiny_run.model)
    assert again.log == tiny_run.log
    assert weights_hash(train(recipe=TINY, seed=1).model) != weights_hash(tiny_run.model)


def test_training_goes_on_until_the_targets_are_reached(monkeypatch):
    calls = []

    def better_every_time(model, tokenizer, seed):
        calls.append(seed)
        return PERFECT if len(calls) == 2 else {}

    monkeypatch.setattr("trialplate.models.embedded_training.loop.scores", better_every_time)
    recipe = dataclasses.replace(TINY, phases=(Phase(1, 1e-3, 0.0),) * 4)
    shown = []
    run = train(recipe=recipe, seed=0, progress=lambda step, steps, text: shown.append((step, steps, text)))
    assert [line["phase"] for line in run.log] == [0, 1]
    assert run.missed == []
    assert shown[-1][:2] == (1, 1)
    assert shown[-1][2].endswith("missed: nothing")


def test_a_score_that_is_absent_or_nan_is_missed():
    assert missed(PERFECT) == []
    for broken in ({**PERFECT, "add_20": Score(float("nan"), 1)}, {k: v for k, v in PERFECT.items() if k != "add_20"}):
        assert missed(broken) == ["add_20 = nan, wanted > 0.6"]
    assert missed({**PERFECT, "add_20": Score(0.6, 10)}) == ["add_20 = 0.600, wanted > 0.6"]
    assert len(missed({})) == len(TARGETS)


def test_a_model_below_its_targets_is_not_written(tiny_run, tmp_path):
    with pytest.raises(
        building.TargetsMissed,
        match=r"misses \d+ of its targets after the last phase: ioi_abba = .*Nothing was written",
    ):
        building.publish(tiny_run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_storage_breaks_is_not_written(tiny_run, tmp_path, monkeypatch):
    run = dataclasses.replace(tiny_run, scores=PERFECT)
    monkeypatch.setattr(building, "scores", lambda *_: {**PERFECT, "sub_20": Score(0.1, 10)})
    with pytest.raises(building.TargetsMissed, match=r"once stored as float16: sub_20 = 0.100, wanted > 0.6"):
        building.publish(run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_published_folder_loads_as_it_was_trained(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "scores", lambda *_: PERFECT)
    built = building.publish(dataclasses.replace(tiny_run, scores=PERFECT), tmp_path / "deep" / "model")
    names = {path.name for path in built.outdir.iterdir()}
    assert names == {path.name for path in FOLDER.iterdir()}
    assert {path.name for path in built.outdir.parent.iterdir()} == {"model"}
    model = building.load_stored(built.outdir)
    assert model.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tiny_run.model.state_dict()[name].half().float()), name
    document = json.loads((built.outdir / "scores.json").read_text(encoding="utf-8"))
    assert document["scores"]["add_20"] == {
        "value": 1.0,
        "n": 10,
        "target": 0.6,
        "meaning": "sum of 0..20 and 0..20, trained pairs",
    }
    with pytest.raises(FileExistsError, match="is not empty; an embedded model is written to a new or empty folder"):
        embedded_training.build(built.outdir)


def test_package_has_what_it_says():
    assert embedded_training.TargetsMissed is building.TargetsMissed
    with pytest.raises(AttributeError, match="it has TargetsMissed, build"):
        _ = embedded_training.nothing


def test_shipped_files_are_small_and_of_the_published_form():
    assert (FOLDER / "model.safetensors").stat().st_size <= 3_000_000
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["dtype"], config["tie_word_embeddings"]) == ("gpt_neox", "float32", False)
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert {"embed_out.weight", "gpt_neox.embed_in.weight"} <= set(file.keys())
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118 (not a mapping)


def test_the_card_states_what_the_shipped_model_does(tokenizer):
    stated = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
    assert stated["card_seed"] == CARD_SEED
    assert set(TARGETS) == {name for name, score in stated["scores"].items() if score["target"] is not None}
    found = scores(building.load_stored(FOLDER), tokenizer, CARD_SEED)
    assert set(found) == set(stated["scores"])
    for name, score in found.items():
        assert score.n == stated["scores"][name]["n"]
        # one item of the smallest set: another CPU may round the last bit of a logit differently
        assert score.value == pytest.approx(stated["scores"][name]["value"], abs=0.04), name
    assert missed(found) == []
