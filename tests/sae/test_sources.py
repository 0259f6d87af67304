"""Rows are the rows that were meant, whatever they lie in; every order has each of them once an epoch; nothing that is held out is trained on."""

import numpy as np
import pytest
import torch
from tests.activations.families import ids, tiny

from trialplate.activations.capture import captured, collect, plan_for
from trialplate.activations.errors import StoreError
from trialplate.activations.shards import open_store, writing
from trialplate.activations.sites import choose
from trialplate.sae.errors import TrainingError
from trialplate.sae.order import Order
from trialplate.sae.source import from_model, from_store, from_tensor, shares_rows, split, spread_rows

TEXTS = [ids(1, n, seed=n)[0].tolist() for n in range(3, 20)]
SITES = ("L0.mlp_act", "L2.resid_post")


@pytest.fixture(scope="module")
def model():
    return tiny("gpt2")


@pytest.fixture
def store(model, tmp_path):
    def write(dtype="float32"):
        points, plan = choose(model, SITES), plan_for(model, {"texts": TEXTS})
        with writing(tmp_path / dtype, plan, {"model": "tiny"}, dtype=dtype, seed=4, shard_bytes=1500) as writer:
            collect(model, plan, points, {("texts", p.name): [writer.collector(p.name, "texts")] for p in points})
        return open_store(tmp_path / dtype)

    return write


def everything(source):
    return source.rows(torch.arange(source.n_rows))


# --- where rows lie -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_of_a_store_by_number_are_its_rows(store, dtype):
    found = store(dtype)
    source = from_store(found, *SITES)
    assert len(found.manifest["sites"][SITES[0]]["shards"]) > 2
    pick = torch.tensor([found.n_rows - 1, 0, 7, 7, 60, 3])
    x, y = source.rows(pick)
    assert x.dtype == torch.float32
    assert torch.equal(x, found.rows(SITES[0])[pick])
    assert torch.equal(y, found.rows(SITES[1])[pick])
    assert (source.d_in, source.d_out, source.is_paired) == (x.shape[1], y.shape[1], True)
    assert source.documents.tolist() == found.tokens()["document"].tolist()


def test_a_model_gives_the_rows_of_a_store_of_the_same_seed(model, store):
    stored, direct = from_store(store(), *SITES), from_model(model, TEXTS, *SITES, seed=4)
    for one, other in zip(everything(stored), everything(direct), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(stored.documents, direct.documents)
    some = from_model(model, TEXTS, *SITES, seed=4, max_rows=20)
    assert torch.equal(everything(some)[0], everything(direct)[0][:20])
    assert some.about["weights"] == model.weights_digest


def test_inputs_and_targets_are_of_the_same_tokens(model):
    source = from_model(model, TEXTS[:3], *SITES)
    x, y = everything(source)
    there = [captured(model, torch.tensor([text]), choose(model, SITES)) for text in TEXTS[:3]]
    values = [torch.cat([found[site][0] for found in there]) for site in SITES]
    for row in range(source.n_rows):
        at = (values[0] - x[row]).abs().sum(1).argmin()
        torch.testing.assert_close(values[1][at], y[row], rtol=1e-5, atol=1e-6)


def test_an_autoencoder_has_one_tensor_for_both_sides(model):
    source = from_model(model, TEXTS[:2], SITES[0])
    x, y = everything(source)
    assert y is x
    assert not source.is_paired


def test_ids_to_skip_give_no_rows(model):
    token = TEXTS[0][0]
    whole, some = from_model(model, TEXTS[:4], SITES[0]), from_model(model, TEXTS[:4], SITES[0], skip=[token])
    assert some.n_rows == whole.n_rows - sum(t == token for text in TEXTS[:4] for t in text)


def test_the_digest_names_the_numbers():
    x = torch.arange(12.0).reshape(4, 3)
    one = from_tensor(x, name="a").digest
    assert from_tensor(x.clone(), name="b").digest == one
    assert from_tensor(x + 1, name="a").digest != one
    assert from_tensor(x.reshape(3, 4), name="a").digest != one
    assert from_tensor(x, x, name="a").digest != one


def test_a_site_that_is_not_there(store):
    with pytest.raises(StoreError, match=r"no rows of 'L9.mlp_act'"):
        from_store(store(), "L9.mlp_act")


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(0, 3), None, "something in them"),
        (torch.zeros(3), None, "something in them"),
        (torch.tensor([[1.0, float("nan")]]), None, "finite"),
        (torch.zeros(3, 2), torch.zeros(2, 2), "3 and 2 rows"),
    ],
)
def test_tensors_that_are_no_rows(x, y, said):
    with pytest.raises(TrainingError, match=said):
        from_tensor(x, y, name="bad")


