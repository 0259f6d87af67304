"""What lies in `data/` is what it says: the manifest loads, the samples are what the generators make, the text is text."""

from pathlib import Path

import pytest

from trialplate.report.catalogue import METRICS
from trialplate.tasks.domains import DOMAINS
from trialplate.tasks.formats import READERS, ChoiceQuestion
from trialplate.tasks.generators import GENERATORS
from trialplate.tasks.manifest import SourceAbsent, load_manifest, select
from trialplate.tasks.samples import SAMPLES, sample_bytes, write_samples
from trialplate.tasks.text_files import read_text_documents

DATA = Path(__file__).parents[2] / "data"
EARLIER_IDS = ["ioi_minimal", "toy_arithmetic", "ner_sample", "induction_sequence", "python_doc", "wikitext_val_small"]


@pytest.fixture(scope="module")
def tasks():
    return load_manifest(DATA / "probe_tasks.jsonl")


def test_the_manifest_has_the_earlier_ids_and_every_generator(tasks):
    assert [task.task_id for task in tasks] == EARLIER_IDS + list(GENERATORS)
    assert {task.source.name for task in tasks if task.source and task.source.type == "generator"} == set(GENERATORS)


def test_every_line_says_licence_metric_and_description(tasks):
    for task in tasks:
        assert task.version == 2
        assert task.license
        assert task.description
        assert (task.metric in METRICS) == (task.kind == "scored"), task.task_id


def test_only_lines_without_a_right_answer_are_stimuli(tasks):
    stimuli = [task.task_id for task in tasks if task.kind == "stimulus"]
    assert stimuli == ["wikitext_val_small", *DOMAINS]


def test_scored_lines_have_answers_foils_and_no_duplicates(tasks):
    for task in select(tasks, EARLIER_IDS[:5]):
        items = task.items()
        assert len(items) >= 6
        assert len({item.id for item in items}) == len(items)
        for item in items:
            assert item.foils
            assert not item.prompt.endswith(" ")
            assert item.answer.startswith(" ") or task.domain == "code"


def test_each_scene_is_told_with_either_giver(tasks):
    by_scene = {}
    for item in select(tasks, ["ioi_minimal"])[0].items():
        assert item.foils[0] in item.prompt
        assert item.answer in " " + item.prompt
        by_scene.setdefault(item.group, set()).add(item.answer)
    assert all(len(answers) == 2 for answers in by_scene.values())


def test_sums_are_right_and_foils_are_wrong(tasks):
    for item in select(tasks, ["toy_arithmetic"])[0].items():
        a, sign, b, _ = item.prompt.split()
        result = int(a) + int(b) if sign == "+" else int(a) - int(b)
        assert int(item.answer) == result
        assert all(int(foil) != result and len(foil) == len(item.answer) for foil in item.foils)


def test_induction_lines_repeat_themselves(tasks):
    for item in select(tasks, ["induction_sequence"])[0].items():
        words = (item.prompt + item.answer).split()
        assert words[: len(words) // 2] == words[len(words) // 2 :]


def test_the_text_that_cannot_be_shipped_is_a_pointer(tasks):
    task = select(tasks, ["wikitext_val_small"])[0]
    if not (DATA / task.source.path).exists():
        with pytest.raises(SourceAbsent, match=r"wiki\.valid\.raw, which is not there .* CC BY-SA 4\.0"):
            task.prompts()
    else:
        assert len(task.prompts()) == 2


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_what_the_generators_make(name):
    assert (DATA / "samples" / f"{name}.jsonl").read_bytes() == sample_bytes(name), (
        "the generators changed: make the samples again with python -m trialplate.tasks.samples data/samples"
    )


def test_samples_can_be_written_again(tmp_path):
    paths = write_samples(tmp_path / "samples")
    assert [path.stem for path in paths] == list(SAMPLES)
    assert paths[0].read_bytes() == sample_bytes(paths[0].stem)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_read_as_their_format(name):
    rows = READERS[name](DATA / "samples" / f"{name}.jsonl")
    assert len(rows) >= 100
    assert len({row.id for row in rows}) == len(rows)
    if isinstance(rows[0], ChoiceQuestion) and name != "sciq":
        assert len({row.gold for row in rows}) == len(
            rows[0].choices
        )  # a model that always picks one place is at chance


def test_the_fixed_text_is_several_documents():
    documents = read_text_documents(DATA / "fixed_text.txt")
    assert len(documents) == 12
    assert sum(len(document.encode()) for document in documents) > 6_000
    assert all(300 < len(document) < 1_000 for document in documents)
