"""A run that was stopped and taken up again is, bit for bit, the run that was never stopped; what is on disk is whole; another run is refused."""

import json

import pytest
import torch
from tests.sae.planted_rows import sources, truth

from trialplate.report import files
from trialplate.sae.checkpoints import STATE
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.training import train

STEPS = 24
SHORT = TrainingSettings(
    steps=STEPS, batch_size=48, lr=5e-3, log_every=2, dead_after_tokens=100, k_start=None, sparsity_warmup=0.5
)
PLANS = {
    "relu": (CoderConfig("relu", 6, 12), SHORT.with_(l1=0.3)),
    "topk": (CoderConfig("topk", 6, 12, k=2), SHORT.with_(k_start=6, k_anneal=0.8)),
    "autograd": (CoderConfig("topk", 6, 12, k=2, prefixes=(4,)), SHORT.with_(backend="autograd", multi=0.125)),
    "batchtopk": (CoderConfig("batchtopk", 6, 12, k=2), SHORT),
    "jumprelu": (CoderConfig("jumprelu", 6, 12), SHORT.with_(l0_target=2.0, bandwidth=0.05)),
    "routed": (CoderConfig("routed", 6, 12, k=2, n_experts=2), SHORT.with_(decoder_norm="free")),
}


class Stopped(Exception):
    """A run is stopped from outside."""


def stop_at(step, coder=""):
    def after(progress):
        if progress.step == step and progress.coder.startswith(coder):
            raise Stopped

    return after


@pytest.fixture(scope="module")
def rows():
    return sources(truth(300, n_features=8, d=6))


@pytest.fixture(scope="module")
def unbroken(rows, tmp_path_factory):
    """{kind: trained} of runs that were never stopped, all in one."""
    folder = tmp_path_factory.mktemp("unbroken")
    return dict(zip(PLANS, train(list(PLANS.values()), *rows, folder=folder, checkpoint_every=10), strict=True))


def assert_same(found, expected):
    ours, theirs = found.coder.state_dict(), expected.coder.state_dict()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), f"{found.name}: {name}"
    assert found.history == expected.history
    assert found.held_out == expected.held_out
    for file in ("metrics.ndjson", "cfg.json", "sae_weights.safetensors", STATE):
        assert (found.folder / file).read_bytes() == (expected.folder / file).read_bytes(), file


@pytest.mark.parametrize("step", [2, 10, 16, STEPS])
def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(rows, unbroken, tmp_path, step):
    """Stopped before the first checkpoint, at one, between two, and after the last step; weights, counters, curves and files are compared."""
    plans = list(PLANS.values())
    with pytest.raises(Stopped):
        train(plans, *rows, folder=tmp_path, checkpoint_every=10, after=stop_at(step))
    for found, expected in zip(
        train(plans, *rows, folder=tmp_path, checkpoint_every=10, resume=True), unbroken.values(), strict=True
    ):
        assert_same(found, expected)


def test_coders_that_were_stopped_at_different_checkpoints_catch_up(rows, unbroken, tmp_path):
    plans = list(PLANS.values())
    with pytest.raises(Stopped):
        train(plans, *rows, folder=tmp_path, checkpoint_every=10, after=stop_at(10, "batchtopk"))
    steps = {json.loads((path / "training.json").read_text())["config"]["architecture"]: _step(path) for path in tmp_path.iterdir()}  # fmt: skip
    assert steps["relu"] == steps["batchtopk"] == 10
    assert steps["jumprelu"] == steps["routed"] == 0
    for found, expected in zip(
        train(plans, *rows, folder=tmp_path, checkpoint_every=10, resume=True), unbroken.values(), strict=True
    ):
        assert_same(found, expected)


def _step(folder):
    from safetensors import safe_open

    with safe_open(folder / STATE, "pt") as stored:
        return json.loads(stored.metadata()["about"])["learner"]["t"]


def test_a_run_that_is_stopped_twice(rows, unbroken, tmp_path):
    plan = [PLANS["jumprelu"]]
    for step, resume in ((6, False), (14, True)):
        with pytest.raises(Stopped):
            train(plan, *rows, folder=tmp_path, checkpoint_every=4, after=stop_at(step), resume=resume)
    (found,) = train(plan, *rows, folder=tmp_path, checkpoint_every=4, resume=True)
    assert_same(found, unbroken["jumprelu"])


