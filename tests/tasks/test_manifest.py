"""The probe manifest: both versions, what is refused and in which words, and bytes that nobody meant as a manifest."""

import hashlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trialplate.tasks.items import make_item
from trialplate.tasks.manifest import ManifestError, ProbeTask, SourceAbsent, load_manifest, parse_manifest, select

V1 = {"task_id": "one", "domain": "prose", "source": {"type": "prompt", "text": "Once upon a time"}}
ITEM = {"prompt": "2 + 3 =", "answer": " 5", "foils": [" 4", " 6"], "group": "add"}
V2 = {"task_id": "sums", "domain": "math", "version": 2, "items": [ITEM]}


def manifest(*lines):
    return "\n".join(json.dumps(line) if isinstance(line, dict) else line for line in lines).encode()


def parse(*lines):
    return parse_manifest(manifest(*lines), "probes.jsonl")


def with_source(**source):
    return {**V1, "version": 2, "source": source}


# --- what a line means -----------------------------------------------------------------------------------------------


def test_a_version_1_line_loads():
    task = parse({**V1, "description": "a start", "max_tokens": 16, "repeat": None})[0]
    assert (task.task_id, task.domain, task.description, task.max_tokens) == ("one", "prose", "a start", 16)
    assert (task.version, task.kind, task.positions, task.metric) == (1, "stimulus", "all", "")
    assert task.prompts() == ("Once upon a time",)
    assert task.items() == ()


def test_blank_lines_and_comments_are_skipped():
    tasks = parse("", "# about proverbs", V1, "   ", "  # indented", {**V1, "task_id": "two"}, "")
    assert [task.task_id for task in tasks] == ["one", "two"]


def test_windows_line_ends_and_a_byte_order_mark_are_harmless():
    content = b"\xef\xbb\xbf" + manifest("# first", V1).replace(b"\n", b"\r\n")
    assert parse_manifest(content, "probes.jsonl")[0].task_id == "one"


def test_line_separators_inside_strings_do_not_cut_the_line():
    text = "before\u2028after\u0085end"
    line = json.dumps({**V1, "source": {"type": "prompt", "text": text}}, ensure_ascii=False)
    assert parse(line)[0].prompts() == (text,)


def test_repeats_keep_weight_and_not_n():
    source = {"type": "prompt_list", "prompts": ["a", "b", "a"], "repeat": 3}
    task = parse({**V1, "source": source})[0]
    assert task.prompts() == ("a", "b")
    assert task.weights() == (6, 3)
    copies = parse({**V1, "version": 2, "dedupe": False, "source": source})[0]
    assert copies.prompts() == ("a", "b", "a") * 3
    assert copies.weights() == (1,) * 9


@pytest.mark.parametrize(("outer", "inner", "expected"), [(None, None, 1), (4, None, 4), (4, 2, 2), (None, 2, 2)])
def test_the_repeat_of_the_source_wins(outer, inner, expected):
    source = {"type": "prompt", "text": "x", "repeat": inner}
    assert parse({**V1, "repeat": outer, "source": source})[0].weights() == (expected,)


def test_repeat_is_the_number_of_documents_of_a_dataset():
    source = {"type": "dataset", "name": "wikitext", "config": "wikitext-103-raw-v1"}
    task = parse({**V1, "repeat": 2, "source": source})[0]
    assert (task.source.num_docs, task.source.repeat, task.source.split, task.source.text_key) == (
        2,
        1,
        "train",
        "text",
    )
    assert parse({**V1, "repeat": 2, "source": {**source, "num_docs": 5}})[0].source.num_docs == 5


def test_a_scored_line_has_items_and_their_prompts():
    task = parse(V2)[0]
    assert task.kind == "scored"
    assert task.items() == (make_item("sums", "2 + 3 =", " 5", (" 4", " 6"), "add"),)
    assert task.prompts() == ("2 + 3 =",)


def test_a_dataset_is_a_pointer_and_says_so():
    task = parse({**V1, "source": {"type": "dataset", "name": "wikitext", "config": "raw", "split": "validation"}})[0]
    with pytest.raises(
        SourceAbsent, match=r"dataset wikitext raw validation, which is not shipped; save its column 'text'"
    ):
        task.prompts()


