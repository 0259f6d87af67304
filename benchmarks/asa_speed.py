"""What one ASA layer costs beside softmax attention: CPU time of one thread, memory, linearity in the length, and time of a decoded token.

    python benchmarks/asa_speed.py                 # all tables, about ten minutes
    python benchmarks/asa_speed.py --only speed    # or: memory, length, decoding
    python benchmarks/asa_speed.py --device cuda   # a GPU: the layer and attention in bfloat16, wall time

Layer: C=256, H=8, K=16, M=32, write chunk 128, batch 2, float32. Peer: torch scaled_dot_product_attention (causal) with its four projections.
Slow form: the same layer through `asa.functional`, which forms slot states. All in one process, in turns, the least of several runs."""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from asa import AddressedStateAttention, tiled_layer

WIDTH, HEADS, SLOTS, SLOTSPACE, CHUNK, BATCH = 256, 8, 16, 32, 128, 2
TARGETS = {("forward", 1024): 1.0, ("forward", 4096): 0.4, ("both", 1024): 0.75, ("both", 4096): 0.30}
MEMORY_TARGET_MB = 350


class Attention(nn.Module):
    """Causal softmax attention with its four projections."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (linear(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))


def asa_layer() -> AddressedStateAttention:
    torch.manual_seed(0)
    return AddressedStateAttention(
        WIDTH, HEADS, SLOTS, dropout=0.0, slotspace_dim=SLOTSPACE, write_chunk_size=CHUNK
    ).eval()


@contextmanager
def slow_form():
    """The layer through `asa.functional`."""
    fits, tiled_layer.fits = tiled_layer.fits, lambda *_: False
    try:
        yield
    finally:
        tiled_layer.fits = fits


def runners() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    layer, attention = asa_layer(), Attention()

    def slow(x: torch.Tensor) -> torch.Tensor:
        with slow_form():
            return layer(x)[0]

    return {"attention": attention, "asa": lambda x: layer(x)[0], "slow form": slow}


def forward_ms(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    with torch.no_grad():
        start = time.process_time()
        run(x)
    return (time.process_time() - start) * 1e3


def both_ms(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    x = x.detach().requires_grad_()
    start = time.process_time()
    run(x).sum().backward()
    return (time.process_time() - start) * 1e3


def speed(repeat: int) -> list[dict]:
    rows = []
    named = runners()
    for length in (256, 1024, 4096):
        x = torch.randn(BATCH, length, WIDTH, generator=torch.Generator().manual_seed(length))
        for name, measure in (("forward", forward_ms), ("both", both_ms)):
            least = dict.fromkeys(named, float("inf"))
            for index in range(repeat):
                for who, run in named.items():
                    if who != "slow form" or index < 2:
                        least[who] = min(least[who], measure(run, x))
            ratio = least["asa"] / least["attention"]
            rows.append(
                {
                    "length": length,
                    "pass": name,
                    **least,
                    "ratio": ratio,
                    "to_slow": least["slow form"] / least["asa"],
                    "target": TARGETS.get((name, length)),
                }
            )
    return rows


def peak_growth_mb(who: str, length: int) -> float:
    """Growth of the peak resident size by the first forward and backward pass, in a process of its own."""
    output = subprocess.run(
        [sys.executable, __file__, "--peak", who, str(length)], check=True, capture_output=True, text=True
    )
    return float(output.stdout)


def peak_here(who: str, length: int) -> float:
    run = runners()[who]
    x = torch.randn(BATCH, length, WIDTH, requires_grad=True)
    run(x[:, :64]).sum().backward()  # libraries and tables of small size are loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(x).sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory() -> list[dict]:
    return [
        {"length": length, **{who: peak_growth_mb(who, length) for who in ("attention", "asa", "slow form")}}
        for length in (1024, 4096)
    ]


def by_length(repeat: int) -> list[dict]:
    run = runners()["asa"]
    rows = []
    for length in (1024, 4096, 16384, 65536):
        x = torch.randn(1, length, WIDTH)
        times = max(1, repeat if length < 16384 else 2)
        forward = min(forward_ms(run, x) for _ in range(times))
        both = min(both_ms(run, x) for _ in range(times))
        rows.append({"length": length, "forward": forward / length * 1e3, "both": both / length * 1e3})
    return rows


def decoding(steps: int = 64) -> list[dict]:
    layer = asa_layer()
    rows = []
    with torch.no_grad():
        for position in (0, 1000, 16_000, 64_000):
            state = layer.init_state(1)
            if position:
                _, state = layer.extend(torch.randn(1, position, WIDTH), state, torch.zeros(1, dtype=torch.long))
            token, at = torch.randn(1, 1, WIDTH), torch.tensor([position])
            least = float("inf")
            for _ in range(3):
                start = time.process_time()
                for _ in range(steps):
                    layer.extend(token, state, at)
                least = min(least, (time.process_time() - start) / steps)
            rows.append({"position": position, "ms": least * 1e3, "numbers": sum(t.numel() for t in state.tensors())})
    return rows


def on_gpu(device: str, repeat: int) -> list[dict]:
    """Wall time with events, bfloat16: flash attention, the layer in tiles, the slow form."""
    named = runners()
    layer, attention = asa_layer().to(device, torch.bfloat16), Attention().to(device, torch.bfloat16)
    named = {"attention": attention, "asa": lambda x: layer(x)[0]}
    rows = []
    for length in (1024, 4096, 16384, 65536):
        x = torch.randn(BATCH, length, WIDTH, device=device, dtype=torch.bfloat16, requires_grad=True)
        row = {"length": length}
        for who, run in named.items():
            for _ in range(3):
                run(x).sum().backward()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(repeat):
                run(x).sum().backward()
            torch.cuda.synchronize()
            row[who] = (time.perf_counter() - start) / repeat * 1e3
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "--:|" * len(names)]
    lines += [
        "| "
        + " | ".join(
            f"{row[name]:.2f}" if isinstance(row[name], float) else "" if row[name] is None else f"{row[name]}"
            for name in names
        )
        + " |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("speed", "memory", "length", "decoding"))
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--peak", nargs=2, metavar=("WHO", "LENGTH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        print(peak_here(given.peak[0], int(given.peak[1])))
        return 0
    if given.device != "cpu":
        found = {"gpu": on_gpu(given.device, given.repeat)}
    else:
        measures = {
            "speed": lambda: speed(given.repeat),
            "memory": memory,
            "length": lambda: by_length(given.repeat),
            "decoding": decoding,
        }
        found = {name: measure() for name, measure in measures.items() if given.only in (None, name)}
    print(
        f"torch {torch.__version__}, {platform.machine()}, one thread, CPU milliseconds (length: microseconds a token; memory: MB)"
    )
    for name, rows in found.items():
        print(f"\n{name}\n\n{table(rows)}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    missed = [row for row in found.get("speed", []) if row["target"] and row["ratio"] > row["target"]]
    missed += [row for row in found.get("memory", []) if row["length"] == 4096 and row["asa"] > MEMORY_TARGET_MB]
    for row in missed:
        print(f"over its target: {row}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
