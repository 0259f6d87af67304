"""What one training step of a sparse autoencoder costs, beside the libraries people train with: CPU time of one thread, and memory.

    python benchmarks/sae_step.py    # all cases, three rounds: six minutes of one core
    python benchmarks/sae_step.py --python-sparsify PATH --python-saelens PATH --python-dictionary-learning PATH

Every case trains 4,096 latents with k = 32 on the same 65,536 rows of 512 normal numbers, 4,096 rows a step, float32. A step is everything that a
trainer does with a batch that it was handed: forward, gradients of all parameters, projection of the decoder's gradient, Adam, unit rows, its
counts of dead latents. Where our own step spends it: benchmarks/sae_step_parts.py. Each case runs in a process of its own, and cases take turns, so that a busy machine slows them all alike: compare
ratios of best steps, not milliseconds of different runs.

The others live in environments of their own (scripts/install_sae_peers.sh makes them); one that is not there is listed as absent. SAELens and
dictionary_learning run their own trainers. sparsify's trainer reads from a model only, so what it does with a batch is written out here."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

D_IN, D_SAE, K, BATCH, N_ROWS = 512, 4096, 32, 4096, 65_536
PEERS = Path(__file__).resolve().parents[1] / "build" / "sae-peers"
OURS, SAELENS, SPARSIFY, LEARNING = "ours", "saelens", "sparsify", "dictionary_learning"

Step = Callable[[], object]


def batches() -> Iterator:
    """The same rows for everyone, 4,096 at a time, for ever."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)  # the libraries draw their first weights from the global generator
    rows = torch.randn(N_ROWS, D_IN, generator=torch.Generator().manual_seed(0))
    return itertools.cycle(rows.split(BATCH))


def product() -> Step:
    """The encoder's product alone, into memory that is kept: the part of a step that stays dense."""
    import torch

    stream, encoder, out = batches(), torch.randn(D_SAE, D_IN), torch.empty(BATCH, D_SAE)
    return lambda: torch.mm(next(stream), encoder.T, out=out)


def ours(architecture: str, backend: str) -> Step:
    """The learner of a training run: what `trialplate.sae.training.train` calls for every batch."""
    import torch

    from trialplate.sae.config import CoderConfig
    from trialplate.sae.learner import Learner
    from trialplate.sae.scaling import Scales
    from trialplate.sae.settings import TrainingSettings, resolved

    stream, config = batches(), CoderConfig(architecture, D_IN, D_SAE, k=K)
    settings = resolved(TrainingSettings(steps=10_000, batch_size=BATCH, backend=backend), config)
    learner = Learner("benchmark", config, settings, Scales(), centre=None, device=torch.device("cpu"))

    def step() -> None:
        x = next(stream)
        learner.step(x, x)

    return step


def sae_lens(steps: int) -> Step:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    stream = batches()
    coder = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K, device="cpu"))
    config = SAETrainerConfig(
        total_training_samples=steps * BATCH,
        train_batch_size_samples=BATCH,
        lr_end=1e-5,
        device="cpu",
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=config, sae=coder, data_provider=stream)

    def step() -> None:
        trainer.step(next(stream))
        trainer.n_training_steps += 1

    return step


def dictionary_learning(architecture: str) -> Step:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    stream, numbers = batches(), itertools.count()
    kind = {"topk": TopKTrainer, "batchtopk": BatchTopKTrainer}[architecture]
    sizes = {"activation_dim": D_IN, "dict_size": D_SAE, "k": K}
    trainer = kind(steps=10_000, layer=0, lm_name="none", device="cpu", seed=0, **sizes)
    return lambda: trainer.update(next(numbers), next(stream))


def sparsify() -> Step:
    import torch
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    stream = batches()
    coder = SparseCoder(D_IN, SparseCoderConfig(num_latents=D_SAE, k=K), dtype=torch.float32)
    adam = torch.optim.Adam(coder.parameters(), lr=2e-4)

    def step() -> None:
        coder.set_decoder_norm_to_unit_norm()
        coder(next(stream)).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()

    return step


