"""Transcoders against autoencoders: on rows whose map and features are known, one condition beforehand or the worst of a grid, never its best."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.seed_stability import Gain
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError
from trialplate.sae.one_side import OneSide
from trialplate.sae.programs import transcoder_stress as program
from trialplate.sae.programs.conditions import Condition
from trialplate.sae.programs.transcoder_stress import TranscoderOptions, run_transcoder_stress, transcoder_summary
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import from_tensor, split
from trialplate.tasks.planted_dictionaries import planted

D_IN, D_OUT, M = 12, 10, 16
KINDS = ("transcoder", "autoencoder")
SETTINGS = TrainingSettings(steps=60, batch_size=128, lr=2e-2)
SHORT = SETTINGS.with_(steps=10)


@cache
def rows():
    """y is a fixed linear map of sparse x; whole, so that both kinds have something to find."""
    rng = np.random.default_rng(0)
    found = planted("independent", M, D_IN, 1200, 2.0, rng)
    y = found.codes @ rng.normal(size=(M, D_OUT)).astype(np.float32)
    return split(from_tensor(torch.from_numpy(found.x), torch.from_numpy(y), name="map"), 0.25, 0)


def transcoder(**more):
    known = {"d_in": D_IN, "d_out": D_OUT, "d_sae": M, "k": 2, "centre_input": False, "site_in": "a", "site_out": "b"}
    return CoderConfig("topk", **{**known, **more})


def options(*conditions, **more):
    given = conditions or ((transcoder(), SETTINGS),)
    return TranscoderOptions(tuple(given), **{"seeds": (1, 2, 3), "ev_floor": 0.2, **more})


@cache
def one_condition():
    return run_transcoder_stress(options(candidate="c" * 64), *rows())


def test_one_condition_is_the_result():
    result = one_condition()
    assert (result["n_conditions"], result["rule"]) == (1, "one condition, laid down beforehand")
    (condition,) = result["conditions"]
    assert result["delta"] == condition["delta"] == condition["delta_widened"]
    sides = [condition[kind]["stability"]["adjusted"]["value"] for kind in KINDS]
    assert result["delta"]["value"] == pytest.approx(sides[0] - sides[1])
    assert result["delta"]["n"] == 3  # seeds that both kinds share, not their pairs
    assert min(sides) > 0.15  # 60 steps on planted rows: well above chance
    assert result["floors_met"]
    assert "| 16 | 2 |" in transcoder_summary(result)


def test_the_result_says_of_which_coders_and_rows_it_is():
    subject = one_condition()["subject"]
    assert subject["candidate"] == "c" * 64
    (coders,) = subject["coders"].values()
    digests = [digest for kind in coders.values() for digest in kind.values()]
    assert len(set(digests)) == 6
    assert subject["rows"] != subject["held_out"]


def test_chance_is_that_of_each_kinds_own_shape():
    """Autoencoders of the input have 12 channels, transcoders write 10: fewer channels, more chance."""
    condition = run_transcoder_stress(options((transcoder(), SHORT), compared="input"), *rows())["conditions"][0]
    chance = [condition[kind]["stability"]["chance"]["value"] for kind in KINDS]
    assert chance[0] > chance[1] + 0.005


def test_the_best_of_a_grid_is_not_the_result(monkeypatch):
    """The defect: of 16 conditions, three of them positive, a gate was fed the best one."""
    lows = {8: 0.3, 12: -0.2, 16: 0.1}

    def gain(options, kinds, level):
        low = lows[kinds["transcoder"].measured.about["d_sae"]]
        estimate = Estimate(low + 0.1, 3, 0.05, (low, low + 0.2))
        return Gain(estimate, estimate, None)

    def kinds(options, coder, settings, rows, folder, device, after):
        empty = Condition(str(coder.d_sae), {"d_sae": coder.d_sae}, (1,), {}, {}, {})
        return dict.fromkeys(KINDS, program._Kind(empty, None))

    monkeypatch.setattr(program, "_gain", gain)
    monkeypatch.setattr(program, "_kinds", kinds)
    monkeypatch.setattr(program, "_record", lambda *given: {"floors": {"met": True}})
    result = run_transcoder_stress(options(*((transcoder(d_sae=m), SETTINGS) for m in lows)), *rows())
    assert (result["delta_of"], result["delta"]["ci"][0]) == ("12", -0.2)
    assert (result["n_conditions"], result["rule"]) == (3, "the worst of all conditions")


def test_intervals_of_a_grid_are_widened_for_their_number():
    result = run_transcoder_stress(options((transcoder(), SHORT), (transcoder(k=3), SHORT)), *rows())
    for condition in result["conditions"]:
        narrow, wide = condition["delta"], condition["delta_widened"]
        assert wide["value"] == narrow["value"]
        assert wide["level"] == pytest.approx(1 - 0.05 / 2)
        assert wide["ci"][0] < narrow["ci"][0] < narrow["ci"][1] < wide["ci"][1]
    assert result["delta"]["ci"][0] == min(c["delta"]["ci"][0] for c in result["conditions"])


def test_a_floor_of_explained_variance_holds_for_every_coder():
    result = run_transcoder_stress(options((transcoder(), SHORT), ev_floor=0.999), *rows())
    assert not result["floors_met"]
    (condition,) = result["conditions"]
    lowest = condition["floors"]["lowest"]
    assert lowest == min(cell["ev"]["value"] for kind in KINDS for cell in condition[kind]["cells"])


def test_a_coder_that_cannot_be_trained_is_an_error():
    """The worst of a grid with a hole is not known."""
    broken = SETTINGS.with_(lr=1e30, steps=5)
    with pytest.raises(StudyError, match="transcoders are missing"):
        run_transcoder_stress(options((transcoder(), SETTINGS.with_(steps=5)), (transcoder(k=3), broken)), *rows())


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"seeds": (1, 2)}, "at least 3"),
        ({"seeds": (1, 2, 2)}, "twice"),
        ({"conditions": ()}, "wanted one condition"),
        (
            {"conditions": ((transcoder(), SETTINGS), (transcoder(), SETTINGS.with_(init_seed=4)))},
            "1 of them different",
        ),
        ({"conditions": ((CoderConfig("topk", d_in=12, d_sae=16, k=2), SETTINGS),)}, "describes a transcoder"),
    ],
    ids=["two seeds", "one seed twice", "none", "one condition twice", "autoencoder"],
)
def test_what_cannot_be_compared_is_said(more, text):
    known = {"conditions": ((transcoder(), SETTINGS),), "seeds": (1, 2, 3)}
    with pytest.raises(StudyError, match=text):
        TranscoderOptions(**{**known, **more})


def test_rows_of_one_site_are_refused():
    own = OneSide(rows()[0], "input"), OneSide(rows()[1], "input")
    with pytest.raises(StudyError, match="of one"):
        run_transcoder_stress(options(), *own)


def test_one_side_has_the_rows_of_its_side():
    whole = rows()[0]
    index = torch.tensor([5, 0, 3])
    x, y = whole.rows(index)
    for side, values in (("input", x), ("target", y)):
        source = OneSide(whole, side)
        first, second = source.rows(index)
        assert first is second
        assert torch.equal(first, values)
        assert (source.d_in, source.d_out, source.n_rows) == (values.shape[1], values.shape[1], whole.n_rows)
        assert not source.is_paired
    assert len({OneSide(whole, "input").digest, OneSide(whole, "target").digest, whole.digest}) == 3
    assert math.isfinite(float(x.sum()))
