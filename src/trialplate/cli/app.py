"""`trialplate`: read reports, study activations, train the embedded model again, list what `--model` knows. Judging is pytest's: `pytest evals`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trialplate import __version__
from trialplate.cli.capture import capture
from trialplate.cli.dynamic_k import dynamic_k
from trialplate.cli.inventory import inventory, seal
from trialplate.cli.plot import plot
from trialplate.cli.sae import coders
from trialplate.cli.si_modularity import si_modularity
from trialplate.cli.sparsity import sparsity
from trialplate.cli.study_inputs import joined_lists
from trialplate.cli.version import add_version

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
embedded = typer.Typer(help="The models that ship with the project.", no_args_is_help=True)
app.add_typer(embedded, name="embedded")
app.add_typer(coders, name="sae")
add_version(app, "trialplate", __version__)
app.command()(inventory)
app.command()(seal)
for study in (capture, sparsity, si_modularity, dynamic_k, plot):
    app.command()(study)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, such as reports/latest.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead.")] = False,
) -> None:
    """Print a report again. A run that was cut short is folded from its journal. Exit status 0 only if it passes."""
    from trialplate.cli.show import show
    from trialplate.report.store import ReportError, encode, load_run

    try:
        found = load_run(folder)
    except ReportError as e:
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(2) from e
    if json_:
        typer.echo(encode(found).decode(), nl=False)
    else:
        show(found, folder)
    raise typer.Exit(0 if found.pass_all else 1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a report."""
    import json

    from trialplate.report.store import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def metrics() -> None:
    """Print the metric catalogue as Markdown (docs/metrics.md)."""
    from trialplate.writers.catalogue import catalogue_page

    typer.echo(catalogue_page(), nl=False)


@app.command()
def models() -> None:
    """List the names that --model knows besides folders and hub ids."""
    from trialplate.models.catalog import CATALOG, EMBEDDED

    for name in EMBEDDED:
        typer.echo(f"{name:28} ships with the project")
    for name, entry in CATALOG.items():
        typer.echo(f"{name:28} {entry.hub_id}")


@embedded.command()
def train(
    outdir: Annotated[
        Path, typer.Option(help="Folder to write; must not exist. The shipped files are not touched.")
    ] = Path("runs/neox-tiny"),
    seed: Annotated[int, typer.Option(help="Seed of initialisation and data order; 1 is the shipped model's.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Train embedded:neox-tiny again: about 15 minutes on one CPU core. Writes nothing unless the model reaches its scores."""
    from trialplate.models.embedded_training import TargetsMissed, build
    from trialplate.models.errors import ModelError
    from trialplate.models.load import present_device
    from trialplate.models.spec import ModelSpec

    try:
        present_device(ModelSpec("embedded:neox-tiny", device=device))  # before minutes are spent on the corpus
        build(outdir, seed=seed, device=device, progress=lambda step, steps, text: typer.echo(f"{step}/{steps} {text}"))
    except (ModelError, TargetsMissed, OSError, ValueError) as e:
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(2) from e
    typer.echo(f"written: {outdir}")


@embedded.command("publish-asm")
def publish_asm(
    run: Annotated[Path, typer.Argument(help="Run folder of `asa train-mini`.")],
    outdir: Annotated[
        Path, typer.Option(help="Folder to write; must not exist. The shipped files are not touched.")
    ] = Path("runs/asm-tiny-published"),
) -> None:
    """Make embedded:asm-tiny of a training run: float16 weights, tokenizer, card with scores and a trigram baseline, log."""
    from asa.checkpoint import CheckpointError
    from trialplate.models.embedded_training.asm_tiny import publish

    try:
        document = publish(run, outdir)
    except (CheckpointError, OSError, ValueError) as e:
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(2) from e
    held = document["heldout"]
    typer.echo(
        f"written: {outdir}\nheld-out bits per byte {held['bits_per_byte']}, of a trigram model {held['trigram_bits_per_byte']}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; `arguments` as after its name, by default those of the process."""
    app(joined_lists(sys.argv[1:] if arguments is None else arguments))