CASES: dict[str, tuple[str, str, Callable[[int], Step]]] = {
    "encoder product alone": (OURS, "torch", lambda n: product()),
    "topk, ours, torch": (OURS, "trialplate", lambda n: ours("topk", "sparse")),
    "topk, ours, numba": (OURS, "trialplate", lambda n: ours("topk", "numba")),
    "topk, ours, autograd": (OURS, "trialplate", lambda n: ours("topk", "autograd")),
    "topk, sparsify": (SPARSIFY, "eai-sparsify", lambda n: sparsify()),
    "topk, dictionary_learning": (LEARNING, "dictionary-learning", lambda n: dictionary_learning("topk")),
    "topk, SAELens": (SAELENS, "sae-lens", sae_lens),
    "batchtopk, ours, torch": (OURS, "trialplate", lambda n: ours("batchtopk", "sparse")),
    "batchtopk, ours, numba": (OURS, "trialplate", lambda n: ours("batchtopk", "numba")),
    "batchtopk, dictionary_learning": (LEARNING, "dictionary-learning", lambda n: dictionary_learning("batchtopk")),
}
"""name -> (whose environment, whose version, what makes a step when it is told how many will follow)."""


def timed(step: Step, steps: int) -> list[float]:
    """CPU milliseconds of every call after two that warm up (the first may compile, choose or allocate)."""
    taken = []
    for _ in range(steps + 2):
        begin = time.process_time()
        step()
        taken.append(1e3 * (time.process_time() - begin))
    return taken[2:]


def run_case(name: str, steps: int) -> int:
    """In the case's own process: one line of JSON."""
    _, package, build = CASES[name]
    taken = timed(build(steps + 2), steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": taken, "peak MiB": peak, "version": version(package)}))
    return 0


def measured(pythons: dict[str, Path], wanted: str, rounds: int, steps: int) -> dict[str, list[dict]]:
    """What every wanted case gave in every round; cases whose environment is missing give nothing."""
    present = {name: pythons[case[0]] for name, case in CASES.items() if wanted in name and pythons[case[0]].exists()}
    calm = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    found: dict[str, list[dict]] = {name: [] for name in present}
    for number in range(rounds):
        for name, python in present.items():
            command = [str(python), __file__, "--case", name, "--steps", str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | calm)
            if done.returncode:
                raise SystemExit(f"{name}, run by {python}, failed:\n{done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {name}: {statistics.median(found[name][-1]['ms']):.0f} ms", file=sys.stderr)
    return found


def summary(found: dict[str, list[dict]], pythons: dict[str, Path], wanted: str) -> list[dict]:
    """One line a case. Ratios are of best steps: what else runs on a machine can make a step slower, never faster."""
    best = {name: min(min(run["ms"]) for run in runs) for name, runs in found.items()}
    lines = []
    for name, (environment, _, _) in CASES.items():
        if name not in found:
            if wanted in name:
                script = f"scripts/install_sae_peers.sh {environment}"
                lines.append({"case": name, "CPU ms": f"absent: no {pythons[environment]}; {script} makes it"})
            continue
        runs, kind = found[name], name.split(",")[0]
        ms = statistics.median(value for run in runs for value in run["ms"])
        beside = {
            "/ product": "encoder product alone",
            "/ torch": f"{kind}, ours, torch",
            "/ numba": f"{kind}, ours, numba",
        }
        ratios = {label: best[name] / best[other] if other in best else None for label, other in beside.items()}
        rest = {"tokens / CPU s": BATCH / best[name] * 1e3, "peak MiB": max(run["peak MiB"] for run in runs)}
        lines.append({"case": name, "CPU ms": ms, "best": best[name], **ratios, **rest, "version": runs[0]["version"]})
    return lines


def table(rows: list[dict]) -> str:
    """Markdown."""
    names = list(max(rows, key=len))

    def shown(value: object) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
        return "" if value is None else str(value)

    lines = ["| " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) - 1)]
    return "\n".join(lines + ["| " + " | ".join(shown(row.get(name)) for name in names) + " |" for row in rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default="", help="only cases with this in their names")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of every case in every round")
    for name in (SAELENS, SPARSIFY, LEARNING):
        default = PEERS / name / "bin" / "python"
        parser.add_argument(f"--python-{name.replace('_', '-')}", dest=name, type=Path, default=default)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        return run_case(given.case, given.steps)
    pythons = {OURS: Path(sys.executable), **{name: getattr(given, name) for name in (SAELENS, SPARSIFY, LEARNING)}}
    found = measured(pythons, given.cases, given.rounds, given.steps)
    lines = summary(found, pythons, given.cases)
    print(
        f"{platform.machine()}, one thread, CPU time, {given.rounds} rounds of {given.steps} steps, load {os.getloadavg()[0]:.1f}\n"
    )
    print(table(lines))
    if given.json:
        given.json.write_text(json.dumps({"lines": lines, "found": found}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
