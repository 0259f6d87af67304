"""`asa smoke`: the shortest path through the model core, in a few seconds: forward, backward, one step of the optimiser."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    import torch

    from asa.config import ASMTrainConfig

SHRUNK = {
    "vocab_size": 61,
    "embed_dim": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_slots": 8,
    "slotspace_dim": 16,
    "max_seq_len": 64,
    "write_chunk_size": 16,
    "slotspace_chunk_size": 16,
}
"""Fields of the published configuration that are made small; the others keep their defaults, dropout included."""

ROWS, TOKENS = 2, 40
"""Two and a half write chunks: the carried state and a ragged chunk are both in it."""


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    passed: bool
    found: str


def smoke(
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of weights and tokens.")] = 0,
    outdir: Annotated[Path | None, typer.Option(help="Folder for smoke.json; nothing is written by default.")] = None,
) -> None:
    """Build a tiny model, predict, take one step of training, and check what came out. Exit status 0 only if all of it holds."""
    from asa.utils.device import DeviceError, find_device

    try:
        if outdir is not None:
            if (outdir / "smoke.json").exists():
                raise FileExistsError(f"{outdir / 'smoke.json'} exists; name another --outdir")
            outdir.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is an error before anything runs
        found = checks(find_device(device), seed)
    except (DeviceError, OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    for check in found:
        typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:44} {check.found}")
    passed = bool(found) and all(check.passed for check in found)
    if outdir is not None:
        _write(outdir, {"passed": passed, "device": device, "seed": seed, "checks": [c._asdict() for c in found]})
    raise typer.Exit(0 if passed else 1)


def checks(device: torch.device, seed: int) -> list[Check]:
    """Run it and say what was found. Global generators are left as they were."""
    import torch

    from asa.config import ASMTrainConfig
    from asa.utils.device import repeatable
    from asa.utils.seed import generators_kept, seed_generators

    cfg = ASMTrainConfig.from_dict(SHRUNK)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(cfg.vocab_size, (ROWS, TOKENS + 1), generator=generator)
    with repeatable(device, 1), generators_kept():
        seed_generators(seed)
        return _one_step(cfg, ids, device, seed)


def _one_step(cfg: ASMTrainConfig, ids: torch.Tensor, device: torch.device, seed: int) -> list[Check]:
    """Targets are the tokens one place on: row t of the logits is compared with token t + 1."""
    import torch

    from asa.train import Batch, Precision, TrainSettings, accumulate, fresh_model, make_optimizer, update

    model = fresh_model(cfg, seed).to(device)
    precision = Precision("off", device)
    with torch.no_grad():
        logits = model.eval()(ids[:, :-1].to(device))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = accumulate(model.train(), [Batch(ids)], precision)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    norm, taken = update(model, make_optimizer(model, TrainSettings()), precision, 1.0)
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    with torch.no_grad():
        after = model.eval()(ids[:, :-1].to(device))
    start, guess = loss.nats / loss.weight, math.log(cfg.vocab_size)
    return [
        Check("logits are [batch, time, vocabulary]", logits.shape == (ROWS, TOKENS, cfg.vocab_size), str(list(logits.shape))),
        Check("logits are finite", bool(torch.isfinite(logits).all()), f"largest {logits.abs().max().item():.3f}"),
        Check("loss of the next token is finite", math.isfinite(start), f"{start:.4f} nats per token"),
        Check("loss is near that of a guess, log V", abs(start - guess) < 0.5, f"{guess:.4f}"),
        Check("every target counts once", loss.weight == ROWS * TOKENS, f"{loss.weight:g} targets"),
        _all_have_gradients(gradients),
        Check("gradients are finite, the step is taken", taken and math.isfinite(norm), f"norm {norm:.4f}"),
        Check("every parameter moved", len(moved) == len(before), f"{len(moved)} of {len(before)}"),
        Check("logits changed and are finite", bool(torch.isfinite(after).all()) and not torch.equal(after, logits), f"by up to {(after - logits).abs().max().item():.3f}"),
    ]  # fmt: skip


def _all_have_gradients(gradients: dict[str, torch.Tensor | None]) -> Check:
    without = [name for name, grad in gradients.items() if grad is None or not bool(grad.any())]
    text = f"{len(gradients) - len(without)} of {len(gradients)}" + (f", not {without[0]}" if without else "")
    return Check("every parameter has a gradient", not without, text)


def _write(outdir: Path, document: dict[str, object]) -> None:
    from asa.utils.files import write_atomic

    write_atomic(outdir / "smoke.json", (json.dumps({"schema": 1, **document}, indent=2) + "\n").encode())
