"""What a sparse down projection saves when one token is decoded, beside the dense one in the same run: CPU time of one thread.

    python benchmarks/dynamic_k.py                    # both tables, about five minutes
    python benchmarks/dynamic_k.py --only projection  # or: decoding
    python benchmarks/dynamic_k.py --repeat 40

Projection: one matrix a layer of a small model (6 of 2048 x 512, 12 of 3072 x 768), visited in turn, so that weights come from where they come in
decoding. Hidden units are GELUs of normal numbers; which ones stay is decided for every token, and that time counts. `one by one` is the plain
loop that asks at every unit and adds one row at a time.

Decoding: a random GPT-NeoX of pythia-70m's shape, greedy steps through the cache, dense, by kernel and without any down projection in turns.
Random weights say nothing about quality, and the time of a step does not depend on them."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trialplate.activations.decoding_speed import decoding_speed, speedup_ceiling
from trialplate.activations.kernels import bound_projection
from trialplate.activations.rules import Threshold, TopK, contributions, row_norms
from trialplate.activations.sites import DownProjection
from trialplate.models.causal_lm import CausalLM
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import byte_tokenizer

SHAPES = ((2048, 512, 6), (3072, 768, 12))
KEPT = (0.5, 0.3, 0.1, 0.03)
Run = Callable[[], object]


@numba.njit(error_model="numpy", fastmath={"contract"})
def one_by_one(hidden, norms, limit, rows, bias, out):
    """One row at a time, where its unit is large enough."""
    for j in range(rows.shape[1]):
        out[j] = bias[j]
    for i in range(len(hidden)):
        h = hidden[i]
        if not (abs(h) * norms[i] <= limit):
            for j in range(rows.shape[1]):
                out[j] += h * rows[i, j]


def shape_of_70m() -> CausalLM:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048
    )
    return CausalLM(ModelSpec("pythia-70m-shape"), GPTNeoXForCausalLM(config), byte_tokenizer())


def ways(model: CausalLM, modules: list[nn.Linear], hidden: torch.Tensor, kept: float) -> dict[str, Run]:
    """Every way to compute all layers once for one token."""
    downs = [DownProjection(f"down{n}", module, module.weight.T, module.bias) for n, module in enumerate(modules)]
    norms = [row_norms(down.rows) for down in downs]
    limits = {
        n: float(contributions(hidden, own).quantile(1 - kept)) if kept < 1 else -1.0 for n, own in enumerate(norms)
    }
    topk, threshold = TopK(kept), Threshold(limits, kept)

    def bound(rule, kernel) -> Run:
        projections = [bound_projection(model, rule, n, down, kernel) for n, down in enumerate(downs)]
        return lambda: [project(hidden) for project in projections]

    rows = [down.rows.contiguous().numpy() for down in downs]
    biases, sizes = [down.bias.numpy() for down in downs], [own.numpy() for own in norms]
    out = np.empty(rows[0].shape[1], np.float32)

    def inside() -> None:
        for n, own in enumerate(rows):
            one_by_one(hidden.numpy(), sizes[n], np.float32(limits[n]), own, biases[n], out)

    return {
        "dense": lambda: [module(hidden.view(1, 1, -1)) for module in modules],
        "topk mask": bound(topk, "mask"),
        "topk index": bound(topk, "index"),
        "topk gather-numba": bound(topk, "gather-numba"),
        "threshold index": bound(threshold, "index"),
        "threshold gather-numba": bound(threshold, "gather-numba"),
        "threshold one by one": inside,
    }


def projection(repeat: int) -> list[dict]:
    """Microseconds of one projection, medians of `repeat` rounds in which the ways take turns."""
    model, rows = shape_of_70m(), []
    for d, d_out, n_layers in SHAPES:
        generator = torch.Generator().manual_seed(d)
        modules = [nn.Linear(d, d_out).requires_grad_(False) for _ in range(n_layers)]
        hidden = nn.functional.gelu(torch.randn(d, generator=generator))
        for kept in KEPT:
            named = ways(model, modules, hidden, kept)
            taken: dict[str, list[float]] = {name: [] for name in named}
            for number in range(repeat + 1):
                for name, run in named.items():
                    begin = time.process_time()
                    for _ in range(5):
                        run()
                    if number:
                        taken[name].append((time.process_time() - begin) / (5 * n_layers) * 1e6)
            middle = {name: float(np.median(values)) for name, values in taken.items()}
            best = middle["dense"] / middle["topk gather-numba"]
            rows.append({"shape": f"{d} x {d_out}", "kept": kept, **middle, "dense / topk gather-numba": best})
    return rows


@torch.inference_mode()
def decoding(repeat: int) -> list[dict]:
    model, rows = shape_of_70m(), []
    prompt = torch.randint(0, 50304, (16,), generator=torch.Generator().manual_seed(1)).tolist()
    cases = [(TopK(kept), "gather-numba") for kept in KEPT] + [(TopK(0.1), "index"), (TopK(0.1), "mask")]
    for rule, kernel in cases:
        found = decoding_speed(
            model, prompt, rule, kernel=kernel, new_tokens=16, repeats=repeat, clock=time.process_time
        )
        rows.append(
            {
                "kernel": kernel,
                "kept": found.kept_share,
                "dense tok/s": found.dense.median,
                "sparse tok/s": found.sparse.median,
                "speedup": found.speedup.median,
                "quartiles": f"{found.speedup.low:.2f} .. {found.speedup.high:.2f}",
                "ceiling at this share": speedup_ceiling(model, kept=found.kept_share),
                "ceiling": found.speedup_ceiling,
                "measured ceiling": found.measured_ceiling.median,
                "efficiency": found.efficiency,
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    """Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "--:|" * len(names)]
    lines += [
        "| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |" for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("projection", "decoding"))
    parser.add_argument("--repeat", type=int, default=21)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measures = {"projection": projection, "decoding": decoding}
    found = {name: measure(given.repeat) for name, measure in measures.items() if given.only in (None, name)}
    print(
        f"torch {torch.__version__}, numba {numba.__version__}, {platform.machine()}, one thread, CPU time (projection: microseconds)"
    )
    for name, rows in found.items():
        print(f"\n{name}\n\n{table(rows)}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
