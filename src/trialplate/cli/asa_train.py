"""`asa train-mini`: train a small ASM, from defaults to a folder with checkpoints, records and a loss curve."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from asa.train import Source, TrainResult
    from trialplate.cli.train_config import Given, TrainConfig
    from trialplate.training_data.assemble import Prepared

STOPPED = 130
"""Exit status after Ctrl-C or a termination signal; the run can be resumed."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says: layers of settings, the weakest first, and what is no setting."""

    layers: list[dict[str, Given]]
    epochs: float | None
    device: str
    outdir: Path | None
    resume: Path | None
    dry_run: bool
    online: bool


def train_mini(
    config: Annotated[Path | None, typer.Option(help="TOML file with the tables model, train and data.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable; stronger than the file."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="corpus, a .txt, .jsonl or .parquet file, or hub:ORG/NAME (with --online).")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="bytes, a tokenizer.json, a model's folder or name. Default: the corpus's own.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps; 300 by default.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data, in place of steps.")] = None,
    grad_accum: Annotated[int | None, typer.Option(help="Batches of one step.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N or mps; cpu by default, that of the run with --resume.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, data order and dropout; 0 by default.")] = None,
    outdir: Annotated[
        Path | None, typer.Option(help="The folder of the run; must not exist. Default: runs/train-mini-TIME.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run of this folder, to the same bits as if it had not stopped.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Allow downloads (hub data sets, tokenizers).")] = False,
) -> None:
    """Train a small model to predict the next token: 300 steps on the project's corpus unless told otherwise.

    Ctrl-C ends it after the step with a checkpoint; --resume goes on."""
    from asa.train import NonFiniteGradients, RunFolderError, StoreError
    from trialplate.cli.train_config import read_file, read_set
    from trialplate.models.hub import go_offline

    if not online:
        go_offline()
    options = _options(data=data, tokenizer=tokenizer, steps=steps, grad_accum=grad_accum, seed=seed)
    try:
        _require_one_kind(resume, config, set_, options, epochs, steps, outdir)
        file = resume / "config.toml" if resume else config
        single = [read_set(option) for option in set_ or []]
        if epochs is not None and any("train.total_steps" in one for one in single):
            raise ValueError("--epochs and --set train.total_steps both say how long to train; give one of them")
        layers = [*([read_file(file)] if file else []), *single, options]
        result = _train(_Asked(layers, epochs, device or _device_of(resume), outdir, resume, dry_run, online))
    except NonFiniteGradients as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except (ValueError, RunFolderError, StoreError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if result is not None and not result.finished:
        raise typer.Exit(STOPPED)


def _train(asked: _Asked) -> TrainResult | None:
    from asa.train import fresh_model, train
    from asa.utils.device import find_device
    from trialplate.cli.train_config import to_toml
    from trialplate.cli.train_progress import show_progress, stop_on_signals
    from trialplate.training_data.assemble import source

    device = find_device(asked.device)  # before seconds are spent on data
    config, prepared = _prepared(asked)
    cfg = _model_cfg(config, prepared)
    model = fresh_model(cfg, config.train.seed)
    text, batches = to_toml(config, cfg), source(prepared, config.data, config.train)
    folder = asked.resume or asked.outdir or _default_folder()
    n_parameters = sum(p.numel() for p in model.parameters())
    for line in _plan(config, prepared, batches, n_parameters, folder):
        typer.echo(line)
    if asked.dry_run:
        typer.echo(f"\n{text}\ndry run: nothing was written")
        return None
    with stop_on_signals() as should_stop, show_progress(config.train.total_steps) as progress:
        result = train(
            model,
            batches,
            prepared.val,
            config.train,
            folder,
            device=device,
            resume=asked.resume is not None,
            progress=progress,
            val_bytes=prepared.val_bytes,
            checksums=prepared.checksums,
            files={"config.toml": text},
            should_stop=should_stop,
        )
    _finish(result)
    return result


def _prepared(asked: _Asked) -> tuple[TrainConfig, Prepared]:
    """Settings and data. Epochs become steps once the data are there to count; until then the steps are a stand-in."""
    from trialplate.cli.train_config import Given, resolve
    from trialplate.training_data.assemble import prepare, source

    if asked.epochs is None:
        config = resolve(asked.layers)
        return config, prepare(config.data, online=asked.online)
    origin = f"--epochs {asked.epochs:g}"
    config = resolve([*asked.layers, {"train.total_steps": Given(10**9, origin)}])
    prepared = prepare(config.data, online=asked.online)
    rows = asked.epochs * source(prepared, config.data, config.train).rows_per_epoch
    steps = math.ceil(rows / config.train.rows_per_step)
    return resolve([*asked.layers, {"train.total_steps": Given(steps, origin)}]), prepared


def _options(
    *, data: str | None, tokenizer: str | None, steps: int | None, grad_accum: int | None, seed: int | None
) -> dict[str, Given]:
    """The options that are settings, by dotted key."""
    from trialplate.cli.train_config import Given

    named = {
        "data.source": ("--data", data),
        "data.tokenizer": ("--tokenizer", tokenizer),
        "train.total_steps": ("--steps", steps),
        "train.grad_accum_steps": ("--grad-accum", grad_accum),
        "train.seed": ("--seed", seed),
    }
    return {key: Given(value, f"{option} {value}") for key, (option, value) in named.items() if value is not None}


def _require_one_kind(
    resume: Path | None,
    config: Path | None,
    set_: list[str] | None,
    options: Mapping[str, Given],
    epochs: float | None,
    steps: int | None,
    outdir: Path | None,
) -> None:
    """A resumed run has all of its settings; steps are counted in one way."""
    if resume and (config or set_ or options or epochs is not None or outdir):
        raise ValueError(
            "--resume goes on with the settings and in the folder of the run; leave out --config, --set, --outdir and the options "
            "that are settings, or start a new run"
        )
    if epochs is not None and steps is not None:
        raise ValueError("--steps and --epochs both say how long to train; give one of them")
    if epochs is not None and not (epochs > 0 and math.isfinite(epochs)):
        raise ValueError(f"--epochs: wanted more than 0, got {epochs}")


def _device_of(resume: Path | None) -> str:
    """The device of the run that goes on."""
    path = resume / "environment.json" if resume else None
    if path is None or not path.is_file():
        return "cpu"
    return str(json.loads(path.read_text(encoding="utf-8"))["device"])


def _model_cfg(config: TrainConfig, prepared: Prepared) -> Any:
    """The configuration of the model; the vocabulary is the tokenizer's unless a larger one is asked for."""
    from asa.config import ASMTrainConfig

    n_tokens = prepared.tokens.vocab_size
    asked = config.model.get("vocab_size", n_tokens)
    if asked < n_tokens:
        raise ValueError(
            f"model.vocab_size {asked} is less than the {n_tokens} tokens of {prepared.tokens.name}; leave it out, or raise it"
        )
    about = {"dataset_name": config.data.source, "dataset_config": "", "tokenizer_name": prepared.tokens.name}
    return ASMTrainConfig.from_dict({**config.train.shared(), **config.model, "vocab_size": asked, **about})


def _plan(config: TrainConfig, prepared: Prepared, source: Source, n_parameters: int, folder: Path) -> list[str]:
    """What is about to happen, in a few lines."""
    train, texts = config.train, prepared.texts
    rows = train.total_steps * train.rows_per_step
    return [
        f"data:       {config.data.source}, tokenizer {prepared.tokens.name} ({prepared.tokens.vocab_size:,} tokens)",
        f"training:   {len(texts.train):,} documents, {len(prepared.train):,} tokens",
        f"validation: {len(texts.held_out):,} documents, {len(prepared.val):,} tokens, {prepared.val_bytes:,} bytes",
        f"model:      {n_parameters:,} parameters",
        f"steps:      {train.total_steps:,} of {train.rows_per_step} x {train.seq_len} tokens, {rows / source.rows_per_epoch:.2f} epochs",
        f"folder:     {folder}",
    ]


def _default_folder() -> Path:
    return Path("runs") / f"train-mini-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _finish(result: TrainResult) -> None:
    """The loss curve, and the last lines."""
    from asa.utils.files import write_atomic
    from asa.utils.logging import read_records
    from trialplate.figures.loss_curve import loss_curve_png

    write_atomic(result.outdir / "loss_curve.png", loss_curve_png(read_records(result.outdir / "metrics.ndjson")))
    for name in result.left_alone:
        typer.echo(f"left alone: {name} was changed by somebody else, so it was not removed", err=True)
    if result.refused_steps:
        typer.echo(f"refused: {result.refused_steps} steps with a gradient that was not finite", err=True)
    if not result.finished:
        typer.echo(f"stopped after step {result.step}; go on with: asa train-mini --resume {result.outdir}")
        return
    best = f", best validation loss {result.best_val:.4f} at step {result.best_step}" if result.best_val else ""
    typer.echo(f"done: {result.step} steps{best}; written: {result.outdir}")
