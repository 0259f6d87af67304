"""The cache: hits, who shares an entry (nobody but the same model), damaged and foreign files, several processes."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import astuple, is_dataclass

import pytest
import torch

from trialplate.scoring import CacheError, ResponseCache, Scorer, identity
from trialplate.scoring.cache import answer_key

PAIRS = [("on the hill", " and a"), ("on the hill", " P"), ("a", "b"), ("a", "b")]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "made" / "answers.sqlite"


@pytest.fixture
def model(build):
    """A model of its own, to be changed."""
    return build("gpt_neox", seed=1)


def assert_close(a, b):
    """Equal up to the rounding that other company in a batch brings."""
    if isinstance(a, float):
        assert a == pytest.approx(b, abs=1e-4)
    elif isinstance(a, (list, tuple)):
        for x, y in zip(a, b, strict=True):
            assert_close(x, y)
    elif is_dataclass(a):
        assert_close(astuple(a), astuple(b))
    else:
        assert a == b


def ask_everything(scorer):
    """One request of every kind, in plain data."""
    return [
        scorer.loglikelihood(PAIRS),
        scorer.rolling(["on the hill and in the sand, on the hill"]),
        scorer.multiple_choice([("a", ["b", "cd"])]),
        [(s.logprobs.tolist(), s.is_argmax.tolist()) for s in scorer.token_logprobs([[1, 2, 3], [4], [1, 2, 3]])],
        scorer.next_token_logprobs(["a", "on"], candidates=[1, 2]).tolist(),
        scorer.next_token_logits(["a", "on"], candidates=[1, 2]).tolist(),
        scorer.generate(["a", "on"], max_new_tokens=3, stop=["\n"]),
    ]


def test_second_asking_computes_nothing_and_answers_the_same(neox, file, monkeypatch):
    first = Scorer(neox, cache=ResponseCache(file))
    answers = ask_everything(first)
    assert first.cache_hits == 1  # ("a", "b") is asked again as a choice
    second = Scorer(neox, cache=ResponseCache(file))
    monkeypatch.setattr(type(neox), "hidden", lambda *args: pytest.fail("computed"))
    monkeypatch.setattr(type(neox), "start", lambda *args: pytest.fail("computed"))
    assert ask_everything(second) == answers
    assert (second.cache_hits, second.cache_misses) == (first.cache_misses + 1, 0)


def test_cached_answers_equal_computed_ones(neox, file):
    cache = ResponseCache(file)
    ask_everything(Scorer(neox, cache=cache))
    assert_close(ask_everything(Scorer(neox, cache=cache)), ask_everything(Scorer(neox)))


def test_only_what_is_missing_is_computed(neox, file):
    seen = []
    cache = ResponseCache(file)
    Scorer(neox, cache=cache).loglikelihood(PAIRS[:1])
    scorer = Scorer(neox, cache=cache, progress=lambda done, total: seen.append((done, total)))
    scorer.loglikelihood(PAIRS)
    assert (scorer.cache_hits, scorer.cache_misses) == (1, 3)
    assert (seen[0], seen[-1]) == ((1, 4), (4, 4))
    assert len(cache) == 3  # a question asked twice is kept once


def test_two_models_never_share_an_entry(build, file):
    cache = ResponseCache(file)
    for model in (build("gpt_neox", seed=1), build("gpt_neox", seed=2), build("gpt2", seed=1)):
        scorer = Scorer(model, cache=cache)
        assert_close(ask_everything(scorer), ask_everything(Scorer(model)))
        assert scorer.cache_hits == 1


def test_a_weight_changed_in_place_is_another_model(model, file):
    cache = ResponseCache(file)
    Scorer(model, cache=cache).loglikelihood(PAIRS)
    before = model.weights_digest
    # Through .data no version counter of torch sees the change, and the digest of stored weights is remembered.
    next(iter(model.module.parameters())).data[3, 4] += 0.5
    scorer = Scorer(model, cache=cache)
    assert scorer.loglikelihood(PAIRS) == Scorer(model).loglikelihood(PAIRS)
    assert scorer.cache_hits == 0
    assert model.weights_digest == before


def test_the_same_weights_under_another_configuration_are_another_model(build, file):
    cache = ResponseCache(file)
    plain, changed = build("gpt_neox", seed=1), build("gpt_neox", seed=1, use_parallel_residual=False)
    assert plain.weights_digest == changed.weights_digest
    Scorer(plain, cache=cache).loglikelihood(PAIRS)
    scorer = Scorer(changed, cache=cache)
    assert scorer.loglikelihood(PAIRS) == Scorer(changed).loglikelihood(PAIRS)
    assert scorer.cache_hits == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "dtype", torch.bfloat16),
        lambda m: setattr(m, "max_length", 20),
        lambda m: setattr(m, "device", torch.device("meta")),
        lambda m: setattr(m, "weights_digest", "other"),
        lambda m: setattr(m, "config_digest", "other"),
        lambda m: setattr(m.tokenizer, "digest", "other"),
        lambda m: setattr(m, "prefix_id", 3),
    ],
    ids=["dtype", "window", "device", "weights", "config", "tokenizer", "prefix"],
)
def test_everything_that_decides_an_answer_is_in_the_key(make_table, change):
    model = make_table(torch.zeros(9, 9))
    model.tokenizer = type("Own", (type(model.tokenizer),), {})()
    before = identity.responder(model)
    assert identity.responder(model) == before
    change(model)
    assert identity.responder(model) != before


def test_code_of_scoring_is_in_the_key(make_table, monkeypatch):
    model = make_table(torch.zeros(9, 9))
    before = identity.responder(model)
    monkeypatch.setattr(identity, "SCORING_VERSION", identity.SCORING_VERSION + 1)
    identity.code_digest.cache_clear()
    try:
        assert identity.responder(model) != before
    finally:
        identity.code_digest.cache_clear()


def test_a_model_with_a_hook_is_never_cached(model, file):
    cache = ResponseCache(file)
    Scorer(model, cache=cache).loglikelihood(PAIRS)
    handle = model.module.base_model.layers[0].register_forward_hook(lambda module, inputs, output: output)
    scorer = Scorer(model, cache=cache)
    scorer.loglikelihood(PAIRS)
    assert scorer.cache_hits == scorer.cache_misses == 0
    handle.remove()
    model.module.base_model.layers[0].forward = model.module.base_model.layers[0].forward
    assert identity.responder(model) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 1000])
def test_checksum_sees_any_single_change_and_any_exchange(dtype, n):
    tensor = (torch.arange(n) % 7 > 2).to(dtype) if dtype == torch.bool else torch.arange(n).to(dtype)
    before = identity.checksum(tensor)
    assert identity.checksum(tensor.clone()) == before
    for k in range(0, n, 97):
        changed = tensor.clone()
        changed[k] = ~changed[k] if dtype == torch.bool else changed[k] + 100
        assert identity.checksum(changed) != before
    if n == 1000 and dtype != torch.bool:
        exchanged = tensor.clone()
        exchanged[[3, 900]] = exchanged[[900, 3]]
        assert identity.checksum(exchanged) != before


def test_checksum_spans_chunks_and_odd_offsets(monkeypatch):
    tensor = torch.arange(10_000, dtype=torch.float32)
    whole = identity.checksum(tensor)
    monkeypatch.setattr(identity, "_CHUNK", 64)
    exchanged = tensor.clone()
    exchanged[[0, 6000]] = exchanged[[6000, 0]]
    assert identity.checksum(exchanged) != identity.checksum(tensor)
    assert identity.checksum(tensor) != whole  # the chunk is part of the rule, and the rule is part of the code digest
    assert identity.checksum(tensor[1:9]) == identity.checksum(tensor[1:9].clone())


def test_keys_do_not_run_together():
    assert answer_key("ab", "c", b"d") != answer_key("a", "bc", b"d") != answer_key("a", "b", b"cd")


def test_a_file_that_is_no_database_is_an_error(file):
    file.parent.mkdir()
    file.write_text("not a database, and long enough to be looked at " * 50)
    with pytest.raises(
        CacheError,
        match=r"answers\.sqlite cannot be opened as a cache \(file is not a database\).*Delete it, or name another",
    ):
        ResponseCache(file)
    assert file.read_text().startswith("not a database")


def test_a_database_of_another_program_is_an_error(file):
    file.parent.mkdir()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE answer (key, value, checksum)")
    other.close()
    with pytest.raises(CacheError, match="is an SQLite file of another program"):
        ResponseCache(file)


def test_another_schema_is_an_error(file):
    ResponseCache(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CacheError, match="has schema 99, this release reads and writes schema 1"):
        ResponseCache(file)


def test_a_path_that_cannot_be_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be opened as a cache"):
        ResponseCache(tmp_path / "file" / "answers.sqlite")


def test_an_altered_entry_is_an_error_and_not_an_answer(neox, file):
    Scorer(neox, cache=ResponseCache(file)).loglikelihood(PAIRS)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE answer SET value = zeroblob(9)")
    connection.close()
    with pytest.raises(CacheError, match="holds an entry that was changed after it was written"):
        Scorer(neox, cache=ResponseCache(file)).loglikelihood(PAIRS)


def test_a_damaged_file_is_an_error(neox, file):
    cache = ResponseCache(file)
    cache.store({os.urandom(32): os.urandom(500) for _ in range(200)})
    cache.close()
    content = bytearray(file.read_bytes())
    content[4096:-4096] = b"\xff" * (len(content) - 8192)
    file.write_bytes(content)
    with pytest.raises(CacheError, match=r"malformed|not a database|wanted a file"):
        Scorer(neox, cache=ResponseCache(file)).loglikelihood(PAIRS)


WORKER = """
import sys, time
from pathlib import Path
from trialplate.scoring.cache import ResponseCache, answer_key

