"""Probing a coder: arms on the same items, tasks of a set, and what is refused."""

import numpy as np
import pytest
from tests.sae.coders import random_coder

from trialplate.sae.errors import CoderError
from trialplate.sae.probing import probe_coder, probe_features, tasks_of
from trialplate.sae.programs.results import plain
from trialplate.sae.saebench_json import saebench_result
from trialplate.tasks.labelled_texts import SPLITS, LabelledSet, labelled_text

SIZES = {"train": 30, "valid": 14, "test": 20}


def texts(classes=("a", "b", "c"), seconds=("",)):
    """So many texts of each class and split; each is a document of its own."""
    return LabelledSet(
        "made",
        tuple(
            labelled_text((f"{name}{second} {split} {i}",), name, split, second)
            for split, n in SIZES.items()
            for name in classes
            for second in seconds
            for i in range(n)
        ),
    )


def features(labelled, seed=0):
    """A coder of which latent j is class j; channels in which classes are mixed; a random coder that tells nothing."""
    rng = np.random.default_rng(seed)
    hot = np.array([[text.label == name for name in labelled.classes] for text in labelled.texts], dtype=float)
    mixed = hot @ rng.normal(size=(hot.shape[1], 12))
    latents = np.concatenate([hot, rng.random((len(hot), 20))], axis=1)
    return {
        "coder": latents + 0.1 * rng.normal(size=latents.shape),
        "raw": mixed + 0.8 * rng.normal(size=mixed.shape),
        "random": rng.normal(size=latents.shape),
    }


def probed(**options):
    labelled = texts()
    return probe_features(features(labelled), labelled, np.random.default_rng(0), **options)


def test_a_coder_that_names_the_classes_beats_channels_and_chance():
    found = probed(principal=True)
    assert found.scores().accuracy.value > 0.97
    assert 0.4 < found.scores("random").accuracy.value < 0.6
    assert found.minus("random").accuracy.ci[0] > 0.3
    assert found.minus("raw").accuracy_items.ci[0] > 0
    assert set(found.arms) == {"coder", "raw", "random", "dense", "principal"}
    assert found.scores("dense").auroc.value > found.scores("raw").auroc.value


def test_every_arm_has_the_items_of_its_task():
    found = probed()
    for task in found.documents:
        assert len({found.arms[arm][task].items for arm in found.arms}) == 1
        assert len({found.arms[arm][task].test_y.tobytes() for arm in found.arms}) == 1
    assert len({found.arms["coder"][task].items for task in found.documents}) == 3


def test_no_stale_result_changes_a_baseline():
    """Two calls in any order give the same baseline: no earlier result is kept, and the coder's arm has no part in it."""
    labelled = texts()
    given = features(labelled)
    first = probe_features(given, labelled, np.random.default_rng(3)).scores("raw")
    probe_features(features(labelled, seed=8), labelled, np.random.default_rng(9))
    other = {**given, "coder": given["random"]}
    assert probe_features(other, labelled, np.random.default_rng(3)).scores("raw") == first


def test_tasks_are_balanced_in_every_split():
    labelled = texts()
    tasks = tasks_of(labelled, np.random.default_rng(0))
    assert [task.name for task in tasks] == ["a", "b", "c"]
    for task in tasks:
        for split, rows, truth in zip(SPLITS, task.rows, task.truth, strict=True):
            assert truth.sum() * 2 == len(truth) == 2 * SIZES[split]
            assert all(labelled.texts[row].split == split for row in rows)
            assert [labelled.texts[row].label == task.name for row in rows] == truth.tolist()


def test_two_classes_are_one_task():
    assert [task.name for task in tasks_of(texts(("a", "b")), np.random.default_rng(0))] == ["b"]
    both = texts(("a", "b"), ("x", "y"))
    assert [task.name for task in tasks_of(both, np.random.default_rng(0), "second")] == ["y"]
    with pytest.raises(ValueError, match="two classes of the second label, got"):
        tasks_of(texts(), np.random.default_rng(0), "second")


def test_a_split_without_a_class_is_an_error():
    labelled = texts()
    some = LabelledSet("some", tuple(t for t in labelled.texts if (t.label, t.split) != ("b", "valid")))
    with pytest.raises(ValueError, match="class 'b' against the others: 0 rows"):
        tasks_of(some, np.random.default_rng(0))


def test_a_k_wider_than_an_arm_is_not_tried_there():
    labelled = texts()
    found = probe_features(
        {**features(labelled), "raw": features(labelled)["raw"][:, :3]}, labelled, np.random.default_rng(0)
    ).result()
    assert [list(found["by_k"][arm]) for arm in ("coder", "raw")] == [["1", "2", "5"], ["1", "2"]]


def test_arms_that_are_missing_or_of_other_texts():
    labelled = texts()
    given = features(labelled)
    with pytest.raises(CoderError, match="no features of random"):
        probe_features({k: v for k, v in given.items() if k != "random"}, labelled, np.random.default_rng(0))
    with pytest.raises(CoderError, match=r"'raw': wanted a row for each of 192 texts, got 191"):
        probe_features({**given, "raw": given["raw"][1:]}, labelled, np.random.default_rng(0))


def test_a_random_coder_has_the_same_width():
    with pytest.raises(CoderError, match="the random coder has 32 latents, the coder 24"):
        probe_coder(
            None, None, random_coder(d_sae=24), texts(), np.random.default_rng(0), random=random_coder(d_sae=32)
        )


def test_results_are_plain_and_saebench_takes_them():
    found = probed()
    result = plain(found.result())
    assert result["texts"] == texts().digest()
    assert set(result["differences"]) == {"raw", "random", "dense"}
    assert result["tasks"]["a"]["arms"]["coder"]["k"] in (1, 2, 5)
    metrics = found.saebench()
    assert metrics["sae"]["sae_top_1_test_accuracy"] == found.scores(k=1).accuracy.value
    assert metrics["llm"]["llm_test_accuracy"] == found.scores("dense").accuracy.value
    saebench_result("sparse_probing", {}, metrics, coder=random_coder().config, release="r", sae_id="i")
