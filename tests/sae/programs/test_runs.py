"""A run's folder appears whole, says what was done by hashes and return codes, and only what it says is believed."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from trialplate.metrics.estimate import Estimate
from trialplate.report.source_digest import package_digest
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.programs import runs
from trialplate.sae.programs.results import config_hash, file_digest, plain, read_manifest
from trialplate.sae.programs.runs import LOG, read_result, study_run

CONTENT = {"subject": {"coders": ["ab12"]}, "gain": Estimate(0.25, 5, 0.1, (0.05, 0.45), method="t")}


def a_run(root, role="phase4a", config=None, steps=(), content=CONTENT):
    with study_run(root, role, ["trialplate", "sae", "control"], config or {"seeds": [1, 2]}) as run:
        for name, code in steps:
            run.step(name, ["tool", "--fast"], code, "what it said\n", 1.5)
        run.result(content)
        run.summary("# Result\n")
    return run.final


def test_a_run_appears_whole_and_is_read_back(tmp_path):
    with study_run(tmp_path, "phase4a", ["trialplate"], {"seeds": (1, 2)}) as run:
        run.result(CONTENT)
        run.summary("# Result")
        assert list(tmp_path.glob("[!.]*")) == []  # nothing to see yet
    found = read_result(run.final, "phase4a")
    assert found == read_result(run.final / "phase4a.json", "phase4a")
    assert found["schema"] == "trialplate-coder-study/1"
    assert found["run"] == run.final.name
    assert found["subject"] == {"coders": ["ab12"]}
    assert found["config"] == {"seeds": [1, 2]}
    assert found["result"] == {
        "gain": {"value": 0.25, "n": 5, "stderr": 0.1, "ci": [0.05, 0.45], "level": 0.95, "method": "t"}
    }
    assert not list(tmp_path.glob(".*"))


def test_the_manifest_has_commands_return_codes_logs_times_and_hashes(tmp_path):
    folder = a_run(tmp_path, steps=[("train / seed 1", 0), ("train / seed 2", 0)])
    manifest = read_manifest(folder)
    assert manifest["command"] == ["trialplate", "sae", "control"]
    assert [(step["name"], step["returncode"], step["log"], step["seconds"]) for step in manifest["steps"]] == [
        ("train / seed 1", 0, "logs/01-train-seed-1.log", 1.5),
        ("train / seed 2", 0, "logs/02-train-seed-2.log", 1.5),
    ]
    assert manifest["code_sha256"] == package_digest()
    assert (folder / "logs/01-train-seed-1.log").read_text() == "what it said\n"
    assert set(manifest["files"]) == {
        "phase4a.json", "config.json", "summary.md", "logs/01-train-seed-1.log", "logs/02-train-seed-2.log"
    }  # fmt: skip
    for name, entry in manifest["files"].items():
        assert entry == {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}


def test_runs_of_one_second_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_stamp", lambda moment: "20260101T000000.000Z")
    first, second = a_run(tmp_path), a_run(tmp_path)
    assert first != second
    assert read_result(first, "phase4a")["run"] != read_result(second, "phase4a")["run"]


def test_a_folder_that_exists_is_never_written_into(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_stamp", lambda moment: "now")
    monkeypatch.setattr(runs.secrets, "token_hex", lambda n: "same")
    folder = a_run(tmp_path)
    before = file_digest(folder / "phase4a.json")
    with pytest.raises(FileExistsError):
        a_run(tmp_path, content={**CONTENT, "other": 1})
    assert file_digest(folder / "phase4a.json") == before
    assert not list(tmp_path.glob(".*"))


def test_every_run_is_in_the_log_with_hashes(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: a_run(tmp_path, steps=[("train", 0)]), range(4)))
    log = (tmp_path / LOG).read_text()
    assert log.count("\n## ") == 4
    for folder in folders:
        (entry,) = [part for part in log.split("\n## ") if part.startswith(folder.name)]
        assert f"- manifest.json: {file_digest(folder / 'manifest.json')}\n" in entry
        assert f"- phase4a.json: {file_digest(folder / 'phase4a.json')}\n" in entry
        assert "- steps: train 0\n" in entry


def test_a_question_refused_at_once_leaves_nothing(tmp_path):
    with pytest.raises(StudyError, match="no seeds"), study_run(tmp_path, "phase4a", [], {}):
        raise StudyError("no seeds")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_broke_is_kept_and_is_no_evidence(tmp_path):
    with pytest.raises(ZeroDivisionError), study_run(tmp_path, "phase4a", [], {}) as run:
        run.result(CONTENT)
        run.step("train", ["train"], 1, "out of memory")
        raise ZeroDivisionError
    (folder,) = tmp_path.glob("*-failed")
    assert (folder / "logs/01-train.log").read_text() == "out of memory"
    assert "- status: failed" in (tmp_path / LOG).read_text()
    with pytest.raises(StudyError, match="ended as 'failed'"):
        read_result(folder, "phase4a")


@pytest.mark.parametrize("missing", ["result", "summary"])
def test_a_finished_run_has_result_and_summary(tmp_path, missing):
    wanted = {"result": "phase4a.json", "summary": "summary.md"}[missing]
    with pytest.raises(StudyError, match=wanted), study_run(tmp_path, "phase4a", [], {}) as run:
        if missing != "result":
            run.result(CONTENT)
        if missing != "summary":
            run.summary("text")


def test_a_result_without_a_subject_is_refused(tmp_path):
    with pytest.raises(StudyError, match="'subject'"):
        a_run(tmp_path, content={"gain": 1.0})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_number_that_is_not_finite_is_not_written(tmp_path, bad):
    with pytest.raises(StudyError, match=r"\$\.result\.rows\[1\]\.ev is -?(nan|inf)"):
        a_run(tmp_path, content={**CONTENT, "rows": [{"ev": 0.5}, {"ev": bad}]})


def test_a_step_that_failed_makes_no_evidence(tmp_path):
    folder = a_run(tmp_path, steps=[("train", 0), ("probe", 3)])
    with pytest.raises(StudyError, match="'probe' returned 3"):
        read_result(folder, "phase4a")


def rewritten(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["result"]["gain"].update(value=0.9), "sha256 differs"),
        (lambda c: c["result"]["gain"].update(value=math.nan), "NaN is no number"),
        (lambda c: c["result"]["gain"].update(value=-math.inf), "-Infinity is no number"),
        (lambda c: c.update(schema="trialplate-coder-study/2"), "wanted schema trialplate-coder-study/1, got 'trialplate-coder-study/2'"),
        (lambda c: c.update(role="frontier"), "wanted the role phase4a, got 'frontier'"),
        (lambda c: c.update(subject={}), "its subject is empty"),
        (lambda c: c.update(note="x"), "unknown keys: note"),
    ],
)  # fmt: skip
def test_a_tampered_result_is_refused(tmp_path, change, text):
    folder = a_run(tmp_path)
    rewritten(folder, "phase4a.json", change)
    with pytest.raises(StudyError, match=text):
        read_result(folder, "phase4a")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["config"].update(seeds=[3]), "configuration is not the one"),
        (lambda c: c.update(run="another"), "disagree about the run"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused_though_its_hash_fits(tmp_path, change, text):
    folder = a_run(tmp_path)
    rewritten(folder, "phase4a.json", change)
    digest = file_digest(folder / "phase4a.json")
    rewritten(folder, "manifest.json", lambda m: m["files"]["phase4a.json"].update(sha256=digest))
    with pytest.raises(StudyError, match=text):
        read_result(folder, "phase4a")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m["steps"][0].update(returncode=2), "'train' returned 2"),
        (lambda m: m["steps"][0].update(returncode=None), "'train' returned None"),
        (lambda m: m["steps"][0].update(returncode=False), "'train' returned False"),
        (lambda m: m["steps"][0].pop("returncode"), "unknown keys: returncode"),
        (lambda m: m["steps"][0].update(log="logs/99.log"), "'train' has no log"),
        (lambda m: m["files"].pop("phase4a.json"), "not in the manifest of its run"),
        (lambda m: m["files"].update({"config.json": "abc"}), "wanted an object with bytes, sha256, got str"),
        (lambda m: m.update(status="running"), "ended as 'running'"),
        (lambda m: m.update(finished="20000101T000000.000Z"), "ended before it began"),
        (lambda m: m.update(schema="trialplate-coder-study/1"), "wanted schema trialplate-coder-manifest/1"),
        (lambda m: m.pop("code_sha256"), "unknown keys: code_sha256"),
        (lambda m: m.update(config_hash="0" * 64), "disagree about the config_hash"),
    ],
)
def test_a_manifest_that_does_not_vouch_for_its_run_is_refused(tmp_path, change, text):
    folder = a_run(tmp_path, steps=[("train", 0)])
    rewritten(folder, "manifest.json", change)
    with pytest.raises(StudyError, match=text):
        read_result(folder, "phase4a")


def test_any_other_file_that_changed_or_went_is_noticed(tmp_path):
    folder = a_run(tmp_path)
    (folder / "summary.md").write_text("# Better\n")
    with pytest.raises(StudyError, match=r"summary\.md is not what was written"):
        read_result(folder, "phase4a")
    (folder / "summary.md").unlink()
    with pytest.raises(StudyError, match=r"summary\.md is in the manifest and not in the folder"):
        read_result(folder, "phase4a")
    (folder / "manifest.json").unlink()
    with pytest.raises(StudyError, match=r"manifest\.json cannot be read"):
        read_result(folder, "phase4a")


def test_a_result_of_another_role_is_no_evidence(tmp_path):
    folder = a_run(tmp_path, role="frontier")
    with pytest.raises(StudyError, match=r"phase4a\.json cannot be read"):
        read_result(folder, "phase4a")
    with pytest.raises(StudyError, match="wanted the role phase4a, got 'frontier'"):
        read_result(folder / "frontier.json", "phase4a")
    with pytest.raises(StudyError, match="there is no role 'phase5'"):
        read_result(folder, "phase5")
    with pytest.raises(StudyError, match="there is no role 'phase5'"):
        a_run(tmp_path, role="phase5")


def test_further_files_are_hashed_and_stay_inside(tmp_path):
    with study_run(tmp_path, "phase4a", [], {}) as run:
        run.file("checkpoints/seed1/weights.bin").write_bytes(b"123")
        for name in ("../x", "manifest.json", "phase4a.json"):
            with pytest.raises(StudyError, match="cannot be a file of a run"):
                run.file(name)
        run.result(CONTENT)
        run.summary("text")
    assert "checkpoints/seed1/weights.bin" in read_manifest(run.final)["files"]


def test_a_result_is_not_written_twice(tmp_path):
    with pytest.raises(FileExistsError), study_run(tmp_path, "phase4a", [], {}) as run:
        run.result(CONTENT)
        run.result(CONTENT)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"no folder can be made under .*file"):
        a_run(tmp_path / "file")


def test_the_hash_of_a_configuration_knows_no_order_and_no_machine():
    assert config_hash({"a": 1, "b": (1, 2)}) == config_hash({"b": [1, 2], "a": np.int64(1)})
    assert config_hash({"a": 1}) != config_hash({"a": 1.5})
    assert config_hash(CoderConfig("topk", 4, 8, k=2)) != config_hash(CoderConfig("topk", 4, 8, k=3))
    with pytest.raises(StudyError, match=r"\$\.root is a PosixPath"):
        config_hash({"root": Path("/somewhere")})


def test_what_json_has_no_form_for_is_refused():
    for bad, text in (({1: 2}, "has the key 1"), ({"a": {1, 2}}, "is a set"), ({"a": object()}, "is a object")):
        with pytest.raises(StudyError, match=text):
            plain(bad)
    assert plain({"a": np.arange(2), "b": np.float32(0.5), "c": np.True_}) == {"a": [0, 1], "b": 0.5, "c": True}
