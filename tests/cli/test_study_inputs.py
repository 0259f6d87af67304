"""What all commands about activations share: lists of options, and one clear line where a study cannot be made."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import TEXTS, Plain, invoke, refused

from trialplate.cli.study_inputs import joined_lists, load_model, split_list
from trialplate.cli.study_texts import TextOptions, read_texts

COMMANDS = ("capture", "sparsity", "si-modularity", "dynamic-k")
HEAVY = ("torch", "numpy", "pandas", "scipy", "matplotlib", "transformers", "tokenizers", "numba")


def test_what_follows_a_list_option_belongs_to_it():
    given = ["capture", "--layers", "25%", "50%", "--model", "m", "--task-id", "a", "b", "--seed", "1"]
    assert joined_lists(given) == ["capture", "--layers", "25%,50%", "--model", "m", "--task-id", "a,b", "--seed", "1"]


def test_a_list_option_without_values_stays_for_the_parser_to_refuse():
    assert joined_lists(["sparsity", "--layers", "--seed", "1"]) == ["sparsity", "--layers", "--seed", "1"]


def test_lists_may_come_with_commas_with_spaces_or_again():
    assert split_list(["0,1", "2 3"]) == ["0", "1", "2", "3"]
    assert split_list(None) == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--task-id", "on"), "no task 'on' in the manifest; did you mean `one`?"),
        (("--layers", "7"), "the model has layers 0 to 1"),
        (("--layers", "L0.mlp_atc"), "Nearest: L0.mlp_act"),
        (("--num-docs", "0"), "--num-docs is a number of documents, or -1 for all; got 0"),
        (("--prompt", "a text"), "texts come from one place, got --prompt and --probe-manifest"),
        (("--dtype", "int4"), "unknown dtype 'int4'"),
        (("--device", "cuda:99"), "cuda:99"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_one_line(command, options, text, neox, manifest, tmp_path):
    done = invoke(command, "--model", neox, "--probe-manifest", manifest, "--output-dir", tmp_path, *options)
    refused(done, text)
    assert list(tmp_path.iterdir()) == []


def test_a_star_that_the_shell_replaced_by_file_names_is_explained(neox, manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(manifest.parent)
    (tmp_path / "out").mkdir()
    (manifest.parent / "other.txt").write_text("x")
    files = sorted(path.name for path in manifest.parent.iterdir())
    more = ("--probe-manifest", manifest, "--output-dir", tmp_path / "out", "--layers", *files)
    refused(invoke("sparsity", "--model", neox, *more), "which the shell put in the place of *; say all")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_is_not_there(command, manifest, tmp_path):
    done = invoke(command, "--model", tmp_path / "absent", "--probe-manifest", manifest, "--output-dir", tmp_path)
    refused(done, "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written(command, neox, manifest, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = invoke(command, "--model", neox, "--probe-manifest", manifest, "--output-dir", tmp_path / "file")
    refused(done, "Choose another --output-dir")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_texts_are_named_and_none_lie_here(command, neox, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(invoke(command, "--model", neox), "give --probe-manifest FILE, --prompt TEXT or --dataset FILE")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--prompt", "a", "--dataset", "b.txt"), "texts come from one place, got --prompt and --dataset"),
        (("--prompt", "a", "--task-id", "one"), "--task-id chooses lines of a manifest; it does not go with --prompt"),
        (("--prompt", " "), "wanted a text to read"),
        (("--dataset", "wikitext:wikitext-103-raw-v1"), "a data set of the hub needs --online"),
        (("--task-id", "wikitext_val_small"), "wiki.valid.raw"),
        (("--task-id", "induction_words"), "leave it out by naming other tasks"),
    ],
    ids=lambda value: " ".join(value[::2]) if isinstance(value, tuple) else "",
)
def test_texts_that_cannot_be_read(options, text, neox, tmp_path):
    refused(invoke("sparsity", "--model", neox, "--output-dir", tmp_path, *options), text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["sparsity", "dynamic-k"])
def test_an_option_of_a_later_release_is_an_error(command, neox):
    assert invoke(command, "--model", neox, "--sae", "x").exit_code == 2


def test_a_text_file_gives_a_document_a_paragraph(neox, tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n".join(TEXTS["one"]))
    lm = load_model(str(neox), "cpu", "auto", False)
    found = read_texts(lm, TextOptions(dataset=str(tmp_path / "corpus.txt"), num_docs=3), 100)
    assert found.documents == {"corpus": [Plain(neox).ids(text) for text in TEXTS["one"][:3]]}
    assert found.n_bytes == {"corpus": [len(text) for text in TEXTS["one"][:3]]}


def test_bytes_of_a_text_that_was_cut_are_those_that_were_read(neox, tmp_path):
    (tmp_path / "corpus.txt").write_text("the é and the rest\n\nshort")
    lm = load_model(str(neox), "cpu", "auto", False)
    found = read_texts(lm, TextOptions(dataset=str(tmp_path / "corpus.txt")), 4)
    tokens = [lm.tokenizer.backend.id_to_token(i) for i in found.documents["corpus"][0]]
    assert tokens == ["the", "Ġ", "Ã", "©"]
    assert found.n_bytes["corpus"] == [len("the é".encode()), len("shor")]
    assert found.about["corpus"]["cut"] == 2


def test_bytes_of_joined_parts_count_a_line_break_for_a_separator():
    lm = load_model("embedded:neox-tiny", "cpu", "auto", False)
    options = TextOptions(task_ids=("domain_code",), num_docs=2)
    whole = read_texts(lm, options, 128)
    ids = whole.documents["domain_code"][0]
    parts = " ".join(str(i) for i in ids).split(" 0 ")
    text = [lm.tokenizer.decode([int(i) for i in part.split()]) for part in parts]
    assert len(parts) == 3
    assert whole.n_bytes["domain_code"][0] == len("\n".join(text).encode())
    at = len(parts[0].split())
    cut = read_texts(lm, options, at + 2)  # the first part, its separator, and one token
    first = lm.tokenizer.decode([int(i) for i in parts[1].split()][:1])
    assert cut.n_bytes["domain_code"][0] == len(text[0].encode()) + 1 + len(first.encode())


def poisoned(code):
    """A process in which nothing heavy can be imported."""
    poison = f"import sys\nfor name in {HEAVY!r}:\n    sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", poison + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_program_and_its_help_import_nothing_heavy():
    code = "sys.argv = ['trialplate', 'si-modularity', '--help']\nfrom trialplate.cli.app import main\nmain()\n"
    done = poisoned(code)
    assert done.returncode == 0, done.stderr
    assert "--permutations" in done.stdout


def test_the_poison_is_noticed():
    done = poisoned("import trialplate.cli.dynamic_k_sweep\n")
    assert "import of torch halted" in done.stderr


def test_the_script_of_the_original_runs_the_command(monkeypatch, neox, manifest, tmp_path, capsys):
    script = Path(__file__).parents[2] / "scripts" / "run_capture.py"
    arguments = ["--model", str(neox), "--probe-manifest", str(manifest), "--layers", "0", "50%", "--no-save", "--output-dir", str(tmp_path)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit) as left:
        exec(compile(script.read_text(), str(script), "exec"), {})
    assert not left.value.code
    assert "read at L0.mlp_act, L1.mlp_act" in capsys.readouterr().out
