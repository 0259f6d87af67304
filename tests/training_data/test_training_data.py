"""What is trained on: corpus, files, hub data sets, tokenizers; splits that share nothing; errors that say what would do."""

import json
import sys
import types

import pyarrow
import pytest
import torch
from pyarrow import parquet

from asa.train import TrainSettings
from trialplate.tasks.document import split_of
from trialplate.training_data.assemble import prepare, source
from trialplate.training_data.settings import DataError, DataSettings
from trialplate.training_data.texts import read_texts
from trialplate.training_data.tokenizer import find_tokens

DOCUMENTS = [f"This is document number {i}, and it says {i * i}." for i in range(60)]
SMALL = {"corpus_documents": 300, "val_documents": 20}


def written(tmp_path, kind):
    """The documents as a file of a kind; for .txt with blank lines between them."""
    path = tmp_path / f"texts.{kind}"
    if kind == "txt":
        path.write_text("\n\n".join(DOCUMENTS))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": d}) + "\n" for d in [*DOCUMENTS, ""]))
    else:
        parquet.write_table(pyarrow.table({"text": [*DOCUMENTS, " "], "n": list(range(61))}), path)
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_files_of_all_kinds_hold_the_same_documents(tmp_path, kind):
    texts = read_texts(DataSettings(source=str(written(tmp_path, kind))), online=False)
    assert sorted([*texts.train, *texts.held_out]) == sorted(DOCUMENTS)
    assert texts.held_out == [d for d in DOCUMENTS if split_of(d) == "heldout"]
    assert texts.checksums["held_out_documents"]["n"] == len(texts.held_out) > 0


