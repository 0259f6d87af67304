"""Programs of others: no shell, a look before the start, a bound in time, and nothing that was skipped or left nothing behind passes."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from trialplate.sae.errors import StudyError
from trialplate.sae.programs.external import NOT_RUN, TIMED_OUT, Command, argv_of, exit_status, run_commands, verdict
from trialplate.sae.programs.official import OfficialOptions, commands_of, external_summary, run_external
from trialplate.sae.programs.results import read_manifest
from trialplate.sae.programs.runs import study_run


def python(name, code, *arguments, needs=(), files=(), writes=""):
    return Command(name, (sys.executable, "-c", code, *arguments), needs, files, writes)


def ran(folder, *commands, execute=True, timeout=30.0, environment=None):
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    return run_commands(commands, folder, logs, execute=execute, timeout=timeout, environment=environment or {})


@pytest.mark.parametrize(
    "text",
    [
        "python -m sae_bench | tee log",
        "a && b",
        "a || b",
        "a ; b",
        "echo $(id)",
        "echo `id`",
        "a > b",
        "a < b",
        "a $HOME",
        "a &",
        "a\nb",
        "echo 'a | b'",
    ],
)
def test_a_command_that_wants_a_shell_is_refused(text):
    with pytest.raises(StudyError, match="no shell reads this command"):
        argv_of(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python -m sae_bench.evals.core.main 'a release' block.3", ["python", "-m", "sae_bench.evals.core.main", "a release", "block.3"]),
        ('["python", "-c", "print(1) | 2; a > b"]', ["python", "-c", "print(1) | 2; a > b"]),
    ],
    ids=["words", "json"],
)  # fmt: skip
def test_words_are_those_of_a_shell_and_a_list_is_taken_as_it_stands(text, words):
    assert list(argv_of(text)) == words


@pytest.mark.parametrize("text", ["", "   ", "a 'b", "[]", "[1]", '["a", ""]', '["a"'])
def test_what_is_no_command_is_refused(text):
    with pytest.raises(StudyError):
        argv_of(text)


def test_what_is_in_an_argument_is_never_executed(tmp_path):
    (done,) = ran(tmp_path, python("hostile", "import sys; print(sys.argv[1])", "x; touch broken && $(touch broken)"))
    assert done.status == "passed"
    assert not (tmp_path / "broken").exists()
    assert (tmp_path / "logs" / "hostile.log").read_text() == "x; touch broken && $(touch broken)\n"


def test_a_dry_run_starts_nothing_and_still_looks(tmp_path):
    writes = "open('made', 'w')"
    here, absent = ran(tmp_path, python("a", writes), python("b", writes, needs=("no_such_module",)), execute=False)
    assert (here.status, absent.status) == ("planned", "skipped")
    assert absent.note == "no module no_such_module"
    assert not (tmp_path / "made").exists()
    assert exit_status([here, absent], False) == 0
    assert verdict([here, absent], False) == "planned"


def test_skipped_is_not_passed(tmp_path):
    """The defect: a harness ended with 0 where a command had not run."""
    done = ran(tmp_path, python("a", "pass"), python("b", "pass", needs=("no_such_module", "json")))
    assert [one.status for one in done] == ["passed", "skipped"]
    assert verdict(done, True) == "skipped"
    assert exit_status(done, True) == NOT_RUN


def test_nothing_attempted_is_not_success(tmp_path):
    (done,) = ran(tmp_path, Command("a", ("no-such-program-anywhere",)))
    assert (done.status, done.note) == ("skipped", "no program no-such-program-anywhere")
    assert exit_status([done], True) == NOT_RUN
    assert exit_status([], True) == NOT_RUN


def test_the_worst_return_code_is_the_exit_status(tmp_path):
    done = ran(tmp_path, python("a", "raise SystemExit(3)"), python("b", "pass"), python("c", "raise SystemExit(7)"))
    assert [(one.status, one.returncode) for one in done] == [("failed", 3), ("passed", 0), ("failed", 7)]
    assert exit_status(done, True) == 7
    assert verdict(done, True) == "failed"


def test_a_child_ended_by_a_signal_failed(tmp_path):
    (done,) = ran(tmp_path, python("a", "import os; os.kill(os.getpid(), 9)"))
    assert (done.status, done.returncode) == ("failed", 137)


def test_a_child_past_its_time_is_ended_with_what_it_started(tmp_path):
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(p.pid, flush=True); time.sleep(60)"
    begin = time.monotonic()
    (done,) = ran(tmp_path, python("slow", code), timeout=1.0)
    assert time.monotonic() - begin < 20
    assert (done.status, done.returncode, done.note) == ("timed out", None, "ended after 1 s")
    assert exit_status([done], True) == TIMED_OUT
    grandchild = int((tmp_path / "logs" / "slow.log").read_text())
    for _ in range(100):
        try:
            os.kill(grandchild, 0)
        except ProcessLookupError:
            return
        if _is_zombie(grandchild):
            return
        time.sleep(0.05)
    pytest.fail("the grandchild goes on")


def _is_zombie(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_child_that_ends_well_and_writes_nothing_failed(tmp_path):
    """SAEBench logs the error of a coder and goes on to the end."""
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('{}')"
    silent, good = ran(tmp_path, python("a", "pass", writes="*.json"), python("b", code, "out.json", writes="*.json"))
    assert (silent.status, silent.returncode) == ("failed", 0)
    assert "wrote nothing" in silent.note
    assert (good.status, good.written) == ("passed", ("out.json",))
    assert exit_status([silent, good], True) == 1


def test_an_old_result_is_not_taken_for_a_new_one(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    (done,) = ran(tmp_path, python("a", "pass", writes="*.json"))
    assert done.status == "failed"


def test_a_program_that_is_no_python_has_no_modules(tmp_path):
    (done,) = ran(tmp_path, Command("a", ("false",), needs=("json",)))
    assert done.status == "skipped"
    assert "false is no Python" in done.note


def test_two_commands_of_one_name_and_none_are_refused(tmp_path):
    with pytest.raises(StudyError, match="different names"):
        ran(tmp_path, python("a", "pass"), python("a", "pass"))
    with pytest.raises(StudyError, match="different names"):
        ran(tmp_path)


# --- the packages themselves, as far as a stand-in can show: the scripts of `children`, the options, what a run keeps

SAE_LENS = """
class SAE:
    @classmethod
    def load_from_disk(cls, folder, device):
        assert (device, __import__('os').path.isfile(folder + '/cfg.json')) == ('cpu', True)
        sae = cls()
        sae.cfg = type('Cfg', (), {'metadata': type('Meta', (), {})()})()
        return sae
