"""The corpus: the same documents for the same seed, in the stated shares, with what is held out never among them."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

import trialplate.models
from trialplate.tasks.corpus import SHARES, corpus, corpus_digest, documents, heldout_documents
from trialplate.tasks.document import Document
from trialplate.tasks.probes.arithmetic import pair_split
from trialplate.tasks.texture import code, dialogue


def test_digest_is_that_of_the_model_card():
    folder = Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny"
    stated = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["corpus"]
    assert corpus_digest(corpus(stated["seed"], stated["documents"])) == stated["sha256"]


def test_documents_are_a_function_of_the_seed():
    assert corpus(0, 50) == corpus(0, 50)
    assert corpus(0, 50) == list(islice(documents(0), 50))
    assert corpus(0, 50) != corpus(1, 50)


def test_digest_sees_the_parts():
    base = Document("ioi", "a", "b", "c")
    changed = [Document("x", "a", "b", "c"), Document("ioi", "ab", "", "c"), Document("ioi", "a", "bc", "")]
    assert len({corpus_digest([d]) for d in (base, *changed)}) == 4
    assert corpus_digest([base, base]) != corpus_digest([base])


def test_shares():
    assert sum(share for share, _ in SHARES.values()) == pytest.approx(1)
    counts = Counter(document.domain for document in corpus(3, 10_000))
    for domain, (share, _) in SHARES.items():
        assert counts[domain] / 10_000 == pytest.approx(share, abs=0.015)


def test_held_out_documents_are_not_in_the_corpus():
    heldout = set(heldout_documents(1000, 5))
    assert not heldout & {document.text for seed in (0, 1) for document in corpus(seed, 20_000)}
    assert heldout_documents(20, 5) == heldout_documents(20, 5) != heldout_documents(20, 6)


def test_held_out_sums_are_never_written_down():
    for document in corpus(0, 5000):
        if document.domain == "arithmetic":
            a, sign, b, _ = document.prompt.split()
            assert pair_split("add" if sign == "+" else "sub", int(a), int(b)) == "train"
            assert int(document.answer) == (int(a) + int(b) if sign == "+" else int(a) - int(b))


def test_years_come_in_order():
    years = [document for document in corpus(0, 5000) if document.domain == "years"]
    assert years
    for document in years:
        begin = int(next(word for word in document.prompt.split() if word.isdigit()))
        end = int(document.prompt.split()[-1] + document.answer)
        assert begin < end < begin // 100 * 100 + 100


@pytest.mark.parametrize("make", [code, dialogue])
def test_answers_of_texture_come_from_the_text(make):
    from random import Random

    rng = Random(0)
    for _ in range(50):
        document = make(rng, "train")
        assert document.answer.strip() in document.prompt


def test_code_parses():
    import ast

    programs = [document.text for document in corpus(0, 5000) if document.domain == "code"]
    assert programs
    assert all(ast.parse(text).body for text in programs)


def test_held_out_documents_need_a_number():
    with pytest.raises(ValueError, match="n = 0, wanted at least 1"):
        heldout_documents(0, 0)
