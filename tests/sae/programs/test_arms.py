"""Grids of coders: keys know everything that decides what is trained, and what could not be trained is missing, never left out."""

import pytest
import torch
from tests.sae.programs.planted_rows import SETTINGS, TOPK, D, M, rows

from trialplate.sae.errors import StudyError, TrainingError
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.programs import arms as module
from trialplate.sae.programs.arms import Grid, condition_key, over_seeds, train_arms
from trialplate.sae.programs.conditions import Similarity, measure, subject
from trialplate.sae.programs.results import plain
from trialplate.sae.training import train


def test_the_key_of_a_condition_knows_every_hyperparameter():
    changed = [
        (TOPK, SETTINGS.with_(lr=1e-3)),
        (TOPK, SETTINGS.with_(steps=61)),
        (TOPK, SETTINGS.with_(aux=0.5)),
        (TOPK.with_(k=3), SETTINGS),
        (TOPK.with_(d_sae=M + 1), SETTINGS),
        (TOPK.with_(prefixes=(4,)), SETTINGS),
        (TOPK.with_(architecture="batchtopk"), SETTINGS),
    ]
    keys = {condition_key(coder, settings) for coder, settings in [(TOPK, SETTINGS), *changed]}
    assert len(keys) == len(changed) + 1


def test_seeds_make_cells_and_not_conditions():
    arms = over_seeds(TOPK, SETTINGS, (1, 2, 3))
    assert len({arm.condition for arm in arms}) == 1
    assert len({arm.cell for arm in arms}) == 3


def test_a_default_that_is_written_out_is_the_same_condition():
    assert condition_key(TOPK, SETTINGS) == condition_key(TOPK, SETTINGS.with_(aux_k=D // 2, log_every=60))


def test_seeds_share_the_order_of_the_rows_unless_asked_otherwise():
    shared = over_seeds(TOPK, SETTINGS.with_(data_seed=7), (1, 2))
    assert [(arm.settings.init_seed, arm.settings.data_seed) for arm in shared] == [(1, 7), (2, 7)]
    own = over_seeds(TOPK, SETTINGS, (1, 2), order="own")
    assert [(arm.settings.init_seed, arm.settings.data_seed) for arm in own] == [(1, 1), (2, 2)]


def test_a_grid_trains_what_training_would():
    arms = over_seeds(TOPK, SETTINGS, (1, 2, 3), k=2)
    told = []
    grid = train_arms(arms, *rows(), after=lambda key, n: told.append((key, n)))
    alone = train([(TOPK, SETTINGS.with_(init_seed=2))], *rows())[0]
    assert torch.equal(grid.of(arms)[2].coder.W_dec, alone.coder.W_dec)
    assert told == [(arms[0].condition, 3)]
    found = measure(grid, arms, rows()[1])
    assert found.values("ev")[2] == pytest.approx(alone.held_out["ev"])
    record = plain(found.record(found.stability(Similarity())))
    assert (record["status"], record["shape"], record["k"]) == ("measured", [M, D], 2)
    assert [cell["digest"] for cell in record["cells"]] == [coder_digest(grid.of(arms)[s].coder) for s in (1, 2, 3)]
    assert subject(*rows(), [found])["coders"] == {
        found.key: {str(cell["seed"]): cell["digest"] for cell in record["cells"]}
    }


def test_an_empty_grid_and_a_cell_twice_are_refused():
    with pytest.raises(StudyError, match="an empty grid"):
        train_arms([], *rows())
    with pytest.raises(StudyError, match="2 of 4 configurations appear a second time"):
        train_arms(over_seeds(TOPK, SETTINGS, (1, 2)) * 2, *rows())


def breaks_for(seed):
    """Training in which the coder of one seed never works."""

    def broken(plans, **more):
        if any(settings.init_seed == seed for _, settings in plans):
            raise TrainingError(f"seed {seed}: the loss is nan")
        return train(plans, **more)

    return broken


def test_a_coder_that_breaks_is_missing_with_its_reason_and_takes_no_other_along(monkeypatch):
    monkeypatch.setattr(module, "train", breaks_for(2))
    arms = over_seeds(TOPK, SETTINGS, (1, 2, 3))
    grid = train_arms(arms, *rows())
    assert set(grid.trained) == {arms[0].cell, arms[2].cell}
    assert grid.lost(arms) == {"2": "seed 2: the loss is nan"}
    with pytest.raises(StudyError, match="1 of 3 coders are missing, first that of seed 2: seed 2: the loss is nan"):
        grid.of(arms)
    found = measure(grid, arms, rows()[1])
    record = plain(found.record())
    assert (found.is_whole, record["status"]) == (False, "missing")
    assert "ev" not in record  # the mean of the two that are left is no number of this condition


def test_a_silent_coder_is_missing(monkeypatch):
    arms = over_seeds(TOPK, SETTINGS, (1, 2, 3))
    grid = train_arms(arms, *rows())
    with torch.no_grad():
        grid.trained[arms[1].cell].coder.b_enc.fill_(-1e6)
    found = measure(Grid(grid.arms, grid.trained, grid.missing), arms, rows()[1])
    assert found.missing == {"2": f"none of its {M} latents fires on the held-out rows"}


def test_coders_are_kept_where_a_folder_is_given(tmp_path):
    arms = over_seeds(TOPK, SETTINGS.with_(steps=2), (1, 2, 3))
    grid = train_arms(arms, *rows(), folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {one.name for one in grid.trained.values()}


def test_coders_that_another_took_along_go_on_from_what_was_written(monkeypatch, tmp_path):
    def broken(plans, **more):
        if any(settings.init_seed == 2 for _, settings in plans):
            if len(plans) > 1:
                train(plans, **more)  # their folders are there when one of them breaks
            raise TrainingError("seed 2: the loss is nan")
        return train(plans, **more)

    monkeypatch.setattr(module, "train", broken)
    arms = over_seeds(TOPK, SETTINGS.with_(steps=4), (1, 2, 3))
    grid = train_arms(arms, *rows(), folder=tmp_path)
    assert grid.lost(arms) == {"2": "seed 2: the loss is nan"}
    alone = train([(TOPK, SETTINGS.with_(steps=4, init_seed=3))], *rows())[0]
    assert torch.equal(grid.trained[arms[2].cell].coder.W_dec, alone.coder.W_dec)
