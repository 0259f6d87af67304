"""Rows on disk are the rows of the model, each once, in an order that only the seed decides; the folder is whole or not there."""

import json

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny

from trialplate.activations.capture import captured, collect, plan_for
from trialplate.activations.errors import StoreError
from trialplate.activations.shards import open_store, writing
from trialplate.activations.sites import choose

TEXTS = {"a": [ids(1, n, seed=n)[0].tolist() for n in range(3, 20)], "b": [ids(1, 6, seed=99)[0].tolist()] * 2}


@pytest.fixture(scope="module")
def model():
    return tiny("gpt2")


def write(model, folder, names=("L0.mlp_act", "L2.resid_post"), positions=64, **settings):
    points, plan = choose(model, names), plan_for(model, TEXTS, positions=positions)
    with writing(folder, plan, {"model": model.label}, **settings) as writer:
        collect(model, plan, points, {(t, p.name): [writer.collector(p.name, t)] for t in TEXTS for p in points})
    return open_store(folder, verify=True)


def test_every_token_is_a_row_that_the_sidecar_names(model, tmp_path):
    store = write(model, tmp_path / "rows")
    about = store.tokens()
    assert store.n_rows == len(about) == sum(len(t) for texts in TEXTS.values() for t in texts)
    assert sorted(about["row"]) == list(range(store.n_rows))
    documents = [text for texts in TEXTS.values() for text in texts]
    points = choose(model, store.sites)
    for row in about.itertuples():
        text = documents[row.document]
        assert row.token == text[row.position]
        assert row.task == ("a" if row.document < 17 else "b")
    for row in about.sample(12, random_state=0).itertuples():
        alone = captured(model, torch.tensor([documents[row.document]]), points)
        for site in store.sites:
            torch.testing.assert_close(
                store.rows(site, row.row, row.row + 1)[0], alone[site][0, row.position], rtol=1e-5, atol=1e-6
            )


def test_order_is_random_and_depends_on_the_seed_only(model, tmp_path):
    one, cut, other = (
        write(model, tmp_path / str(i), positions=p, seed=s) for i, (p, s) in enumerate([(64, 1), (20, 1), (64, 2)])
    )
    assert one.tokens()[["document", "position"]].equals(cut.tokens()[["document", "position"]])
    assert not one.tokens()["document"].equals(other.tokens()["document"])
    assert not one.tokens()["document"].is_monotonic_increasing
    torch.testing.assert_close(one.rows("L0.mlp_act"), cut.rows("L0.mlp_act"), rtol=1e-5, atol=1e-6)


def test_a_sample_is_the_beginning_of_the_whole(model, tmp_path):
    whole, some = write(model, tmp_path / "whole"), write(model, tmp_path / "some", max_rows=30)
    assert some.n_rows == 30
    assert some.tokens()["token"].tolist() == whole.tokens()["token"].tolist()[:30]
    assert torch.equal(some.rows("L0.mlp_act"), whole.rows("L0.mlp_act", 0, 30))


def test_several_shards_read_as_one(model, tmp_path):
    one, many = write(model, tmp_path / "one"), write(model, tmp_path / "many", shard_bytes=128 * 4 * 10)
    shards = many.manifest["sites"]["L0.mlp_act"]["shards"]
    assert len(shards) == -(-many.n_rows // 10)
    assert torch.equal(one.rows("L0.mlp_act"), many.rows("L0.mlp_act"))
    assert torch.equal(one.rows("L0.mlp_act", 7, 33), many.rows("L0.mlp_act", 7, 33))


def test_bfloat16_takes_half_the_room_and_rounds(model, tmp_path):
    full, half = write(model, tmp_path / "full"), write(model, tmp_path / "half", dtype="bfloat16")
    assert torch.equal(half.rows("L0.mlp_act"), full.rows("L0.mlp_act").bfloat16().float())
    sizes = [(s.folder / "L0.mlp_act" / "00000.npy").stat().st_size for s in (full, half)]
    assert sizes[0] - 128 == 2 * (sizes[1] - 128)


def test_a_pass_that_fails_leaves_nothing(model, tmp_path):
    plan, points = plan_for(model, TEXTS), choose(model, ["L0.mlp_act"])
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "rows", plan, {}) as writer:
        collect(model, plan, points, {("a", "L0.mlp_act"): [writer.collector("L0.mlp_act", "a")]})
        raise ZeroDivisionError
    with (
        pytest.raises(StoreError, match=r"12 of 199 rows of L0\.mlp_act were never written"),
        writing(tmp_path / "rows", plan, {}) as writer,
    ):
        collect(model, plan, points, {("a", "L0.mlp_act"): [writer.collector("L0.mlp_act", "a")]})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_never_written_to(model, tmp_path):
    with pytest.raises(StoreError, match="exists; rows are never added"):
        write(model, tmp_path)


def test_a_changed_byte_is_found(model, tmp_path):
    store = write(model, tmp_path / "rows")
    file = store.folder / "L0.mlp_act" / "00000.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    open_store(store.folder)
    with pytest.raises(StoreError, match="is not what was written"):
        open_store(store.folder, verify=True)
    file.unlink()
    with pytest.raises(StoreError, match=r"00000\.npy is in the manifest and not in the folder"):
        open_store(store.folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda m: m.update(schema="trialplate-activations/9"),
            "wanted schema trialplate-activations/1, got 'trialplate-activations/9'",
        ),
        (lambda m: m.update(extra=1), "missing or unknown keys: extra"),
        (lambda m: m.pop("seed"), "missing or unknown keys: seed"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(model, tmp_path, change, says):
    store = write(model, tmp_path / "rows")
    content = json.loads((store.folder / "manifest.json").read_text())
    change(content)
    (store.folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=says):
        open_store(store.folder)


def test_what_is_not_there_is_named(model, tmp_path):
    store = write(model, tmp_path / "rows")
    with pytest.raises(StoreError, match=r"no rows of 'L1\.mlp_act'; it has L0\.mlp_act, L2\.resid_post"):
        store.rows("L1.mlp_act")
    with pytest.raises(StoreError, match="no rows 500 to 199"):
        store.rows("L0.mlp_act", 500)
    assert open_store(str(tmp_path)).sites == store.sites  # the folder of a capture holds them as rows
    with pytest.raises(StoreError, match="is no folder of rows"):
        open_store(tmp_path / "rows" / "L0.mlp_act")
    with pytest.raises(StoreError, match="wanted dtype float32 or bfloat16"):
        write(model, tmp_path / "other", dtype="float64")


def test_shapes_are_those_of_the_manifest(model, tmp_path):
    store = write(model, tmp_path / "rows")
    np.save(store.folder / "L0.mlp_act" / "00000.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(StoreError, match=r"wanted \[199, 128\], got \[2, 2\]"):
        store.rows("L0.mlp_act")


def test_a_site_that_lacks_the_rows_of_a_task_is_not_published(model, tmp_path):
    points, plan = choose(model, ["L0.mlp_act", "L2.resid_post"]), plan_for(model, TEXTS)
    with (
        pytest.raises(StoreError, match=r"12 of 199 rows of L2\.resid_post were never written"),
        writing(tmp_path / "rows", plan, {}) as writer,
    ):
        table = {(t, "L0.mlp_act"): [writer.collector("L0.mlp_act", t)] for t in TEXTS}
        table["a", "L2.resid_post"] = [writer.collector("L2.resid_post", "a")]
        collect(model, plan, points, table)
    with pytest.raises(StoreError, match="no site was written"), writing(tmp_path / "rows", plan, {}):
        pass
    assert list(tmp_path.iterdir()) == []
