"""A training that dies and goes on in another process ends with the bits of one that did not die."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from tests.asa.train_setup import container, digest, text, tiny_model, tiny_settings

from asa.train import RunFolderError, SettingsError, StoreError, train

ROOT = Path(__file__).parents[2]
DRIVER = """
    import os, sys
    from pathlib import Path
    from tests.asa.test_train_resume import whole_run

    folder, die_at, resume, dropout, accum = sys.argv[1:]

    def progress(step, total, record):
        if step == int(die_at):
            os._exit(9)

    whole_run(Path(folder), float(dropout), int(accum), progress=progress, resume=resume == "resume")
"""


def whole_run(folder, dropout, accum, **arguments):
    """17 steps of 4 * accum rows, of which 49 make an epoch; a checkpoint every 5."""
    model = tiny_model(dropout=dropout, slot_dropout=dropout, slotspace_dropout=dropout)
    settings = tiny_settings(total_steps=17, checkpoint_interval=5, eval_interval=4, grad_accum_steps=accum)
    return train(model, text(), text(200, seed=9), settings, folder, **arguments)


def in_another_process(folder, dropout, accum, *, die_at=0, resume="new"):
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), folder, die_at, resume, dropout, accum]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("dropout", "accum"), [(0.0, 1), (0.2, 2)])
def test_death_in_the_middle_of_an_epoch_changes_nothing(tmp_path, dropout, accum):
    whole_run(tmp_path / "whole", dropout, accum)
    assert in_another_process(tmp_path / "broken", dropout, accum, die_at=13).returncode == 9
    at_death = container(tmp_path / "broken")
    assert at_death["step"] == 10  # three steps and one record are lost and done again
    assert 0 < at_death["data"]["next"] < 49
    done = in_another_process(tmp_path / "broken", dropout, accum, resume="resume")
    assert done.returncode == 0, done.stderr
    for name in ("best.pt", "last.pt"):
        one, other = container(tmp_path / "whole", name), container(tmp_path / "broken", name)
        assert digest(other["model"]) == digest(one["model"])
        assert digest(moments(other)) == digest(moments(one))
        assert other["counters"] == one["counters"]
        assert torch.equal(other["generators"]["torch"], one["generators"]["torch"])
        assert torch.equal(other["data"]["generator"], one["data"]["generator"])
        files = [tmp_path / run / "checkpoints" / name for run in ("whole", "broken")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert records(tmp_path / "broken") == records(tmp_path / "whole")
    resumed = json.loads((tmp_path / "broken" / "environment.json").read_text())["resumed"]
    assert [entry["step"] for entry in resumed] == [10]


def moments(checkpoint):
    """The optimiser's tensors by name."""
    return {f"{i}.{name}": t for i, state in checkpoint["opt"]["state"].items() for name, t in state.items()}


def records(folder):
    """The metrics but for the speed."""
    lines = [json.loads(line) for line in (folder / "metrics.ndjson").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_s"} for line in lines]


def stopped(folder, step, **changes):
    """A run in this process that was asked to stop after a step."""
    asked = iter([*[False] * (step - 1), True])
    settings = tiny_settings(total_steps=8, **changes)
    return train(tiny_model(), text(), text(200, seed=9), settings, folder, should_stop=lambda: next(asked))


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    """Stopped where neither a record, a validation nor a checkpoint was due, with a model of other weights at hand."""
    whole = tiny_model()
    train(whole, text(), text(200, seed=9), tiny_settings(total_steps=8), tmp_path / "whole")
    stopped(tmp_path / "run", 5)
    model = tiny_model(seed=77)
    result = train(model, text(), text(200, seed=9), tiny_settings(total_steps=8), tmp_path / "run", resume=True)
    assert result.finished
    assert digest(model.state_dict()) == digest(whole.state_dict())
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    train(tiny_model(), text(), text(200, seed=9), tiny_settings(), tmp_path / "run")
    before = digest(container(tmp_path / "run")["model"])
    result = train(tiny_model(), text(), text(200, seed=9), tiny_settings(), tmp_path / "run", resume=True)
    assert (result.step, result.finished) == (6, True)
    assert digest(container(tmp_path / "run")["model"]) == before


def test_a_run_goes_on_with_its_own_settings_only(tmp_path):
    stopped(tmp_path / "run", 5)
    with pytest.raises(SettingsError, match=r"learning_rate was 0.01, is 0.02"):
        train(tiny_model(), text(), text(200, seed=9), tiny_settings(total_steps=8, learning_rate=0.02), tmp_path / "run", resume=True)  # fmt: skip


def test_a_run_goes_on_with_its_own_model_only(tmp_path):
    stopped(tmp_path / "run", 5)
    with pytest.raises(SettingsError, match=r"num_slots was 4, is 8"):
        train(
            tiny_model(num_slots=8),
            text(),
            text(200, seed=9),
            tiny_settings(total_steps=8),
            tmp_path / "run",
            resume=True,
        )


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    stopped(tmp_path / "run", 5)
    with pytest.raises(RunFolderError, match="train differ"):
        train(
            tiny_model(), text(seed=5), text(200, seed=9), tiny_settings(total_steps=8), tmp_path / "run", resume=True
        )


def test_there_must_be_a_run_to_go_on_with(tmp_path):
    with pytest.raises(RunFolderError, match="nothing to resume"):
        train(tiny_model(), text(), None, tiny_settings(), tmp_path, resume=True)


def test_a_damaged_checkpoint_is_not_resumed_from(tmp_path):
    stopped(tmp_path / "run", 5)
    (tmp_path / "run" / "checkpoints" / "last.pt").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="is not the file that the run wrote"):
        train(tiny_model(), text(), text(200, seed=9), tiny_settings(total_steps=8), tmp_path / "run", resume=True)


def test_generator_states_of_another_machine(tmp_path):
    from asa.utils.seed import generator_states, set_generator_states

    states = generator_states()
    states["cuda"] = [*states["cuda"], torch.get_rng_state()]
    with pytest.raises(ValueError, match="CUDA devices"):
        set_generator_states(states)
