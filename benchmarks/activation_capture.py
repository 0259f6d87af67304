"""What reading activations costs beside the forward pass that it rides on: a random GPT-NeoX of pythia-70m's shape, 16 texts of 256 tokens.

python benchmarks/activation_capture.py [--rounds 5] [--peers]

CPU seconds of one thread, medians over rounds in which the cases take turns; every ratio is to a case of the same run. `--peers` adds TransformerLens
and nnsight where they are installed."""

from __future__ import annotations

import argparse
import importlib.util
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trialplate.activations.batches import make_plan
from trialplate.activations.capture import captured, collect
from trialplate.activations.collectors.moments import UnitMoments
from trialplate.activations.shards import writing
from trialplate.activations.sites import choose
from trialplate.activations.study import Wanted, watch
from trialplate.models.causal_lm import CausalLM
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import byte_tokenizer

LAYERS, ROWS, LENGTH, SITE = 6, 16, 256, 3
Case = Callable[[], object]


class _Stop(Exception):
    """The plain hook has seen its layer."""


def neox() -> CausalLM:
    """Random weights in the shape of pythia-70m."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304, hidden_size=512, num_hidden_layers=LAYERS, num_attention_heads=8, intermediate_size=2048
    )
    return CausalLM(ModelSpec("pythia-70m-shape"), GPTNeoXForCausalLM(config), byte_tokenizer())


def tokens() -> torch.Tensor:
    """[16, 256] random ids."""
    return torch.randint(0, 50304, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))


def plain_hooks(model: CausalLM, ids: torch.Tensor, layers: list[int], *, stop: bool) -> Case:
    """What a careful person writes by hand: hooks that keep outputs, no head, removed at the end."""
    kept: dict[int, torch.Tensor] = {}

    def hook(layer: int) -> Callable[..., None]:
        def keep(_module: object, _args: object, output: object) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output  # type: ignore[assignment]
            if stop and layer == layers[-1]:
                raise _Stop

        return keep

    @torch.inference_mode()
    def run() -> None:
        handles = [model.module.gpt_neox.layers[n].register_forward_hook(hook(n)) for n in layers]
        try:
            model.module.gpt_neox(ids, use_cache=False)
        except _Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()

    return run


def cases(model: CausalLM, ids: torch.Tensor, folder: Path) -> dict[str, Case]:
    """Everything that is timed, by name."""
    every = list(range(LAYERS))
    six = choose(model, [f"L{n}.resid_post" for n in every])
    six_act = choose(model, [f"L{n}.mlp_act" for n in every])
    one = choose(model, [f"L{SITE}.resid_post"])
    plan = make_plan({"text": ids.tolist()}, max_length=LENGTH, positions=ROWS * LENGTH)
    count = iter(range(10**9))

    def sums(points: list, make: Callable[[], list]) -> Case:
        return lambda: collect(model, plan, points, {("text", p.name): make() for p in points})

    def rows(points: list, dtype: str) -> Case:
        def run() -> None:
            with writing(folder / f"rows{next(count)}", plan, {}, dtype=dtype) as writer:  # type: ignore[arg-type]
                collect(model, plan, points, {("text", p.name): [writer.collector(p.name, "text")] for p in points})

        return run

    @torch.inference_mode()
    def forward() -> None:
        model.module.gpt_neox(ids, use_cache=False)

    return {
        "forward without head": forward,
        "plain hooks, six sites": plain_hooks(model, ids, every, stop=False),
        "count, sum, sum of squares at six resid_post": sums(six, lambda: [UnitMoments(magnitudes=False)]),
        "every sum of a study at six resid_post": sums(six, lambda: watch(ROWS, Wanted(), 0).all()),
        "every sum of a study at six mlp_act": sums(six_act, lambda: watch(ROWS, Wanted(), 0).all()),
        "rows of six resid_post to disk, float32": rows(six, "float32"),
        "rows of six resid_post to disk, bfloat16": rows(six, "bfloat16"),
        "plain hooks, one site, early stop": plain_hooks(model, ids, [SITE], stop=True),
        "one site, early stop, values": lambda: captured(model, ids, one),
        "one site, early stop, count, sum, sum of squares": sums(one, lambda: [UnitMoments(magnitudes=False)]),
        **(peers(model, ids) if ARGS.peers else {}),
    }


def peers(model: CausalLM, ids: torch.Tensor) -> dict[str, Case]:
    """TransformerLens and nnsight on the same shape, those that are installed."""
    found: dict[str, Case] = {}
    if importlib.util.find_spec("transformer_lens"):
        import transformer_lens as tl

        config = tl.HookedTransformerConfig(
            n_layers=LAYERS, d_model=512, n_ctx=2048, d_head=64, n_heads=8, d_mlp=2048, d_vocab=50304, act_fn="gelu",
            normalization_type="LN", positional_embedding_type="rotary", rotary_dim=16, parallel_attn_mlp=True, device="cpu",
        )  # fmt: skip
        net = tl.HookedTransformer(config).eval()
        names = [f"blocks.{n}.hook_resid_post" for n in range(LAYERS)]
        found["TransformerLens run_with_cache, six sites"] = torch.no_grad()(
            lambda: net.run_with_cache(ids, names_filter=names, stop_at_layer=LAYERS, return_type=None)
        )
    if importlib.util.find_spec("nnsight"):
        import nnsight

        wrapped = nnsight.NNsight(model.module)

        @torch.no_grad()
        def stopped() -> None:
            with wrapped.trace(ids, use_cache=False) as tracer:
                wrapped.gpt_neox.layers[SITE].output.save()
                tracer.stop()

        found["nnsight, one site, early stop"] = stopped
    return found


def measure(found: dict[str, Case], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every case, one a round; cases take turns so that a busy minute falls on all of them."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        for name, case in found.items():
            begin = time.process_time()
            case()
            if number:
                taken[name].append(time.process_time() - begin)
    return taken


def table(taken: dict[str, list[float]]) -> str:
    """Markdown: medians, tokens a CPU second, and the ratio of the medians to the forward pass and to plain hooks with early stop."""
    middle = {name: statistics.median(values) for name, values in taken.items()}
    forward, early = middle["forward without head"], middle["plain hooks, one site, early stop"]
    lines = [
        "| case | CPU s | tokens / CPU s | of forward without head | of plain hooks with early stop |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {s:.3f} | {ROWS * LENGTH / s:,.0f} | {s / forward:.3f} | {s / early:.3f} |"
        for name, s in middle.items()
    ]
    return "\n".join(lines)


def peak(of: str) -> float:
    """Peak resident MiB of a child process that does one thing a few times."""
    done = subprocess.run([sys.executable, __file__, "--only", of], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def only(name: str) -> None:
    """Do one case three times and print the largest resident set, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        case = cases(neox(), tokens(), Path(folder))[name]
        for _ in range(3):
            case()
    # not ru_maxrss: a child starts with the high-water mark of the process that started it
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)  # type: ignore[index]


def main() -> None:
    """Print the table, then memory."""
    with tempfile.TemporaryDirectory() as folder:
        print(table(measure(cases(neox(), tokens(), Path(folder)), ARGS.rounds)))
    sums = [name for name in cases(neox(), tokens(), Path("unused")) if name.startswith(("count", "every"))]
    watched = ["forward without head", *sums]
    peaks = {name: peak(name) for name in watched}
    print("\n| case | peak resident MiB | of forward |\n|---|--:|--:|")
    for name, mib in peaks.items():
        print(f"| {name} | {mib:,.0f} | {mib / peaks[watched[0]]:.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--only")
    ARGS = parser.parse_args()
    torch.set_num_threads(1)
    only(ARGS.only) if ARGS.only else main()