# --- what is held out ---------------------------------------------------------------------------------------------------


def numbered(n, documents=None):
    return from_tensor(torch.arange(float(n)).unsqueeze(1), name="numbers", documents=documents)


def test_every_row_is_on_one_side():
    train, out = split(numbered(50), 0.2, seed=1)
    assert sorted([*everything(train)[0].flatten().tolist(), *everything(out)[0].flatten().tolist()]) == list(range(50))
    assert (train.n_rows, out.n_rows) == (40, 10)
    again, other = split(numbered(50), 0.2, seed=1)[1], split(numbered(50), 0.2, seed=2)[1]
    assert again.digest == out.digest
    assert other.digest != out.digest


def test_no_document_is_on_both_sides():
    """Rows of one text resemble each other: split by row, a coder would be judged on texts that it was trained on."""
    documents = torch.arange(60) % 7
    train, out = split(numbered(60, documents), 0.25, seed=0)
    assert not set(train.documents.tolist()) & set(out.documents.tolist())
    assert 60 * 0.25 <= out.n_rows < 60 * 0.25 + 9 + 1


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(TrainingError, match="1 documents cannot be split"):
        split(numbered(10, torch.zeros(10, dtype=torch.long)), 0.2, seed=0)
    with pytest.raises(TrainingError, match="between 0 and 1"):
        split(numbered(10), 1.0, seed=0)


def test_rows_in_common_are_seen():
    whole = numbered(20)
    train, out = split(whole, 0.3, seed=0)
    part, rest = split(train, 0.5, seed=0)
    assert not shares_rows(train, out)
    assert not shares_rows(part, rest)
    assert shares_rows(whole, out)
    assert shares_rows(train, split(whole, 0.3, seed=1)[1])
    assert shares_rows(train, part)
    assert not shares_rows(whole, numbered(21))


# --- the order of rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "block", "window"), [(100, 8, 3), (7, 8, 3), (97, 1, 1), (64, 64, 1)])
def test_every_epoch_has_every_row_once_and_an_order_of_its_own(n, block, window):
    order = Order(n, seed=3, block=block, window=window)
    rows = torch.cat([order.batch(i, 5) for i in range(2 * n)])
    epochs = rows[: 10 * n].reshape(10, n)
    assert all(epoch.sort().values.tolist() == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 10


def test_an_order_has_no_state():
    one, other = Order(40, seed=1), Order(40, seed=1)
    ahead = [other.batch(i, 16) for i in (9, 2, 5)]
    assert torch.equal(ahead[0], one.batch(9, 16))
    assert torch.equal(ahead[1], one.batch(2, 16))
    assert not torch.equal(one.batch(0, 16), Order(40, seed=2).batch(0, 16))


def test_few_rows_are_in_uniformly_random_order():
    """Every row comes first about equally often: chi-squared over 8 rows and 2,000 orders stays below its 99.9 % point, 24.3 for 7 degrees."""
    first = np.bincount([int(Order(8, seed=s).batch(0, 1)) for s in range(2000)], minlength=8)
    assert ((first - 250) ** 2 / 250).sum() < 24.3


def test_what_is_read_together_lies_together():
    rows = Order(64 * 100, seed=0, block=64, window=4).batch(0, 256)
    assert len(set((rows // 64).tolist())) == 4


def test_spread_rows_reach_over_all():
    assert spread_rows(numbered(10), 4).tolist() == [0, 2, 5, 7]
    assert spread_rows(numbered(3), 9).tolist() == [0, 1, 2]