def test_a_file_is_read_beside_the_manifest(tmp_path):
    text = "First document.\n\nSecond,\nof two lines.\n"
    (tmp_path / "prose.txt").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "m.jsonl").write_bytes(manifest(with_source(type="file", path="prose.txt", sha256=digest)))
    task = load_manifest(tmp_path / "m.jsonl")[0]
    assert task.prompts() == ("First document.", "Second,\nof two lines.")
    (tmp_path / "prose.txt").write_text(text + "!")
    with pytest.raises(ValueError, match=f"wanted the file with SHA-256 {digest}, got "):
        task.prompts()


def test_an_absent_file_says_what_where_and_what_next(tmp_path):
    source = {"type": "file", "name": "wikitext", "path": "local/wiki.valid.raw", "num_docs": 1}
    line = {**V1, "version": 2, "license": "CC BY-SA 4.0", "source": source}
    (tmp_path / "m.jsonl").write_bytes(manifest(line))
    with pytest.raises(SourceAbsent) as caught:
        load_manifest(tmp_path / "m.jsonl")[0].prompts()
    assert str(tmp_path / "local" / "wiki.valid.raw") in str(caught.value)
    assert "CC BY-SA 4.0" in str(caught.value)
    assert "put it there" in str(caught.value)


def test_a_file_without_documents_or_not_in_utf8_is_refused(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(manifest(with_source(type="file", path="prose.txt")))
    task = load_manifest(tmp_path / "m.jsonl")[0]
    for content, text in ((b" \n\n ", "no document"), (b"caf\xe9", "not UTF-8 at byte 3")):
        (tmp_path / "prose.txt").write_bytes(content)
        with pytest.raises(ValueError, match=text):
            task.prompts()


def test_num_docs_takes_the_first_documents(tmp_path):
    (tmp_path / "prose.txt").write_text("one\ntwo\nthree\n")
    line = with_source(type="file", path="prose.txt", documents="line", num_docs=2)
    assert parse_manifest(manifest(line), tmp_path / "m.jsonl")[0].prompts() == ("one", "two")


def test_a_generator_needs_a_tokenizer():
    task = parse({**V1, "version": 2, "source": {"type": "generator", "name": "ioi", "seed": 3}})[0]
    assert (task.kind, task.source.seed) == ("scored", 3)
    with pytest.raises(
        ValueError, match=r"the items of task 'one' depend on the tokenizer: use .*generate\(task, encode\)"
    ):
        task.items()
    with pytest.raises(ValueError, match="the prompts of task 'one'"):
        task.prompts()


def test_a_generator_of_texts_is_a_stimulus():
    source = {"type": "generator", "name": "domain_code", "num_docs": 512}
    for kind in (None, "stimulus"):
        task = parse({**V1, "version": 2, "kind": kind, "source": source})[0]
        assert (task.kind, task.source.num_docs, task.source.seed, task.items()) == ("stimulus", 512, 0, ())
        with pytest.raises(ValueError, match=r"the prompts of task 'one' .*use trialplate\.tasks\.stimuli\.texts"):
            task.prompts()


def test_a_generator_of_items_may_be_read_without_being_scored():
    task = parse({**V1, "version": 2, "kind": "stimulus", "source": {"type": "generator", "name": "ioi"}})[0]
    assert (task.kind, task.items()) == ("stimulus", ())


def test_the_digest_follows_what_is_asked():
    task = parse(V2)[0]
    assert task.digest == parse({**V2, "description": "other words"})[0].digest
    changed = [
        {**V2, "metric": "margin"},
        {**V2, "positions": "answer"},
        {**V2, "items": [{**ITEM, "answer": " 7"}]},
        {**V2, "max_tokens": 9},
        {**V2, "source": {"type": "prompt", "text": "x"}},
        {**V2, "source": {"type": "prompt", "text": "y"}},
    ]
    digests = {parse(line)[0].digest for line in changed}
    assert len(digests) == len(changed)
    assert task.digest not in digests


def test_metadata_holds_everything_but_the_text():
    secret = "the owl flew at noon"
    metadata = parse({**V1, "source": {"type": "prompt", "text": secret}})[0].metadata()
    assert secret not in json.dumps(metadata)
    assert metadata["task_id"] == "one"
    assert metadata["source"]["type"] == "prompt"


def test_a_task_can_be_moved_to_another_folder(tmp_path):
    (tmp_path / "prose.txt").write_text("one")
    task = parse(with_source(type="file", path="prose.txt"))[0]
    assert task.with_folder(tmp_path).prompts() == ("one",)


# --- selection -------------------------------------------------------------------------------------------------------


def test_selection_is_in_the_order_asked_for():
    tasks = parse(V1, {**V1, "task_id": "two"}, {**V1, "task_id": "three"})
    assert [task.task_id for task in select(tasks, ["three", "one", "three"])] == ["three", "one"]
    assert select(tasks) == tasks
    assert select(tasks, []) == tasks


def test_an_unknown_id_is_a_key_error_with_the_nearest_name():
    with pytest.raises(KeyError, match=r"no task 'thre' in the manifest; did you mean `three`.*it has: one, three"):
        select(parse(V1, {**V1, "task_id": "three"}), ["thre"])


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    (V1 | {"sorce": 1}, "`sorce`: unknown key; did you mean `source`"),
    (V1 | {"items": [ITEM]}, "`items`: unknown key; it belongs to version 2"),
    (V1 | {"version": 3}, "`version`: wanted 1 or 2, got 3"),
    (V1 | {"version": True}, "`version`: wanted an integer, got boolean True"),
    (V1 | {"task_id": ""}, "`task_id`: wanted a string with something in it"),
    (V1 | {"task_id": "../up"}, "`task_id`: wanted letters, digits"),
    (V1 | {"task_id": 7}, "`task_id`: wanted a string, got integer 7"),
    (V1 | {"domain": None}, "`domain`: wanted a string, got null"),
    ({"task_id": "a", "domain": "b"}, "`source`: wanted a source of text, got neither"),
    (V1 | {"max_tokens": 0}, "`max_tokens`: wanted an integer from 1 to"),
    (V1 | {"max_tokens": 1.5}, "`max_tokens`: wanted an integer, got number 1.5"),
    (V1 | {"repeat": 10**30}, "`repeat`: wanted an integer from 1 to 100000, got an integer of more than 18 digits"),
    (V1 | {"source": []}, r"`source`: wanted an object, got list \[\]"),
    (
        V1 | {"source": {"type": "promt", "text": "x"}},
        "`source.type`: wanted one of .*; got string 'promt'; did you mean `prompt`",
    ),
    (V1 | {"source": {"text": "x"}}, "`source.type`: wanted one of .*, got no such key"),
    (V1 | {"source": {"type": "file", "path": "x"}}, "`source.type`: 'file' belongs to version 2"),
    (
        V1 | {"source": {"type": "dataset", "name": "x", "revision": "y"}},
        "`source.revision`: unknown key; it belongs to version 2",
    ),
    (V1 | {"source": {"type": "prompt", "text": "x", "prompts": []}}, "`source.prompts`: unknown key"),
    (V1 | {"source": {"type": "prompt"}}, "`source.text`: wanted a string, got no such key"),
    (
        V1 | {"source": {"type": "prompt_list", "prompts": []}},
        "`source.prompts`: wanted a list of at least 1 string, got 0",
    ),
    (V1 | {"source": {"type": "prompt_list", "prompts": "x"}}, "`source.prompts`: wanted a list of non-empty strings"),
    (
        V1 | {"source": {"type": "prompt_list", "prompts": ["x", ""]}},
        "`source.prompts`: wanted a list of non-empty strings",
    ),
    (V1 | {"source": {"type": "dataset"}}, "`source.name`: wanted a string, got no such key"),
    (with_source(type="file", path="/etc/hosts"), "`source.path`: wanted a path relative to"),
    (with_source(type="file", path="x", sha256="abc"), "`source.sha256`: wanted 64 lower-case"),
    (with_source(type="file", path="x", documents="pages"), "`source.documents`: wanted one of blank_line"),
    (with_source(type="generator", name="ioi", seed=-1), "`source.seed`: wanted an integer from 0 to"),
    (
        with_source(type="generator", name="domain_code") | {"kind": "scored"},
        "`kind`: generator 'domain_code' makes texts, with nothing to score; wanted stimulus, and no items",
    ),
    (
        with_source(type="generator", name="domain_code") | {"items": [ITEM]},
        "`kind`: generator 'domain_code' makes texts, with nothing to score; wanted stimulus, and no items",
    ),
    (V2 | {"items": []}, "`items`: wanted a list of at least one object"),
    (V2 | {"items": [ITEM | {"foil": " 4"}]}, r"`items\[0\].foil`: unknown key; did you mean `foils`"),
    (V2 | {"items": [{"prompt": "x"}]}, r"`items\[0\].answer`: wanted a string, got no such key"),
    (
        V2 | {"items": [ITEM | {"foils": [" 5"]}]},
        r"`items\[0\].foils`: wanted different foils, none of them the answer ' 5'",
    ),
    (V2 | {"items": [ITEM, ITEM]}, r"`items\[1\].prompt`: the same item stands earlier"),
    (V2 | {"kind": "stimulus"}, "`kind`: the task has items, so it is scored"),
    (V1 | {"version": 2, "kind": "scored"}, "`items`: a scored task needs items"),
    (V2 | {"positions": "first"}, "`positions`: wanted one of all, no_first, answer, last; got string 'first'"),
    (V2 | {"dedupe": "yes"}, "`dedupe`: wanted true or false, got string 'yes'"),
    (V2 | {"min_tokens": 9, "max_tokens": 8}, "`min_tokens`: wanted at most max_tokens = 8, got 9"),
    ("[1, 2]", "wanted one JSON object a line, got list"),
    ("{", "not JSON: .* at column 2; one object is wanted"),
    ('{"task_id": "a", "task_id": "b"}', "key 'task_id' stands twice in one object"),
    ('{"max_tokens": NaN}', "NaN is not a number that JSON knows"),
    ('{"max_tokens": 1e999}', "1e999 is larger than any float"),
    ('{"task_id": "\\ud800"}', "half of a surrogate pair"),
    ("[" * 100_000, "nested too deeply"),
    ('{"max_tokens": ' + "9" * 5_000 + "}", "not usable JSON"),
]


