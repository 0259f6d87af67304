"""Sparse probing: the choice of latents and of k, and comparisons on the same items."""

import numpy as np
import pytest
from building_blocks import sae_probing_slow as slow

from trialplate.metrics.sparse_probing import (
    balanced_rows,
    by_contrast,
    dense_probe,
    difference,
    difference_over_tasks,
    digest_of_items,
    over_tasks,
    principal_columns,
    sparse_probe,
)


def labels(n):
    return np.arange(n) % 2 == 0


def features(n, strengths, seed, noise=1.0):
    """[n, m]: column j moves by strengths[j] with the label."""
    rng = np.random.default_rng(seed)
    return labels(n)[:, None] * np.asarray(strengths) + noise * rng.normal(size=(n, len(strengths)))


def probe(strengths, *, ks=(1, 2, 5), n=(80, 60, 60), seed=0, test_y=None, noise=1.0, items="x", **options):
    train, valid, test = (features(size, strengths, seed + i, noise) for i, size in enumerate(n))
    test_y = labels(n[2]) if test_y is None else test_y
    return sparse_probe(train, labels(n[0]), valid, labels(n[1]), test, test_y, ks, items=items, **options)


def test_latents_are_chosen_by_contrast_on_train():
    assert by_contrast([[0, 5, 1], [0, 1, 1], [3, 0, 1], [3, 0, 1]], np.array([True, True, False, False])).tolist() == [
        0,
        1,
        2,
    ]
    found = probe([0, 3, 0, 1, 0, -2], noise=0.3)
    assert [at.columns.tolist() for at in found.by_k[:2]] == [[1], [1, 5]]


def test_contrast_equals_the_slow_form():
    f = np.random.default_rng(0).integers(0, 3, (30, 6))
    assert by_contrast(f, labels(30)).tolist() == slow.by_contrast(f.tolist(), labels(30).tolist())


def test_a_latent_that_is_the_label_is_found_at_once():
    found = probe([0, 0, 9, 0, 0], noise=0.1)
    assert found.accuracy().value == found.auroc().value == 1
    assert found.chosen.k == 1  # all k are perfect: the smallest is taken


def test_k_is_chosen_on_validation_never_on_test():
    """Three latents tell together what one alone does not, so validation wants k = 5; test labels turned round would want k = 1."""
    strengths = [1, 1, 1, 1, 1]
    honest, turned = probe(strengths), probe(strengths, test_y=~labels(60))
    assert honest.chosen.k == turned.chosen.k == 5
    assert (
        turned.auroc(turned.by_k[0]).value > turned.auroc().value
    )  # the best of the test scores is another k, and is not reported
    assert turned.auroc().value == pytest.approx(1 - honest.auroc().value)


def test_k_follows_the_validation_rows():
    train, test = features(80, [2, 1.9], 0, noise=0.5), features(60, [2, 1.9], 1, noise=0.5)
    misleading = features(60, [2, 0], 2, noise=0.5) + np.outer(
        ~labels(60), [0, 9]
    )  # here the second column points the other way
    found = sparse_probe(train, labels(80), misleading, labels(60), test, labels(60), (1, 2))
    assert found.chosen.k == 1
    assert found.auroc(found.by_k[1]).value > found.auroc().value


def test_baseline_is_computed_on_the_same_items():
    coder, raw = probe([2, 0, 0, 0, 0], items="a"), probe([1, 0, 0, 0, 0], items="b")
    with pytest.raises(ValueError, match="same items, got items a with 60 test rows and b with 60"):
        difference(coder, raw)
    with pytest.raises(ValueError, match="task 'x'"):
        difference_over_tasks({"x": coder}, {"x": raw}, {"x": range(60)})
    fewer = probe([1, 0, 0, 0, 0], items="a", n=(80, 60, 40))
    with pytest.raises(ValueError, match="with 40"):
        difference(coder, fewer)