def test_a_repeated_document_is_on_one_side(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("\n\n".join(DOCUMENTS * 2))
    texts = read_texts(DataSettings(source=str(path)), online=False)
    assert not set(texts.train) & set(texts.held_out)


def test_a_file_of_its_own_validates(tmp_path):
    other = tmp_path / "val.txt"
    other.write_text("one\n\ntwo")
    settings = DataSettings(source=str(written(tmp_path, "txt")), val_source=str(other), max_documents=7)
    texts = read_texts(settings, online=False)
    assert (len(texts.train), texts.held_out) == (7, ["one", "two"])


def test_a_digest_knows_the_borders_of_documents(tmp_path):
    settings = DataSettings(source=str(written(tmp_path, "txt")), val_source=str(tmp_path / "texts.txt"))
    before = read_texts(settings, online=False).checksums["train_documents"]["sha256"]
    (tmp_path / "texts.txt").write_text("\n\n".join(DOCUMENTS).replace("0.\n\nThis", "0.This"))
    assert read_texts(settings, online=False).checksums["train_documents"]["sha256"] != before


@pytest.mark.parametrize(
    ("name", "content", "changes", "text"),
    [
        ("absent.txt", None, {}, "no text at"),
        ("t.txt", b"one document only", {}, "wanted some of both"),
        ("t.txt", b"\xff\xfe", {}, "not UTF-8"),
        ("t.txt", b"\n\n", {}, "no document in it"),
        ("t.jsonl", b'{"text": 3}', {}, "t.jsonl:1: `text`: wanted a string"),
        ("t.jsonl", b'{"txt": "a"}', {"field": "words"}, "`words`"),
        ("t.parquet", b"nothing of the kind", {}, "is not a readable parquet file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path, name, content, changes, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_texts(DataSettings(source=str(tmp_path / name), **changes), online=False)
    assert text in str(caught.value)


def test_a_parquet_column_that_is_absent_or_not_text(tmp_path):
    path = str(written(tmp_path, "parquet"))
    with pytest.raises(DataError, match=r"no column 'words'; it has text, n"):
        read_texts(DataSettings(source=path, field="words"), online=False)
    with pytest.raises(DataError, match="wanted texts, got int"):
        read_texts(DataSettings(source=path, field="n"), online=False)


class Rows(list):
    column_names = ("text",)

    def __getitem__(self, name):
        return DOCUMENTS


def hub(monkeypatch, load):
    """A stand-in for the data sets library."""
    module = types.ModuleType("datasets")
    module.load_dataset = load
    module.exceptions = types.SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_data_need_permission(monkeypatch):
    hub(monkeypatch, lambda *a, **k: pytest.fail("reached for the hub"))
    with pytest.raises(DataError, match="needs --online"):
        read_texts(DataSettings(source="hub:org/name"), online=False)


def test_hub_data_need_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'trialplate\[datasets\]'"):
        read_texts(DataSettings(source="hub:org/name"), online=True)


def test_hub_data(monkeypatch):
    asked = []

    def load(*args, **kwargs):
        asked.append((args, kwargs))
        return Rows()

    hub(monkeypatch, load)
    texts = read_texts(DataSettings(source="hub:org/name", hub_config="c", hub_revision="r"), online=True)
    assert asked == [(("org/name", "c"), {"split": "train", "revision": "r"})]
    assert len(texts.train) + len(texts.held_out) == 60
    with pytest.raises(DataError, match="no column 'words'; it has text"):
        read_texts(DataSettings(source="hub:org/name", field="words"), online=True)


def test_hub_data_that_cannot_be_fetched(monkeypatch):
    def load(*args, **kwargs):
        raise ConnectionError("no route")

    hub(monkeypatch, load)
    with pytest.raises(DataError, match=r"cannot fetch org/name .*no route"):
        read_texts(DataSettings(source="hub:org/name"), online=True)


def test_the_corpus_is_that_of_the_embedded_model():
    prepared = prepare(DataSettings(**SMALL), online=False)
    assert len(prepared.texts.train) == 300
    assert len(prepared.texts.held_out) == 20
    decoded = prepared.tokens.adapter.decode(prepared.train[:200].tolist())
    assert decoded.startswith(prepared.texts.train[0] + "<|endoftext|>" + prepared.texts.train[1][:5])
    assert int((prepared.train == prepared.tokens.end_id).sum()) == 300
    assert prepared.val_bytes == sum(len(t.encode()) for t in prepared.texts.held_out)
    assert prepared.checksums["tokenizer"]["vocab_size"] == 1931


def test_bytes_as_tokens(tmp_path):
    settings = DataSettings(source=str(written(tmp_path, "txt")), tokenizer="bytes")
    prepared = prepare(settings, online=False)
    assert len(prepared.train) == sum(len(t.encode()) + 1 for t in prepared.texts.train)
    with pytest.raises(DataError, match="leave it empty"):
        find_tokens(DataSettings(tokenizer="bytes", end_token="x"), online=False)


def test_a_tokenizer_by_its_file(tmp_path):
    from trialplate.models.resolve import EMBEDDED_FOLDER

    file = tmp_path / "tokenizer.json"
    file.write_bytes((EMBEDDED_FOLDER / "neox-tiny" / "tokenizer.json").read_bytes())
    with pytest.raises(DataError, match=r"names no end-of-text token.*set data.end_token"):
        find_tokens(DataSettings(tokenizer=str(file)), online=False)
    with pytest.raises(DataError, match="is not in the vocabulary"):
        find_tokens(DataSettings(tokenizer=str(file), end_token="<end>"), online=False)
    for name in (file, tmp_path):
        found = find_tokens(DataSettings(tokenizer=str(name), end_token="<|endoftext|>"), online=False)
        assert (found.end_id, found.vocab_size) == (0, 1931)


@pytest.mark.parametrize(
    ("name", "text"),
    [("absent/tokenizer.json", "not there"), ("embedded:absent", "no embedded model"), ("org/absent", "is not in the hub cache")],
)  # fmt: skip
def test_tokenizers_that_are_not_there(name, text):
    with pytest.raises(DataError) as caught:
        find_tokens(DataSettings(tokenizer=name), online=False)
    assert text in str(caught.value)


TRAIN = TrainSettings(seq_len=32, batch_size=4, total_steps=10, warmup_steps=1)
WEIGHTED = DataSettings(packing="weighted", induction_share=0.4, **SMALL)


def test_weighted_rows_are_those_of_the_embedded_model():
    from trialplate.models.embedded_training.batches import Packer

    prepared = prepare(WEIGHTED, online=False)
    packer = Packer(prepared.tokens.adapter.backend, prepared.texts.parts, rows=4, row_length=32, seed=0)
    ours = source(prepared, WEIGHTED, TRAIN)
    for _, (ids, weights) in zip(range(5), packer.batches(0.4), strict=False):
        batch = ours.next_batch()
        assert torch.equal(batch.ids, ids)
        assert torch.equal(batch.weights, weights)


def test_a_packed_stream_goes_on_from_its_state():
    prepared = prepare(WEIGHTED, online=False)
    one, other = (source(prepared, WEIGHTED, TRAIN) for _ in range(2))
    for _ in range(7):
        one.next_batch()
    other.load_state_dict(one.state_dict())
    for _ in range(20):
        assert torch.equal(one.next_batch().ids, other.next_batch().ids)


def test_an_epoch_of_packed_rows_is_about_one_pass():
    plain = DataSettings(packing="weighted", **SMALL)
    prepared = prepare(plain, online=False)
    rows = source(prepared, plain, TRAIN).rows_per_epoch
    assert rows == round(len(prepared.train) / 32)
    mixed = source(prepare(WEIGHTED, online=False), WEIGHTED, TRAIN).rows_per_epoch
    assert mixed == pytest.approx(rows / 0.6, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"packing": "weighted", "source": "a.txt"}, 'use packing = "stream"'),
        ({"induction_share": 0.2}, 'needs packing = "weighted"'),
        ({"packing": "weighted", "induction_share": 1.0}, "below 1"),
    ],
)
def test_settings_that_contradict_each_other(changes, text):
    with pytest.raises(DataError) as caught:
        DataSettings(**changes)
    assert text in str(caught.value)


def test_weights_need_the_end_that_the_packer_writes():
    with pytest.raises(DataError, match="id 0"):
        prepare(DataSettings(packing="weighted", tokenizer="bytes", **SMALL), online=False)