path, worker = Path(sys.argv[1]), int(sys.argv[2])
path.with_suffix(f".ready{worker}").touch()
while len(list(path.parent.glob("*.ready*"))) < 3:
    time.sleep(0.001)
cache = ResponseCache(path)
for k in range(40):
    own, common = answer_key(str(worker), "k", bytes([k])), answer_key("all", "k", bytes([k]))
    cache.store({own: bytes([worker, k]), common: b"same"})
assert "torch" not in sys.modules
"""


def test_processes_share_a_file(file):
    file.parent.mkdir()
    commands = [[sys.executable, "-c", WORKER, str(file), str(worker)] for worker in range(3)]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    cache = ResponseCache(file)
    assert len(cache) == 4 * 40
    key = answer_key("2", "k", bytes([7]))
    assert cache.lookup([key]) == {key: bytes([2, 7])}


def test_a_forked_child_opens_its_own_connection(file, monkeypatch):
    import trialplate.scoring.cache as module

    cache = ResponseCache(file)
    cache.store({b"k": b"parent"})
    of_parent = cache._connection
    parent = os.getpid()
    with monkeypatch.context() as child:
        child.setattr(module.os, "getpid", lambda: parent + 1)
        assert cache.lookup([b"k"]) == {b"k": b"parent"}
        assert cache._connection is not of_parent
        cache.close()
    assert of_parent.execute("SELECT count(*) FROM answer").fetchone() == (1,)  # still open


def test_switching_to_write_ahead_waits_for_others(monkeypatch):
    import trialplate.scoring.cache as module

    class Locked:
        tries = 0

        def execute(self, statement):
            self.tries += 1
            if self.tries < 3:
                raise sqlite3.OperationalError("database is locked")

    connection = Locked()
    module._write_ahead(connection)
    assert connection.tries == 3
    monkeypatch.setattr(module, "_WAIT_SECONDS", -1.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        module._write_ahead(Locked())


def test_the_package_names_what_it_has_and_what_it_lacks():
    import trialplate.scoring as package

    assert all(getattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Scorers'"):
        _ = package.Scorers


def test_an_answer_that_is_there_stays(file):
    cache = ResponseCache(file)
    cache.store({b"k": b"first"})
    cache.store({b"k": b"second"})
    cache.store({})
    assert cache.lookup([b"k", b"other"]) == {b"k": b"first"}
    cache.close()
    assert cache.lookup([b"k"]) == {b"k": b"first"}
