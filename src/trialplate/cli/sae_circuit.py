"""`trialplate sae circuit`: do coders recover a circuit that is known?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_headlines import recovered
from trialplate.cli.sae_runs import progress, study

if TYPE_CHECKING:
    import numpy as np

    from trialplate.sae.programs.circuit import Given
    from trialplate.sae.source import Source


@dataclass(frozen=True)
class PlantedOptions:
    """The circuit that is planted where no embedding is given, and the coders that are trained on its rows."""

    n: Annotated[int, typer.Option(min=5, help="Numbers of the planted circuit.")] = 59
    d: Annotated[int, typer.Option(min=4, help="Channels of the planted circuit.")] = 32
    n_rows: Annotated[int, typer.Option(min=100, help="Rows that are planted.")] = 20_000
    d_sae: Annotated[int, typer.Option(min=1, help="Latents of the coders that are trained.")] = 32
    k: Annotated[int, typer.Option(min=1, help="Their active latents.")] = 3
    steps: Annotated[int, typer.Option(min=1, help="Their steps of training.")] = 400
    seeds: sae.Seeds = None


@grouped
def circuit(
    ctx: typer.Context,
    planted: PlantedOptions,
    run: sae.RunOptions,
    checkpoint: sae.Checkpoints = None,
    embedding: Annotated[
        Path | None,
        typer.Option(
            help="A .npy file [n, d]: the embedding of the numbers 0 to n - 1, in order, of the model that coders read."
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="Activations of that model (.npy, .safetensors, or a folder), by which dead latents are told."
        ),
    ] = None,
    n_frequencies: Annotated[int, typer.Option(min=1, help="Frequencies that the circuit is known to have.")] = 4,
    least_overlap: Annotated[
        float, typer.Option(help="Least overlap above chance, of the lower bound over coders.")
    ] = 0.1,
    least_recall: Annotated[
        float, typer.Option(help="Least share of the circuit's planes that coders can write.")
    ] = 0.8,
    draws: Annotated[int, typer.Option(min=20, help="Random orders of the numbers, for the null.")] = 200,
) -> None:
    """Coders against the circuit of modular addition: positive controls first, then the embedding against random orders, then the coders against chance.

    Without --embedding a circuit is planted and coders are trained on it. A coder that cannot be read makes the result incomplete; copies count once."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.circuit import CircuitOptions, circuit_summary, run_circuit

        options = CircuitOptions(
            n_frequencies, least_overlap=least_overlap, least_recall=least_recall, draws=draws, seed=run.seed
        )
        config = {
            "options": options,
            "planted": planted if embedding is None else None,
            "n_given": len(checkpoint or ()),
        }

        def work(_: Any) -> dict[str, Any]:
            if embedding is None:
                return run_circuit(options, *_planted(planted, n_frequencies, run, checkpoint))
            held_out = None if rows is None else sae.open_rows(sae.RowOptions(rows=rows), run).rows
            return run_circuit(options, _embedding(embedding), _read(checkpoint, run.device), held_out)

        study(ctx, run, "circuit", config, work, circuit_summary, recovered)


def _planted(
    options: PlantedOptions, n_frequencies: int, run: sae.RunOptions, paths: Sequence[Path] | None
) -> tuple[np.ndarray, Given, Source]:
    """A planted circuit, and the given coders or one trained on its rows for every seed."""
    import numpy as np
    import torch

    from trialplate.sae.config import CoderConfig
    from trialplate.sae.programs.arms import over_seeds, train_arms
    from trialplate.sae.programs.circuit import Given
    from trialplate.sae.settings import TrainingSettings
    from trialplate.sae.source import from_tensor, split
    from trialplate.tasks.planted_circuit import planted_circuit

    made = planted_circuit(options.n, options.d, n_frequencies, options.n_rows, np.random.default_rng(run.seed))
    rows, held_out = split(from_tensor(torch.from_numpy(made.rows), name="planted circuit"), 0.2, run.seed)
    if paths:
        return made.embedding, _read(paths, run.device), held_out
    coder = CoderConfig("topk", d_in=options.d, d_sae=options.d_sae, k=options.k)
    settings = TrainingSettings(steps=options.steps, batch_size=256, lr=3e-3)
    arms = over_seeds(coder, settings, sae.whole_numbers("--seeds", options.seeds, (0, 1, 2)))
    trained = train_arms(arms, rows, held_out, device=run.device, after=progress).of(arms)
    return made.embedding, Given({f"seed {seed}": one.coder for seed, one in trained.items()}), held_out


def _read(paths: Sequence[Path] | None, device: str) -> Given:
    """The coders that can be read, and why the others cannot."""
    from trialplate.sae.errors import CoderError
    from trialplate.sae.formats import load_coder
    from trialplate.sae.programs.circuit import Given

    coders, unread = {}, {}
    for name, path in zip(sae.names_of(paths), paths or (), strict=True):
        try:
            coders[name] = load_coder(path, device=device)
        except (CoderError, OSError) as error:
            unread[name] = " ".join(str(error).split())
    return Given(coders, unread)


def _embedding(path: Path) -> np.ndarray:
    found = sae.read_array("--embedding", path)
    if found.ndim != 2:
        raise inputs.InputError(f"--embedding {path}: wanted [n, d], a row a number in order; got {list(found.shape)}")
    return found