def test_a_finished_run_is_read_back(rows, unbroken, tmp_path):
    plan = [PLANS["topk"]]
    train(plan, *rows, folder=tmp_path)
    told = []
    (again,) = train(plan, *rows, folder=tmp_path, resume=True, after=told.append)
    assert told == []
    assert_same(again, unbroken["topk"])
    assert json.loads((again.folder / "training.json").read_text())["finished"] is True


def test_more_coders_may_join(rows, unbroken, tmp_path):
    train([PLANS["topk"]], *rows, folder=tmp_path)
    other = (PLANS["topk"][0], PLANS["topk"][1].with_(lr=1e-2))
    found, _ = train([PLANS["topk"], other], *rows, folder=tmp_path, resume=True)
    assert_same(found, unbroken["topk"])


# --- another run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(rows, tmp_path):
    with pytest.raises(Stopped):
        train([PLANS["topk"]], *rows, folder=tmp_path, checkpoint_every=10, after=stop_at(12))
    return tmp_path


def test_other_settings_are_refused_and_named(rows, begun):
    other = (PLANS["topk"][0], PLANS["topk"][1].with_(lr=1e-2, aux=0.0))
    with pytest.raises(TrainingError, match=r"begun with aux: 0.0 instead of 0.03125; lr: 0.01 instead of 0.005\."):
        train([other], *rows, folder=begun, resume=True)


def test_another_coder_is_refused_and_named(rows, begun):
    other = (PLANS["topk"][0].with_(prefixes=(3,)), PLANS["topk"][1])
    with pytest.raises(TrainingError, match=r"prefixes: \[3\] instead of \[\]"):
        train([other], *rows, folder=begun, resume=True)


def test_other_rows_are_refused(begun):
    with pytest.raises(TrainingError, match=r"another run: held_out: '\w+' instead of '\w+'; rows: "):
        train([PLANS["topk"]], *sources(truth(300, n_features=8, d=6, seed=1)), folder=begun, resume=True)


def test_a_begun_run_is_not_begun_again(rows, begun):
    with pytest.raises(TrainingError, match=r"go on with it \(--resume\), or choose another folder"):
        train([PLANS["topk"]], *rows, folder=begun)


def test_a_state_that_was_cut_off_is_no_state(rows, begun):
    (folder,) = begun.iterdir()
    file = folder / STATE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="cannot be read as the state of a run"):
        train([PLANS["topk"]], *rows, folder=begun, resume=True)


# --- what is on disk is whole -------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_leaves_the_last_state(rows, unbroken, tmp_path, monkeypatch):
    """The second checkpoint cannot be written: the first one stays, and the run goes on from there."""
    written = files.os.write
    calls = []

    def full(fd, data):
        if len(data) > 2000:  # a state
            calls.append(len(data))
            if len(calls) == 3:  # at the beginning, at step 10, at step 20
                written(fd, data[:100])
                raise OSError(28, "No space left on device")
        return written(fd, data)

    monkeypatch.setattr(files.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        train([PLANS["relu"]], *rows, folder=tmp_path, checkpoint_every=10)
    monkeypatch.undo()
    (folder,) = tmp_path.iterdir()
    assert _step(folder) == 10
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    (found,) = train([PLANS["relu"]], *rows, folder=tmp_path, checkpoint_every=10, resume=True)
    assert_same(found, unbroken["relu"])


def test_no_pickle_is_written_or_read(unbroken):
    for found in unbroken.values():
        for path in found.folder.iterdir():
            assert path.suffix in (".json", ".ndjson", ".safetensors")


def test_a_state_is_not_taken_for_a_coder(unbroken):
    from safetensors import safe_open

    for found in unbroken.values():
        with safe_open(found.folder / STATE, "pt") as stored:
            assert all(name == "silent" or name.startswith(("scaled.", "adam.")) for name in stored.keys())  # noqa: SIM118 - not a mapping
