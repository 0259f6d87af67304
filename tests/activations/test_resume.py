"""A pass that was cut short goes on to the same sums."""

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny

from trialplate.activations import resume
from trialplate.activations.capture import plan_for
from trialplate.activations.collectors.clusters import ClusterSums
from trialplate.activations.collectors.moments import UnitMoments
from trialplate.activations.collectors.sample import RowSample
from trialplate.activations.errors import StoreError
from trialplate.activations.resume import collect_resumable
from trialplate.activations.sites import choose

TEXTS = {"a": ids(40, 12).tolist(), "b": ids(10, 9, seed=1).tolist()}


class Cut(Exception):
    """The machine went away."""


@pytest.fixture(scope="module")
def model():
    return tiny("gpt_neox")


def table(points):
    return {(t, p.name): [UnitMoments(), ClusterSums(64), RowSample(9, 0)] for t in TEXTS for p in points}


def test_the_sums_are_those_of_an_unbroken_pass(model, tmp_path, monkeypatch):
    points, plan = choose(model, ["*"]), plan_for(model, TEXTS, positions=60)
    whole, cut, again = table(points), table(points), table(points)
    assert collect_resumable(model, plan, points, whole, tmp_path / "whole", every=3) == len(plan.batches)

    calls = []
    honest = resume._save

    def save(*args):
        honest(*args)
        calls.append(args[2])
        if len(calls) == 2:
            raise Cut

    monkeypatch.setattr(resume, "_save", save)
    with pytest.raises(Cut):
        collect_resumable(model, plan, points, cut, tmp_path / "cut", every=3)
    monkeypatch.setattr(resume, "_save", honest)
    assert collect_resumable(model, plan, points, again, tmp_path / "cut", every=3) == len(plan.batches) - 6
    for key in whole:
        for one, two in zip(whole[key], again[key], strict=True):
            for name, tensor in one.state().items():
                assert torch.equal(two.state()[name], tensor)
    third = table(points)
    assert collect_resumable(model, plan, points, third, tmp_path / "cut") == 0  # nothing left to read
    np.testing.assert_array_equal(third["a", "L0.mlp_act"][0].result().m2, whole["a", "L0.mlp_act"][0].result().m2)


def test_sums_of_something_else_are_refused(model, tmp_path):
    points, plan = choose(model, ["L0.mlp_act"]), plan_for(model, TEXTS)
    collect_resumable(model, plan, points, table(points), tmp_path / "file")
    for other in (
        lambda: (tiny("gpt_neox", seed=1), plan, points, table(points)),
        lambda: (model, plan_for(model, {**TEXTS, "b": [[1]]}), points, table(points)),
        lambda: (model, plan, choose(model, ["L1.mlp_act"]), table(choose(model, ["L1.mlp_act"]))),
        lambda: (model, plan, points, {("a", "L0.mlp_act"): [UnitMoments()]}),
        lambda: (model, plan, points, {k: [UnitMoments(threshold=0.1), *v[1:]] for k, v in table(points).items()}),
        lambda: (
            model,
            plan,
            points,
            {k: [v[0], ClusterSums(64, skip_first=True), v[2]] for k, v in table(points).items()},
        ),
        lambda: (model, plan, points, {k: [*v[:2], RowSample(9, 1)] for k, v in table(points).items()}),
    ):
        with pytest.raises(StoreError, match="belongs to other weights, texts, sites or collectors"):
            collect_resumable(*other(), tmp_path / "file")


def test_a_torn_file_is_named(model, tmp_path):
    points, plan = choose(model, ["L0.mlp_act"]), plan_for(model, TEXTS)
    (tmp_path / "file").write_bytes(b"torn")
    with pytest.raises(StoreError, match="Remove it to begin anew"):
        collect_resumable(model, plan, points, table(points), tmp_path / "file")
