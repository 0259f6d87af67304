"""`trialplate sae train`: coders on rows, many at once on one stream of batches, into folders that SAELens reads too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.headlines import Headline
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_coders import CoderOptions, description, training
from trialplate.cli.sae_runs import cell, study, with_rows

if TYPE_CHECKING:
    from trialplate.sae.config import CoderConfig
    from trialplate.sae.settings import TrainingSettings
    from trialplate.sae.training import Trained
    from trialplate.sae.training_log import Progress

MOST_OFF = 0.1
"""Share of its target by which a coder's L0 may be off before it is said."""
STOPPED = 130
"""Exit status after Ctrl-C; what was trained up to the last checkpoint goes on with --resume."""


@grouped
def train(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    architectures: Annotated[
        list[str] | None,
        typer.Option(
            "--architectures", help="Several of relu topk batchtopk jumprelu routed, in place of --architecture."
        ),
    ] = None,
    d_sae_values: Annotated[list[str] | None, typer.Option("--d-sae-values", help="Several widths.")] = None,
    k_values: Annotated[list[str] | None, typer.Option("--k-values", help="Several k.")] = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option("--seeds", help="One coder each: initial weights, and with --order own the order of the rows."),
    ] = None,
    order: Annotated[str, typer.Option(help="shared or own: how seeds see the rows.")] = "shared",
    coders: Annotated[
        Path | None, typer.Option(help="Folder of the coders, a folder each; by default `coders` in the output folder.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps from one checkpoint to the next.")] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with coders whose folders are there, to the same bits.")
    ] = False,
) -> None:
    """Train sparse autoencoders, or transcoders where --hook-name-out names another site. Every number is of rows that were never trained on.

    Each coder has a folder with cfg.json and sae_weights.safetensors (SAELens), its curves in metrics.ndjson, and what it was trained on in training.json."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.cli.sae_coders import order_of
        from trialplate.sae.programs.results import plain
        from trialplate.sae.training import train as train_all

        opened = sae.open_rows(rows, run)
        plans = _plans(coder, opened, (architectures, d_sae_values, k_values, seeds), order_of(order))
        place = coders or run.output_dir / "coders"
        config = {"plans": [list(plan) for plan in plans], "rows": opened.about(), "held_out": rows.held_out}
        split = opened.split(rows, run.seed)

        def work(_: Any) -> dict[str, Any]:
            with _watched() as after:
                found = train_all(
                    plans,
                    *split,
                    folder=place,
                    resume=resume,
                    checkpoint_every=checkpoint_every,
                    device=run.device,
                    after=after,
                )
            result = with_rows(opened, plain(_result(found, split)))
            for line in warnings_of(result):
                typer.echo(f"warning: {line}", err=True)
            return result

        try:
            study(ctx, run, "training", config, work, _summary, lambda found: _headline(found, place))
        except KeyboardInterrupt:
            typer.echo(f"stopped; go on with the same command and --resume: coders are in {place}", err=True)
            raise typer.Exit(STOPPED) from None


def _plans(
    options: CoderOptions, opened: sae.Opened, lists: tuple[list[str] | None, ...], order: str
) -> list[tuple[CoderConfig, TrainingSettings]]:
    """Every architecture at every width, k and seed. One that has no k is trained once for each width and seed, not once a k."""
    architectures = sae.entries("--architectures", lists[0]) or [options.architecture or "topk"]
    widths: tuple[int | None, ...] = sae.whole_numbers("--d-sae-values", lists[1], ()) or (None,)
    ks: tuple[int | None, ...] = sae.whole_numbers("--k-values", lists[2], ()) or (None,)
    seeds = sae.different("--seeds", sae.whole_numbers("--seeds", lists[3], (0,)))
    plans: list[tuple[CoderConfig, TrainingSettings]] = []
    for name, m, k, seed in product(architectures, widths, ks, seeds):
        with_k = name in ("topk", "batchtopk", "routed")
        wanted = {"d_sae": m, "k": k if with_k else None}
        changes: dict[str, Any] = {n: value for n, value in wanted.items() if value is not None}
        config = description(options, opened, architecture=name, **changes)
        more = {"l0_target": float(k)} if k is not None and not with_k else {}
        data = {"data_seed": seed} if order == "own" else {}
        plans.append((config, training(options, opened, config, architectures, init_seed=seed, **data, **more)))
    return plans


@contextmanager
def _watched() -> Iterator[Callable[[Progress], None] | None]:
    """Bars where somebody looks, silence elsewhere: metrics.ndjson has it all."""
    import sys

    from trialplate.sae.training_log import rich_progress

    if sys.stdout.isatty():
        with rich_progress() as after:
            yield after
    else:
        yield None


def _result(found: list[Trained], split: tuple[Any, Any]) -> dict[str, Any]:
    from trialplate.sae.formats import coder_digest

    return {
        "subject": {
            "rows": split[0].digest,
            "held_out": split[1].digest,
            "coders": {one.name: coder_digest(one.coder) for one in found},
        },
        "coders": [
            {
                "name": one.name,
                "architecture": one.coder.config.architecture,
                "d_sae": one.coder.config.d_sae,
                "k": one.coder.config.k,
                "seed": one.settings.init_seed,
                "held_out": dict(one.held_out),
                "settings": one.settings,
            }
            for one in found
        ],
    }


def _summary(result: Mapping[str, Any]) -> str:
    lines = ["# Coders that were trained", "", "| coder | EV | L0 | dead | L0 in training |", "|---|---|---|---|---|"]
    for one in result["coders"]:
        held = one["held_out"]
        numbers = (held["ev"], held["l0"], held["dead_frac"], held["l0_train"])
        lines.append(f"| {one['name']} | {' | '.join(f'{number:.4g}' for number in numbers)} |")
    warned = warnings_of(result)
    more = ["", *(f"- warning: {line}" for line in warned)] if warned else []
    return "\n".join([*lines, "", "On held-out rows; explained variance is about the mean.", *more])


def warnings_of(result: Mapping[str, Any]) -> list[str]:
    """What a look at the table may miss, a line each: coders that explain less than the mean does, of which no latent fires, or whose L0 is more than
    10 % off the target that they were driven to. All on held-out rows."""
    found = []
    for one in result["coders"]:
        held, target = one["held_out"], one["settings"]["l0_target"]
        if held["dead_frac"] >= 1:
            found.append(f"{one['name']}: none of its latents ever fires")
        if held["ev"] < 0:
            found.append(
                f"{one['name']}: its explained variance is {held['ev']:.3g}, so the mean of the rows reconstructs better; train longer, or look at --lr"
            )
        if target is not None and abs(held["l0"] / target - 1) > MOST_OFF:
            off = held["l0"] / target - 1
            found.append(
                f"{one['name']}: its L0 is {held['l0']:.3g}, {off:+.0%} of the target {target:g}, so do not compare it at that L0; train longer"
            )
    return found


def _headline(result: Mapping[str, Any], place: Path) -> Headline:
    rows = [
        [one["name"], *(cell(one["held_out"][name]) for name in ("ev", "l0", "dead_frac", "l0_train"))]
        for one in result["coders"]
    ]
    n = result["coders"][0]["held_out"]["n_rows"]
    columns = ("coder", "EV", "L0", "never on", "L0 in training")
    return Headline(f"Coders on {n:,} held-out rows", columns, rows, (f"coders are in {place}",))