@pytest.mark.parametrize(("line", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
def test_a_bad_line_is_named(line, text):
    with pytest.raises(ManifestError, match=rf"probes\.jsonl:3: .*{text}") as caught:
        parse("# comment", {**V1, "task_id": "fine"}, line)
    assert caught.value.line == 3


def test_a_duplicate_id_names_both_lines():
    with pytest.raises(ManifestError, match=r"probes.jsonl:4: `task_id`: 'one' is already the task of line 2"):
        parse("# comment", V1, "", V1)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only a comment\n"])
def test_an_empty_manifest_is_refused(content):
    with pytest.raises(ManifestError, match=r"probes.jsonl: no task in it"):
        parse_manifest(content, "probes.jsonl")


def test_bytes_that_are_not_utf8_are_placed():
    with pytest.raises(ManifestError, match=r"probes.jsonl:2: not UTF-8 at byte 1"):
        parse_manifest(b"# \n{\xff}", "probes.jsonl")


def test_a_missing_manifest_is_told(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        load_manifest(tmp_path / "absent.jsonl")


# --- any bytes -------------------------------------------------------------------------------------------------------

JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SOURCES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["prompt", "prompt_list", "dataset", "file", "generator"]) | JSON_LIKE,
        "text": st.text(max_size=8) | JSON_LIKE,
        "prompts": st.lists(st.text(max_size=4), max_size=3) | JSON_LIKE,
        "name": st.text(max_size=4),
        "path": st.text(max_size=4),
        "repeat": st.integers(-1, 3),
        "seed": JSON_LIKE,
    },
)
LINES = st.fixed_dictionaries(
    {"task_id": st.text(alphabet="ab._-/", max_size=4), "domain": st.text(max_size=4) | JSON_LIKE, "source": SOURCES},
    optional={
        "version": st.sampled_from([1, 2]) | JSON_LIKE,
        "items": st.lists(
            st.dictionaries(st.sampled_from(["prompt", "answer", "foils"]), st.text(max_size=3)), max_size=2
        ),
        "max_tokens": JSON_LIKE,
        "kind": JSON_LIKE,
        "dedupe": JSON_LIKE,
    },
)


def check_survival(content):
    """Either tasks that can be used, or one ManifestError; never anything else."""
    try:
        tasks = parse_manifest(content, "any.jsonl")
    except ManifestError:
        return
    assert tasks
    for task in tasks:
        assert isinstance(task, ProbeTask)
        assert len(task.digest) == 64
        json.dumps(task.metadata(), allow_nan=False)


@given(st.binary(max_size=200))
@example(b'{"a": ' * 3_000)
@example(b'\xef\xbb\xbf\xef\xbb\xbf{"task_id": 1}')
def test_any_bytes_give_tasks_or_a_manifest_error(content):
    check_survival(content)


@given(st.lists(LINES | JSON_LIKE, max_size=3))
def test_any_json_gives_tasks_or_a_manifest_error(lines):
    check_survival("\n".join(json.dumps(line) for line in lines).encode())


@given(st.data())
def test_a_damaged_manifest_gives_tasks_or_a_manifest_error(data):
    content = bytearray(manifest(V1, V2))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    check_survival(bytes(content))