"""
CORE = """
import json, pathlib
def multiple_evals(selected_saes, output_folder, force_rerun, **more):
    (name, sae), = selected_saes
    pathlib.Path(output_folder).mkdir(parents=True)
    if sae.cfg.metadata.model_name == 'lost':
        return []
    found = {'model': sae.cfg.metadata.model_name, 'hook': sae.cfg.metadata.hook_name, 'fresh': force_rerun}
    pathlib.Path(output_folder, name + '_eval_results.json').write_text(json.dumps(found))
    return [found]
"""
PROBES = """
import json, pathlib
def run_eval(config, selected, device, output, force_rerun):
    (name, sae), = selected
    pathlib.Path(config.results_path).mkdir(parents=True)
    pathlib.Path(output, name + '_eval_results.json').write_text(json.dumps({'seed': config.random_seed}))
    return {name: 1}
"""
CONFIG = """
class SparseProbingSaeProbesEvalConfig:
    def __init__(self, **given): self.__dict__.update(given)
class AutoInterpEvalConfig(SparseProbingSaeProbesEvalConfig): pass
"""
GENERAL = "def load_and_format_sae(release, sae, device): sae.cfg.hook_name = sae.cfg.metadata.hook_name"
CEBENCH = """
import json, os
from stw import Stopwatch
from sae_lens.toolkit.pretrained_saes_directory import get_pretrained_saes_directory
Stopwatch(verbose=True, start=True).lap('x')
def load_sae(*a): raise RuntimeError('asks the hub')
def run_eval_once(dataset, device, release, sae_id, config):
    name, sae, _ = load_sae(release, sae_id, device, config.llm_dtype)
    os.makedirs(f'interpretability_eval/{release}/{sae_id}')
    with open(f'interpretability_eval/{release}/{sae_id}/results.json', 'w') as file:
        json.dump({'rows': len(dataset), 'subject': dataset[0]['subject_title'], 'hook': sae.cfg.hook_name}, file)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Stand-ins for the packages, a clone of CE-Bench, a coder's folder and a file of pairs."""
    site = tmp_path / "site"
    files = {
        "sae_lens/__init__.py": SAE_LENS,
        "sae_lens/loading/pretrained_saes_directory.py": "get_pretrained_saes_directory = dict",
        "transformer_lens/__init__.py": "",
        "datasets/__init__.py": "",
        "sae_probes/__init__.py": "",
        "sae_bench/evals/core/main.py": CORE,
        "sae_bench/evals/sparse_probing_sae_probes/main.py": PROBES,
        "sae_bench/evals/sparse_probing_sae_probes/eval_config.py": CONFIG,
        "sae_bench/evals/autointerp/eval_config.py": CONFIG,
        "sae_bench/sae_bench_utils/general_utils.py": GENERAL,
        "../clone/ce_bench/CE_Bench.py": CEBENCH,
        "../coder/cfg.json": "{}",
        "../coder/sae_weights.safetensors": "",
        "../pairs.jsonl": '{"subject": "rain", "story1": "a", "story2": "b"}\n\n{"subject": "sun", "story1": "c", "story2": "d"}\n',
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(site))
    return tmp_path


