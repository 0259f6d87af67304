"""The tables that pictures are drawn from: what is believed, and what is refused with its place."""

import numpy as np
import pandas as pd
import pytest
from tests.figures import examples

from trialplate.figures.style import FigureError
from trialplate.figures.tables import KINDS, at_site, checked, kind_of_name, prefix_of, read, site_kind


def written(tmp_path, frame, name="t_sparsity.csv"):
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_recognised_by_its_name(kind, tmp_path):
    assert kind_of_name(tmp_path / f"20250101-000000_m_{kind}.csv").name == kind


def test_the_longest_name_wins(tmp_path):
    assert kind_of_name(tmp_path / "x_si_units.csv").name == "si_units"
    assert kind_of_name(tmp_path / "x_dynamic_k_speed.csv").name == "dynamic_k_speed"
    assert kind_of_name(tmp_path / "x_other.csv") is None


def test_a_table_of_another_name_is_recognised_by_its_columns(tmp_path):
    kind, rows = read(written(tmp_path, examples.speed(), "results.csv"))
    assert kind.name == "dynamic_k_speed"
    assert len(rows) == 5


def test_numbers_are_read_digit_for_digit(tmp_path):
    table = examples.sparsity()
    table.loc[0, "value"] = 0.1 + 0.2  # 0.30000000000000004
    _, rows = read(written(tmp_path, table))
    assert rows["value"].tolist() == table["value"].tolist()


def test_names_that_look_like_missing_values_stay_names(tmp_path):
    _, rows = read(written(tmp_path, examples.sparsity(tasks=("NA", "null", "1"))))
    assert list(dict.fromkeys(rows["task_id"])) == ["NA", "null", "1"]


def test_an_empty_cell_is_undefined_where_the_kind_allows_it(tmp_path):
    table = examples.sparsity()
    table.loc[1, ["value", "ci_lo", "ci_hi"]] = None
    _, rows = read(written(tmp_path, table))
    assert np.isnan(rows["value"][1])
    table.loc[1, "n_tokens"] = None
    with pytest.raises(FigureError, match=r"row 2: n_tokens is empty"):
        read(written(tmp_path, table, "u_sparsity.csv"))


@pytest.mark.parametrize("poison", ["nan", "inf", "-inf", "much"])
def test_what_is_no_finite_number_is_named_with_its_row(tmp_path, poison):
    table = examples.sparsity().astype({"value": object})
    table.loc[2, "value"] = poison
    with pytest.raises(FigureError, match=rf"t_sparsity.csv, row 3: value must be a finite number.*got '{poison}'"):
        read(written(tmp_path, table))


@pytest.mark.parametrize("change", [{"ci_lo": None}, {"ci_lo": 9.0}])
def test_an_interval_has_two_ends_in_order(change):
    with pytest.raises(FigureError, match="an interval has two ends"):
        checked(examples.sparsity().assign(**change), "sparsity")


def test_missing_columns_are_named_with_those_that_came(tmp_path):
    # the table that an earlier system wrote under this name
    old = pd.DataFrame({"layer": ["model.layers.0.mlp"], "frac": [0.5], "pr": [1e5]})
    with pytest.raises(FigureError) as e:
        read(written(tmp_path, old))
    text = str(e.value)
    assert "t_sparsity.csv is no table of sparsity" in text
    assert "lacks task_id, site, positions" in text
    assert "got layer, frac, pr" in text


def test_a_table_of_no_kind_names_the_nearest(tmp_path):
    with pytest.raises(FigureError, match=r"nearest is 'communities', which also has community"):
        read(written(tmp_path, examples.communities().drop(columns="community"), "x.csv"))


def test_a_header_without_rows_is_no_picture(tmp_path):
    with pytest.raises(FigureError, match="a header and no rows"):
        read(written(tmp_path, examples.sparsity().iloc[:0]))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00a,b\n"])
def test_what_is_no_table_is_said(tmp_path, content):
    path = tmp_path / "x_sparsity.csv"
    path.write_bytes(content)
    with pytest.raises(FigureError, match="is not a CSV table"):
        read(path)


def test_tables_of_one_measurement_share_their_beginning(tmp_path):
    assert prefix_of(tmp_path / "a_m_edges.csv", KINDS["edges"]) == "a_m"
    assert prefix_of(tmp_path / "edges.csv", KINDS["edges"]) == ""


@pytest.mark.parametrize(
    ("site", "kind"), [("L3.mlp_act", "mlp_act"), ("mlp_act", "mlp_act"), ("model.norm.output", "model.norm.output")]
)
def test_the_kind_of_a_site_is_its_name_without_the_layer(site, kind):
    assert site_kind(site) == kind


def test_sites_without_a_layer_are_not_in_pictures_by_layer():
    table = examples.sparsity()
    table["layer"] = table["layer"].astype(object)
    table.loc[0, ["layer", "site"]] = [None, "hook_embed"]
    rows = at_site(checked(table, "sparsity"), None)
    assert len(rows) == 5
    assert rows["layer"].dtype.kind == "i"