def test_a_task_that_one_side_lacks_is_an_error():
    task = probe([2, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"same tasks on both sides, got \['a', 'b'\] and \['a'\]"):
        difference_over_tasks({"a": task, "b": task}, {"a": task}, {"a": range(60), "b": range(60)})


def test_a_difference_is_paired_by_row():
    strong, weak = probe([3, 0, 0, 0, 0]), probe([0.5, 0, 0, 0, 0], seed=7)
    found = difference(strong, weak)
    hits = strong.correct().astype(float) - weak.correct()
    assert found.accuracy.value == pytest.approx(hits.mean())
    assert found.accuracy.stderr == pytest.approx(hits.std(ddof=1) / np.sqrt(60))
    assert found.auroc.value == pytest.approx(strong.auroc().value - weak.auroc().value)
    assert found.auroc.ci[0] > 0


def test_over_tasks_by_hand():
    a, b = probe([3, 0, 0, 0, 0]), probe([0, 0, 0, 0, 0], seed=5)
    means = over_tasks({"a": a, "b": b})
    assert means.accuracy.value == pytest.approx((a.accuracy().value + b.accuracy().value) / 2)
    assert means.accuracy.n == 2
    assert over_tasks({"a": a}, k=2).auroc.value == pytest.approx(a.auroc(a.by_k[1]).value)
    with pytest.raises(ValueError, match="not with 3"):
        over_tasks({"a": a}, k=3)
    with pytest.raises(ValueError, match="no task"):
        over_tasks({})


def test_items_of_one_text_are_one_cluster():
    """The same task twice adds no information: intervals over texts stay as wide as with one."""
    first, second = probe([2, 0, 0, 0, 0]), probe([1, 0, 0, 0, 0], seed=9)
    once = difference_over_tasks({"a": first}, {"a": second}, {"a": range(60)}).accuracy_items
    twice = difference_over_tasks(
        {"a": first, "b": first}, {"a": second, "b": second}, {"a": range(60), "b": range(60)}
    )
    assert twice.accuracy_items.n == 120
    assert twice.accuracy_items.stderr == pytest.approx(once.stderr)


def test_random_labels_are_chance():
    rng = np.random.default_rng(4)
    y = [rng.permutation(np.arange(200) % 2 == 0) for _ in range(3)]
    f = [rng.normal(size=(200, 8)) for _ in range(3)]
    found = sparse_probe(f[0], y[0], f[1], y[1], f[2], y[2])
    low, high = found.auroc().ci
    assert low < 0.5 < high


def test_dense_probe_reads_everything():
    strengths = np.full(20, 0.6)
    f = [features(n, strengths, seed) for n, seed in ((300, 0), (60, 1), (200, 2))]
    y = [labels(300), labels(60), labels(200)]
    dense = dense_probe(f[0], y[0], f[1], y[1], f[2], y[2])
    assert dense.chosen.k == 20
    assert dense.auroc().value > sparse_probe(f[0], y[0], f[1], y[1], f[2], y[2], (1,)).auroc().value + 0.1


def test_principal_columns_are_those_of_train():
    t = np.random.default_rng(0).normal(size=50)
    train = np.outer(t, [3.0, 4.0]) + np.array([10.0, -10.0])  # one axis, (0.6, 0.8), with rows 5 t along it
    first, other = principal_columns(train, [[10.0 + 0.6, -10.0 + 0.8]], k=1)
    sign = np.sign(first[0, 0] * (t[0] - t.mean()))  # an axis has two directions
    assert sign * first[:, 0] == pytest.approx(5 * (t - t.mean()))
    assert sign * other[0] == pytest.approx([1 - 5 * t.mean()])
    with pytest.raises(ValueError, match="1 to 2"):
        principal_columns(train, k=3)


def test_classes_are_balanced_by_draw():
    names = ["a"] * 5 + ["b"] * 20 + ["c"] * 3
    rows, truth = balanced_rows(names, "a", np.random.default_rng(0))
    assert truth.sum() == 5
    assert len(rows) == 10 == len(set(rows.tolist()))
    assert [names[row] == "a" for row in rows] == truth.tolist()
    rows, truth = balanced_rows(names, "b", np.random.default_rng(0))  # only 8 others
    assert (len(rows), truth.sum()) == (16, 8)
    with pytest.raises(ValueError, match="'d' against the others: 0 rows"):
        balanced_rows(names, "d", np.random.default_rng(0))


def test_the_digest_says_which_rows_and_labels():
    one = digest_of_items([("train", ["a", "b"], [True, False]), ("test", ["c"], [True])])
    assert one == digest_of_items([("train", ["a", "b"], np.array([True, False])), ("test", ["c"], [True])])
    assert one != digest_of_items([("train", ["a", "b"], [True, False]), ("test", ["c"], [False])])
    assert one != digest_of_items([("train", ["a"], [True]), ("test", ["b", "c"], [False, True])])


@pytest.mark.parametrize("ks", [(), (0,), (6,)])
def test_k_lies_within_the_width(ks):
    with pytest.raises(ValueError, match="1 to 5 columns"):
        probe([1, 0, 0, 0, 0], ks=ks)


def test_splits_have_the_same_columns():
    f, y = features(20, [1, 1], 0), labels(20)
    with pytest.raises(ValueError, match="same columns"):
        sparse_probe(f, y, f[:, :1], y, f, y, (1,))
