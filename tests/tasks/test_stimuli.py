"""Texts for activations: six domains of more than five hundred different texts, and each text of any manifest line once."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import mean

import pytest
from tokenizers import Tokenizer

import trialplate.models
from trialplate.tasks.corpus import documents
from trialplate.tasks.domains import DOMAINS, N_TEXTS, domain_texts
from trialplate.tasks.generators import generate
from trialplate.tasks.items import make_item
from trialplate.tasks.manifest import SourceAbsent, load_manifest, parse_manifest, select
from trialplate.tasks.manifest_model import ProbeTask, Source
from trialplate.tasks.stimuli import file_task, prompt_task, stimuli_digest, texts, token_rows, without_texts

DATA = Path(__file__).parents[2] / "data"
END = 0
PINNED = {
    "domain_code": "8d6fb082f5780543e78abfb8b90fae79883fd73be38e5facb5ec9be53dad0051",
    "domain_math": "0f34ef0178845a8b71408e2d8e1fbce55eeb2df2ca3d6fcc4705b778b1e85db7",
    "domain_facts": "2dda415e83d88b56e3cc150239f92aee792a814984e274c4de97916616cfc659",
    "domain_prose": "a6c6963b22ccda294e1429bcfbd0716c6fdb37b5a73411767da94268daeff61d",
    "domain_dialogue": "b6ddbe9cb2c623863dcdda1d41c6dd98ee54bd738ebe2ab946c0f7acc0d15133",
    "domain_reasoning": "3793931f568f8a79b222c72f83ac5acd023c9e5906ad202f20d28299850176e4",
}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(
        str(Path(trialplate.models.__file__).parent / "embedded" / "neox-tiny" / "tokenizer.json")
    )


@pytest.fixture(scope="module")
def encode(tokenizer):
    return lambda text: tokenizer.encode(text).ids


@pytest.fixture(scope="module")
def encode_batch(tokenizer):
    return lambda batch: [encoding.ids for encoding in tokenizer.encode_batch(batch)]


@pytest.fixture(scope="module")
def shipped():
    return load_manifest(DATA / "probe_tasks.jsonl")


@pytest.fixture(scope="module")
def domains(shipped, encode):
    """The texts of the six shipped domain tasks, by id."""
    return {task.task_id: texts(task, encode) for task in select(shipped, DOMAINS)}


def task(**line):
    """A manifest line of version 2; `source` or `items` come from the test."""
    return parse_manifest(json.dumps({"task_id": "t", "domain": "x", "version": 2, **line}).encode(), "m.jsonl")[0]


def letters(text):
    return [ord(character) for character in text]


# --- the six domains -------------------------------------------------------------------------------------------------


def test_six_domains_of_five_hundred_different_texts(shipped, domains):
    lines = [line for line in shipped if line.task_id.startswith("domain_")]
    assert [line.task_id for line in lines] == list(DOMAINS)
    assert [line.domain for line in lines] == ["code", "math", "facts", "prose", "dialogue", "reasoning"]
    assert all((line.kind, line.source.num_docs) == ("stimulus", N_TEXTS) for line in lines)
    for found in domains.values():
        assert (
            len({stimulus.text for stimulus in found}) == len({stimulus.id for stimulus in found}) == len(found) == 512
        )
        assert all(len(set(stimulus.parts)) == len(stimulus.parts) for stimulus in found)
    assert len({stimulus.text for found in domains.values() for stimulus in found}) == 6 * 512


def test_an_activation_study_does_not_read_length(domains, encode_batch):
    """Mean lengths within a factor of 1.15 (46.2 to 52.1 tokens), every text between 30 and 70: documents alone differ by a factor of four."""
    lengths = {name: [len(row) for row in token_rows(found, encode_batch, END)] for name, found in domains.items()}
    means = [mean(found) for found in lengths.values()]
    assert max(means) / min(means) < 1.15
    assert all(30 <= length <= 70 for found in lengths.values() for length in found)


@pytest.mark.parametrize("name", DOMAINS)
def test_the_texts_are_the_same_on_every_machine(name, domains):
    assert stimuli_digest(domains[name]) == PINNED[name]


def test_another_seed_is_another_sample_and_fewer_are_the_first(shipped, encode, domains):
    dialogue = select(shipped, ["domain_dialogue"])[0]
    assert texts(dialogue, encode, 20) == domains["domain_dialogue"][:20]
    assert texts(dialogue, encode, 20, seed=0) == domains["domain_dialogue"][:20]
    other = texts(dialogue, encode, 20, seed=1)
    assert len(other) == 20
    assert not set(other) & set(domains["domain_dialogue"])
    assert len(texts(dialogue, encode, N_TEXTS + 1)) == N_TEXTS + 1


def test_held_out_domains_hold_no_document_of_training(domains):
    trained = {document.text for document in islice(documents(0), 25_000)}
    seen = {
        name: mean(part in trained for stimulus in found for part in stimulus.parts) for name, found in domains.items()
    }
    held_out = {name for name, domain in DOMAINS.items() if domain.split == "heldout"}
    assert held_out == {"domain_prose", "domain_dialogue", "domain_reasoning"}
    assert {name for name, share in seen.items() if share == 0} == held_out
    assert all(seen[name] > 0.4 for name in set(DOMAINS) - held_out)


def test_no_document_rules_a_domain(domains):
    """The most frequent document of a domain is under one in a hundred of its documents."""
    for found in domains.values():
        counts = Counter(part for stimulus in found for part in stimulus.parts)
        assert max(counts.values()) < sum(counts.values()) / 100


def test_more_texts_than_exist_are_refused(monkeypatch):
    monkeypatch.setattr("trialplate.tasks.domains._text", lambda domain, rng: (rng.choice("ab"),))
    with pytest.raises(ValueError, match=r"domain_code: asked for n = 3 texts, only 2 different ones were found"):
        domain_texts("domain_code", 3, 0)


# --- token rows ------------------------------------------------------------------------------------------------------


def test_parts_are_parted_by_the_end_token_as_in_training(encode, encode_batch):
    stimulus = texts(task(source={"type": "generator", "name": "domain_dialogue"}), encode, 1)[0]
    first, second = stimulus.parts
    assert token_rows([stimulus], encode_batch, END) == [[*encode(first), END, *encode(second)]]
    assert token_rows([stimulus], encode_batch, None) == [encode(f"{first}\n{second}")]


def test_rows_keep_the_order_of_texts_with_different_numbers_of_parts(encode, encode_batch):
    found = [
        *texts(prompt_task("The war"), encode),
        *texts(task(source={"type": "generator", "name": "domain_math"}), encode, 1),
        *texts(prompt_task("The door"), encode),
    ]
    rows = token_rows(found, encode_batch, END)
    assert [rows[0], rows[2]] == [encode("The war"), encode("The door")]
    assert rows[1].count(END) == 6


# --- any line --------------------------------------------------------------------------------------------------------


def test_repeats_add_no_samples():
    source = {"type": "prompt_list", "prompts": ["a", "b", "a"], "repeat": 3}
    for dedupe in (True, False):
        found = texts(task(source=source, dedupe=dedupe), letters)
        assert [(stimulus.text, stimulus.weight) for stimulus in found] == [("a", 6), ("b", 3)]


def test_scored_items_are_read_with_their_answers():
    items = [
        {"prompt": "2 + 3 =", "answer": " 5", "foils": [" 4"], "group": "add"},
        {"prompt": "2 + 3 =", "answer": " 5", "foils": [" 6"], "group": "add"},
        {"prompt": "3 - 2 =", "answer": " 1", "group": "sub"},
    ]
    found = texts(task(items=items), letters)
    assert [(s.text, s.domain, s.group, s.weight) for s in found] == [
        ("2 + 3 = 5", "x", "add", 2),
        ("3 - 2 = 1", "x", "sub", 1),
    ]


def test_generated_items_are_read_with_their_answers(encode):
    scored = task(source={"type": "generator", "name": "arithmetic_20", "seed": 3})
    for line in (scored, task(source={"type": "generator", "name": "arithmetic_20", "seed": 3}, kind="stimulus")):
        found = texts(line, encode, 10)
        assert [s.text for s in found] == [item.prompt + item.answer for item in generate(scored, encode, 10)]
        assert sum(" + " in s.text for s in found) == 5
    assert texts(scored, encode, 10, seed=4) != texts(scored, encode, 10)


def test_n_is_a_limit_where_fewer_texts_exist(encode):
    assert len(texts(task(source={"type": "generator", "name": "capitals"}), encode, 10_000)) == 427
    assert len(texts(task(source={"type": "prompt_list", "prompts": ["a", "b"]}), encode, 10_000)) == 2


def test_a_seed_chooses_among_written_texts_in_their_order():
    prompts = [f"text {number:02d}" for number in range(50)]
    line = task(source={"type": "prompt_list", "prompts": prompts})
    assert [s.text for s in texts(line, letters, 3)] == prompts[:3]
    chosen = [s.text for s in texts(line, letters, 3, seed=1)]
    assert chosen == sorted(chosen)
    assert chosen == [s.text for s in texts(line, letters, 3, seed=1)] != prompts[:3]
    assert len(texts(line, letters, seed=1)) == 50


def test_ids_follow_from_the_content():
    one, two = texts(task(source={"type": "prompt_list", "prompts": ["a", "b"]}), letters)
    assert texts(task(source={"type": "prompt_list", "prompts": ["b", "c"]}), letters)[0].id == two.id != one.id


def test_the_digest_sees_text_order_and_weight():
    lists = [(["a", "b"], 1), (["b", "a"], 1), (["a", "b"], 2), (["ab"], 1)]
    found = [
        stimuli_digest(texts(task(source={"type": "prompt_list", "prompts": p, "repeat": r}), letters))
        for p, r in lists
    ]
    assert len(set(found)) == len(lists)


def test_every_shipped_line_gives_texts_or_a_reason(shipped, encode):
    reasons = {line.task_id: without_texts(line, encode) for line in shipped}
    silent = {name for name, found in reasons.items() if found}
    assert {"induction_words", "induction_any"} <= silent <= {"induction_words", "induction_any", "wikitext_val_small"}
    for line in shipped:
        if line.task_id not in silent:
            assert texts(line, encode, 5)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_zero_length_inputs_are_refused_with_their_count():
    """Rows of WikiText are lines, the first of them empty: a model without a beginning token would read nothing."""
    source = {"type": "prompt_list", "prompts": ["a", " \n", "b", "\t"]}
    with pytest.raises(
        ValueError, match=r"task 't': 2 of 4 texts are empty or white space only, the first is number 2"
    ):
        texts(task(source=source), letters)
    with pytest.raises(ValueError, match="wanted a text to read, got ' '"):
        prompt_task(" ")
    with pytest.raises(ValueError, match="0 of 0 texts"):
        texts(ProbeTask("t", "x", source=Source("prompt_list")), letters)


def test_token_sequences_are_no_texts(shipped, encode):
    for line in select(shipped, ["induction_words", "induction_any"]):
        with pytest.raises(ValueError, match=rf"task '{line.task_id}' gives no texts: .*sequences of random tokens"):
            texts(line, encode)


def test_a_tokenizer_that_cannot_serve_is_refused(shipped):
    greater_than = select(shipped, ["greater_than"])[0]
    assert any("two-digit year tokens" in reason for reason in without_texts(greater_than, letters))
    with pytest.raises(ValueError, match="task 'greater_than' gives no texts: needs two-digit year tokens"):
        texts(greater_than, letters)


def test_an_unknown_generator_names_the_nearest():
    line = task(source={"type": "generator", "name": "domain_cod"}, kind="stimulus")
    with pytest.raises(ValueError, match="did you mean `domain_code`"):
        texts(line, letters)


def test_no_texts_at_all_cannot_be_asked_for(shipped, encode):
    with pytest.raises(ValueError, match="task 'domain_code': asked for n = 0 texts, n must be at least 1"):
        texts(select(shipped, ["domain_code"])[0], encode, 0)


def test_a_data_set_of_the_hub_is_absent():
    line = task(source={"type": "dataset", "name": "wikitext"})
    with pytest.raises(SourceAbsent, match="dataset wikitext, which is not shipped"):
        texts(line, letters)
    assert len(without_texts(line, letters)) == 1


# --- tasks that stand in no manifest ---------------------------------------------------------------------------------


def test_a_prompt_is_a_task():
    stimulus = texts(prompt_task("Once upon a time"), letters)[0]
    assert (stimulus.text, stimulus.domain, stimulus.weight) == ("Once upon a time", "prompt", 1)


def test_a_file_is_a_task(tmp_path):
    (tmp_path / "my notes.txt").write_text("one\n\ntwo,\nof two lines\n\none\n")
    ours = file_task(tmp_path / "my notes.txt")
    assert ours.task_id == "my_notes"
    assert [(s.text, s.weight) for s in texts(ours, letters)] == [("one", 2), ("two,\nof two lines", 1)]
    assert len(texts(file_task(tmp_path / "my notes.txt", "line", num_docs=3), letters)) == 3
    with pytest.raises(SourceAbsent, match=r"absent\.txt, which is not there"):
        texts(file_task(tmp_path / "absent.txt"), letters)


def test_items_keep_the_group_of_the_first():
    made = ProbeTask(
        "t", "x", kind="scored", scored=(make_item("t", "a", "b", group="g"), make_item("t", "a", "b", ("c",), "h"))
    )
    assert [(s.group, s.weight) for s in texts(made, letters)] == [("g", 2)]