def options(root, **more):
    known = {"checkpoint": root / "coder", "model_name": "m", "hook_name": "h", "cebench": root / "clone", "pairs": root / "pairs.jsonl"}  # fmt: skip
    return OfficialOptions(**{**known, **more})


def studied(root, asked):
    with study_run(root / "runs", "external", ["trialplate", "sae", "external"], asked.config()) as run:
        result = run_external(asked, run)
        run.result({"subject": {"coder": "0" * 64}, **result})
        run.summary(external_summary(result, commands_of(asked)))
    return run.final, result


def test_the_packages_are_run_when_they_are_there(installed):
    folder, result = studied(installed, options(installed, execute=True, seed=7))
    assert (result["status"], result["exit_status"]) == ("passed", 0)
    assert [row["status"] for row in result["commands"]] == ["passed"] * 3
    core = json.loads((folder / "results" / "saebench_core" / "local_eval_results.json").read_text())
    assert core == {"model": "m", "hook": "h", "fresh": True}
    probed = json.loads((folder / "results" / "saebench_probing" / "local_eval_results.json").read_text())
    assert probed == {"seed": 7}
    read = json.loads((folder / "interpretability_eval" / "local" / "coder" / "results.json").read_text())
    assert read == {"rows": 2, "subject": "rain", "hook": "h"}
    steps = read_manifest(folder)["steps"]
    assert [(step["name"], step["returncode"]) for step in steps] == [("saebench_core", 0), ("saebench_probing", 0), ("cebench", 0)]  # fmt: skip


def test_a_dry_run_says_what_would_run(installed):
    folder, result = studied(installed, options(installed))
    assert (result["status"], result["exit_status"]) == ("planned", 0)
    assert {row["status"] for row in result["commands"]} == {"planned"}
    assert "saebench_local.py" in (folder / "summary.md").read_text()
    assert not (folder / "results").exists()
    assert not (folder / "logs").exists()


def test_packages_that_are_not_there_are_skipped_and_that_is_no_success(installed, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    _, result = studied(installed, options(installed, execute=True, cebench=None))
    assert (result["status"], result["exit_status"]) == ("skipped", NOT_RUN)
    notes = [row["note"] for row in result["commands"]]
    assert notes[0] == "no module sae_lens; no module sae_bench; no module transformer_lens"
    assert "name it by --cebench-repository" in notes[2]


def test_a_benchmark_without_a_result_fails_and_its_run_is_no_evidence(installed):
    folder, result = studied(installed, options(installed, execute=True, model_name="lost", benchmarks=("saebench_core",)))  # fmt: skip
    assert (result["status"], result["exit_status"]) == ("failed", 1)
    with pytest.raises(StudyError, match="'saebench_core' returned 1"):
        read_manifest(folder)


def test_a_command_given_as_text_takes_the_place_of_the_benchmark(installed):
    asked = options(installed, commands={"saebench_core": "python -m own.bench", "more": "true"})
    assert [c.name for c in commands_of(asked)] == ["saebench_probing", "cebench", "saebench_core", "more"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"checkpoint": None}, "nothing to run"),
        ({"model_name": ""}, "--model-name and --hook-name"),
        ({"benchmarks": ("raven",)}, "no benchmark 'raven'"),
        ({"commands": {"a": "b | c"}}, "no shell"),
    ],
)
def test_what_cannot_be_run_is_said(installed, more, text):
    with pytest.raises(StudyError, match=text):
        commands_of(options(installed, **more))
