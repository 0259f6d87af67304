"""A study's folder appears whole, says what it is, and is never written over another."""

import json
import re

import pandas as pd
import pytest

from trialplate.activations.artifacts import study_folder
from trialplate.activations.errors import StoreError


def test_it_appears_whole_under_a_name_of_its_own(tmp_path):
    with study_folder(tmp_path, "embedded:neox-tiny", "sparsity") as folder:
        file = folder.table("sparsity", pd.DataFrame({"a": [1.5, None]}), "domain code")
        folder.meta({"seed": 3})
        assert list(tmp_path.glob("[!.]*")) == []  # nothing to see yet
    (made,) = tmp_path.iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}-sparsity", made.name)
    assert re.fullmatch(r"\d{8}-\d{6}_embedded-neox-tiny_domain-code_sparsity\.csv", file.name)
    assert pd.read_csv(made / file.name, skip_blank_lines=False)["a"].isna().tolist() == [False, True]
    meta = json.loads((made / "meta.json").read_text())
    assert meta["seed"] == 3
    assert meta["schema"] == "trialplate-study/1"
    assert {"torch", "numpy"} <= set(meta["environment"]["packages"])


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), study_folder(tmp_path, "m", "x") as folder:
        folder.meta({})
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_not_meet(tmp_path):
    with study_folder(tmp_path, "m", "x") as one, study_folder(tmp_path, "m", "x") as two:
        one.meta({})
        two.meta({})
    assert len(list(tmp_path.iterdir())) == 2


def test_a_table_is_not_written_twice(tmp_path):
    with pytest.raises(FileExistsError), study_folder(tmp_path, "m", "x") as folder:
        folder.table("t", pd.DataFrame({"a": [1]}))
        folder.table("t", pd.DataFrame({"a": [2]}))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"no folder can be made under .*file"),
        study_folder(tmp_path / "file", "m", "x"),
    ):
        pass
