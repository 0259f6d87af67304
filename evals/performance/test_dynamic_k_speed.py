"""Is decoding faster when hidden units are skipped? Greedy decoding of one text, dense and with a kernel that reads only the rows of active units,
in turns; the ceiling is what skipping the whole down projection could give. Recorded, and judged by nobody: on a small model most of a step is not
the down projection. Budget: 6 CPU seconds.
"""

import time

import pytest

from trialplate.activations.decoding_speed import decoding_speed
from trialplate.activations.rules import TopK

pytestmark = pytest.mark.requires_sites
KERNELS = [
    pytest.param("index", marks=pytest.mark.slow),
    pytest.param(
        "gather-numba",
        marks=[pytest.mark.requires_extra("numba"), pytest.mark.requires_subject(device="cpu", dtype="float32")],
    ),
]


@pytest.mark.parametrize("kept", [0.1])
@pytest.mark.parametrize("kernel", KERNELS)
def test_dynamic_k_speed(kernel, kept, benchmark, model, record):
    """Throughput, speedup, its ceiling, and the part of the ceiling that was reached; medians of 20 rounds, CPU time on the CPU."""
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    found = benchmark.pedantic(
        decoding_speed, (model, [1, 2, 3, 4], TopK(kept)), {"kernel": kernel, "new_tokens": 4, "clock": clock}, rounds=1
    )
    common, n = {"kernel": found.kernel, "kept": kept, "of": "dynamic-k"}, found.repeats
    record(
        "tokens_per_second",
        found.sparse.median,
        n=n,
        ci=(found.sparse.low, found.sparse.high),
        level=0.5,
        null=("dense", found.dense.median),
        **common,
    )
    record(
        "speedup",
        found.speedup.median,
        n=n,
        ci=(found.speedup.low, found.speedup.high),
        level=0.5,
        null=("no gain", 1.0),
        **common,
    )
    record("speedup_ceiling", found.speedup_ceiling, n=n, **common)
    record("efficiency", found.efficiency, n=n, null=("no gain", 0.0), **common)
    assert abs(found.kept_share - kept) < 0.01
