"""Co-activation: matrices are ordered by community, and Q is never without its null."""

import numpy as np
import pytest
from tests.figures.examples import communities, edges, lines, modularity, nulls, words

from trialplate.figures.coactivation import _binned, coactivation, modularity_layers, modularity_runs
from trialplate.figures.style import FigureError


def test_units_are_ordered_by_community_largest_first():
    # community 0 has units 1, 2 and 3; community 1 has unit 0; unit 4 is outside. Places: 1 -> 0, 2 -> 1, 3 -> 2, 0 -> 3
    picture = coactivation(edges(), communities())
    (image,) = picture.figure.axes[0].images
    expected = np.zeros((4, 4))
    for a, b, weight in ((0, 1, 5.0), (1, 2, 7.0), (3, 0, 2.0)):
        expected[a, b] = expected[b, a] = weight
    np.testing.assert_array_equal(image.get_array().filled(0.0), expected)
    cells = picture.table.set_index(["row_unit", "column_unit"])["value"]
    assert cells.to_dict() == {(0, 1): 5.0, (1, 2): 7.0, (0, 3): 2.0}
    assert "L0: 4 units, 2 communities" in words(picture.figure)


def test_many_units_are_drawn_in_blocks_of_mean_weight(monkeypatch):
    monkeypatch.setattr("trialplate.figures.coactivation.MOST_CELLS", 2)
    cells, block = _binned(np.array([0, 1, 0]), np.array([1, 2, 3]), np.array([6.0, 4.0, 8.0]), 4)
    # blocks {0, 1} and {2, 3}: one pair of 6 inside the first, none inside the second, 4 + 8 over four pairs across
    assert block == 2
    np.testing.assert_allclose(cells, [[6.0, 3.0], [3.0, 0.0]])


def test_a_last_block_that_is_not_full_has_fewer_pairs(monkeypatch):
    monkeypatch.setattr("trialplate.figures.coactivation.MOST_CELLS", 2)
    cells, _ = _binned(np.array([0]), np.array([2]), np.array([6.0]), 3)
    # units 0 and 1 against unit 2 alone: two pairs; a block of one unit has no pair inside
    np.testing.assert_allclose(cells, [[0.0, 3.0], [3.0, 0.0]])


def test_q_stands_beside_the_draws_of_its_null():
    picture = coactivation(edges(), communities(), modularity(), nulls())
    table = picture.table
    assert table[table["part"] == "rewired"]["value"].tolist() == pytest.approx([0.1, 0.11, 0.12] * 2)
    assert table[table["part"] == "q"]["value"].tolist() == [0.5, 0.9]
    text = words(picture.figure)
    assert "edges rewired, degrees kept (6 edges)" in text
    assert "firing shifted within texts (2 edges)" in text


def test_a_table_that_holds_only_the_strongest_edges_is_said():
    # the graph of layer 0 had 6 edges, the table has 3
    assert "the 3 edges of highest weight of each layer" in words(
        coactivation(edges(), communities(), modularity()).figure
    )


def test_an_undefined_q_is_hollow_and_has_no_z():
    picture = modularity_layers(modularity(), nulls())
    (axes,) = picture.figure.axes
    faces = [x.get_markerfacecolor() for x in axes.get_lines() if x.get_marker() == "D" and len(x.get_xdata())]
    assert faces == ["#D55E00", "white"]
    assert picture.table[picture.table["part"] == "q_z"]["value"].tolist() == [40.0]
    assert "hollow: Q undefined, too few edges (1 layer)" in words(picture.figure)


def test_without_draws_the_mean_of_the_null_is_drawn():
    picture = modularity_layers(modularity())
    assert picture.table[picture.table["part"] == "null mean"]["value"].tolist() == [0.1, 0.1]
    assert "mean of the null" in words(picture.figure)


def test_null_draws_that_are_all_alike_are_a_dash():
    picture = modularity_layers(modularity(), nulls().assign(q=0.3))
    assert len(picture.table[picture.table["part"] == "rewired"]) == 6
    assert picture.png().startswith(b"\x89PNG")


def test_runs_are_compared_by_z_first():
    picture = modularity_runs({"a": modularity(), "b": modularity(q=(0.6, 0.7), defined=(1, 1))})
    first = next(a for a in picture.figure.axes if a.get_lines())
    assert "beyond its null" in first.get_title(loc="left")
    assert set(lines(first)) == {"a", "b"}


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda: coactivation(edges(pairs=((0, 4, 1.0),)), communities()), "unit 4 has an edge and no community"),
        (lambda: modularity_layers(modularity().assign(metric="z")), "no metric q, only z"),
        (lambda: modularity_layers(modularity(), nulls().assign(kind="dreamt")), "unknown kind of null graph dreamt"),
        (lambda: coactivation(edges().iloc[:0], communities()), "no rows"),
    ],
)
def test_errors_say_what_was_wanted(make, words_):
    with pytest.raises(FigureError, match=words_):
        make()


def test_partitions_by_two_algorithms_are_not_mixed():
    table = modularity()
    table.loc[0, "algorithm"] = "leiden"
    with pytest.raises(FigureError, match="one algorithm at a time"):
        modularity_layers(table)
