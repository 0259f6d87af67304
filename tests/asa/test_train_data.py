"""What is read: windows of a stream, their order, continuation from a state; validation windows; the byte tokenizer."""

import random

import pytest
import torch
from tests.asa.train_setup import VOCAB, text, tiny_model
from torch import nn

from asa.train import Precision, TokenWindows, validate
from asa.training.validation import windows
from asa.utils.device import DeviceError, find_device
from asa.utils.seed import generator_states, generators_kept, seed_generators, set_generator_states
from asa.utils.tokenization import ByteTokenizer, token_stream

pytestmark = pytest.mark.fast


def stream(n=100, batch_size=4, seed=0):
    return TokenWindows(torch.arange(n), seq_len=8, batch_size=batch_size, seed=seed)


def take(source, n_rows):
    found = []
    while len(found) < n_rows:
        found += source.next_batch().ids.tolist()
    return found


def test_an_epoch_predicts_every_token_at_most_once_and_nearly_all():
    source = stream()
    assert source.rows_per_epoch == 11
    rows = take(stream(batch_size=1), 11)
    targets = [i for row in rows for i in row[1:]]
    assert len(targets) == len(set(targets)) == 88
    assert all(row == list(range(row[0], row[0] + 9)) for row in rows)


def test_epochs_differ_in_order_and_offset():
    rows = take(stream(batch_size=1), 33)
    epochs = [rows[:11], rows[11:22], rows[22:]]
    assert len({tuple(map(tuple, epoch)) for epoch in epochs}) == 3
    assert len({epoch[0][0] % 8 for epoch in epochs}) > 1
    assert take(stream(batch_size=1, seed=1), 11) != epochs[0]


def test_row_order_does_not_depend_on_the_batch_size():
    assert take(stream(batch_size=6), 30) == take(stream(batch_size=1), 30)


@pytest.mark.parametrize("n_batches", [1, 4, 9])
def test_a_stream_goes_on_from_its_state(n_batches):
    """Batches of 4 of 11 rows: the state is inside an epoch, and once inside a batch that reached the next."""
    one, other = stream(), stream()
    for _ in range(n_batches):
        one.next_batch()
    other.load_state_dict(one.state_dict())
    assert take(other, 40) == take(one, 40)


@pytest.mark.parametrize("tokens", [torch.zeros(4, 4, dtype=torch.int64), torch.zeros(40), torch.zeros(15, dtype=torch.int64)])  # fmt: skip
def test_tokens_that_make_no_windows(tokens):
    with pytest.raises(ValueError, match="wanted"):
        TokenWindows(tokens, seq_len=8, batch_size=4, seed=0)


@pytest.mark.parametrize("n_tokens", [2, 5, 9, 10, 17, 18, 100])
@pytest.mark.parametrize("stride", [0.25, 0.5, 1.0])
def test_validation_scores_every_token_once(n_tokens, stride):
    scored = []
    for window in windows(n_tokens, 8, stride):
        assert 1 <= window.length <= 8
        targets = range(window.start + 1, window.start + window.length + 1)
        scored += list(targets)[-window.scored :]
    assert scored == list(range(1, n_tokens))


def test_later_windows_score_only_their_new_half():
    found = windows(30, 8, 0.5)
    assert [(w.start, w.scored) for w in found[:3]] == [(0, 8), (4, 4), (8, 4)]


class Uniform(nn.Module):
    def forward(self, ids):
        return torch.zeros(*ids.shape, VOCAB)


def test_validation_of_a_uniform_guess_is_log_of_the_vocabulary():
    found = validate(Uniform(), text(101), seq_len=16, stride_frac=0.5, batch_size=3, max_batches=0, precision=cpu())
    assert found.tokens == 100
    assert found.perplexity == pytest.approx(VOCAB, rel=1e-6)
    assert found.bits_per_byte(200) == pytest.approx(100 * torch.tensor(float(VOCAB)).log2().item() / 200, rel=1e-6)


def test_validation_ends_early_when_asked_and_says_how_much_it_scored():
    found = validate(Uniform(), text(101), seq_len=16, stride_frac=0.5, batch_size=2, max_batches=1, precision=cpu())
    assert found.tokens == 16 + 8


def test_validation_draws_nothing_and_keeps_the_mode():
    model = tiny_model(dropout=0.5).train()
    before = torch.get_rng_state()
    once, again = (
        validate(model, text(60), seq_len=16, stride_frac=0.5, batch_size=2, max_batches=0, precision=cpu()) for _ in range(2)
    )  # fmt: skip
    assert once == again
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_of_one_token_is_an_error():
    with pytest.raises(ValueError, match="at least two tokens"):
        windows(1, 8, 0.5)


def test_bytes_there_and_back():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("Zürich 🎉\n")
    assert max(ids) < 256
    assert tokenizer.decode([*ids, tokenizer.end_id]) == "Zürich 🎉\n"
    assert tokenizer.decode(ids[:2]) == "Z�"
    assert token_stream(["ab", "c"], tokenizer, tokenizer.end_id).tolist() == [97, 98, 256, 99, 256]
    with pytest.raises(ValueError, match="id 257 is no byte"):
        tokenizer.decode([257])


def test_generators_are_given_back():
    import numpy as np

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with generators_kept():
        seed_generators(5)
        first = torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002
        seed_generators(5)
        kept = generator_states()
        second = torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002
        set_generator_states(kept)
        third = torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002
    assert first == second == third
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_a_seed_that_numpy_could_not_take():
    with pytest.raises(ValueError, match="seed -1"):
        seed_generators(-1)


def test_devices_by_name():
    assert find_device("cpu") == torch.device("cpu")
    for name in ("tpu", "nonsense:0", f"cuda:{torch.cuda.device_count()}"):
        with pytest.raises(DeviceError, match="device"):
            find_device(name)


def cpu():
    return Precision("off", torch.device("cpu"))
