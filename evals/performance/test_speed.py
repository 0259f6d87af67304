"""What the model costs: throughput, load time, memory. Measured with pytest-benchmark, recorded, and judged by nobody by default.

Not collected under xdist or --benchmark-disable: shared cores time nothing. One thread on the CPU. Budget: 15 CPU seconds.
"""

import resource
import sys

import pytest
import torch


@pytest.fixture
def ids(model, rng):
    """[8, 64] random tokens."""
    rows = min(model.vocab_rows, model.tokenizer.vocab_size)
    return torch.from_numpy(rng.integers(0, rows, (8, min(64, model.max_length)))).to(model.device)


@pytest.fixture
def timed(benchmark, model):
    """timed(f): median wall seconds of f, the device waited for."""

    def run(f):
        def waited():
            f()
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)

        benchmark.pedantic(waited, rounds=5, iterations=1, warmup_rounds=1)
        return benchmark.stats.stats.median

    return run


def test_forward(model, ids, timed, record):
    """Tokens a second of a full forward pass, head included."""
    record("tokens_per_second", ids.numel() / timed(lambda: model.logits(ids)), n=5, of="forward")
    assert ids.numel() > 0


def test_scoring(scorer, timed, record):
    """Tokens a second of log-likelihoods of short continuations, tokenising included."""
    pairs = [(f"The river {i} runs to the", " sea in the north") for i in range(64)]
    n_tokens = sum(len(scorer.model.tokenizer.encode(c + t)) for c, t in pairs)
    record("tokens_per_second", n_tokens / timed(lambda: scorer.loglikelihood(pairs)), n=5, of="scoring")
    assert n_tokens > len(pairs)


def test_decoding(model, ids, timed, record):
    """New tokens a second of greedy decoding through the cache: 16 tokens behind each of eight prompts, whatever they say."""
    prompts, n_new = ids[:, :8], 16

    def decode():
        logits, state = model.start(prompts)
        for _ in range(n_new - 1):
            logits, state = model.step(state, logits.argmax(-1, keepdim=True))

    record("tokens_per_second", len(prompts) * n_new / timed(decode), n=5, of="decoding")
    assert prompts.shape[1] + n_new <= model.max_length


def test_load(benchmark, subject, model, record, request):
    """Seconds to load the model again, imports paid already."""
    from trialplate.plugin.loading import load

    benchmark.pedantic(load, (request.config, subject), rounds=3, iterations=1)
    record("seconds", benchmark.stats.stats.median, n=3, of="load")
    assert model.n_parameters > 0


def test_peak_memory(benchmark, model, ids, record):
    """Peak memory: allocated on a CUDA device during one forward pass, all loaded models included; elsewhere the largest resident set of the
    process so far, which other cases may have caused."""
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    benchmark.pedantic(model.logits, (ids,), rounds=1, iterations=1)
    if on_cuda:
        peak = torch.cuda.max_memory_allocated(model.device) / 1e6
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    record("peak_memory", peak, n=1, of="device" if on_cuda else "process")
    assert peak > 0
