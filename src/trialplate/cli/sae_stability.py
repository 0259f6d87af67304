"""`trialplate sae stability`, `control`: do seeds agree, above chance, and above coders that cannot have learned anything?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_coders import CoderOptions, Order, description, order_of, training
from trialplate.cli.sae_headlines import controlled, stable
from trialplate.cli.sae_runs import progress, study, with_rows

if TYPE_CHECKING:
    from trialplate.sae.source import Subset

Statistic = Annotated[
    str, typer.Option(help="matched_cosine, mean_max_cosine or mutual_nearest: the similarity of two decoders.")
]
Absolute = Annotated[bool, typer.Option("--absolute", help="Opposite directions count as the same.")]


@grouped
def stability(
    ctx: typer.Context,
    rows: sae.RowOptions,
    run: sae.RunOptions,
    checkpoint: sae.Checkpoints = None,
    absolute: Absolute = False,
) -> None:
    """How alike at least three coders are that differ by seed alone: several similarities, each with its chance level.

    With rows, only latents that fire on them count, and what latents do on common tokens is compared too."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.conditions import Similarity
        from trialplate.sae.programs.given_stability import StabilityOptions, run_stability, stability_summary

        coders = dict(zip(sae.names_of(checkpoint), sae.read_coders(checkpoint, run.device), strict=True))
        first = next(iter(coders.values()))
        opened = sae.open_rows(rows, run, first) if sae.names_rows(rows) else None
        options = StabilityOptions(Similarity(absolute=absolute, seed=run.seed))
        config = {"options": options, "rows": None if opened is None else opened.about(), "n_coders": len(coders)}

        def work(_: Any) -> dict[str, Any]:
            if opened is None:
                return run_stability(options, coders)
            return with_rows(opened, run_stability(options, coders, opened.split(rows, run.seed)[1]))

        study(ctx, run, "stability", config, work, stability_summary, stable)


@grouped
def control(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    checkpoint: sae.Checkpoints = None,
    seeds: sae.Seeds = None,
    minimum_effect: Annotated[
        float, typer.Option(help="Least stability above chance that counts as more than significance.")
    ] = 0.1,
    random_model: Annotated[
        bool, typer.Option("--random-model", help="Also coders of the same seeds on a model with random weights.")
    ] = False,
    statistic: Statistic = "matched_cosine",
    absolute: Absolute = False,
    order: Order = "shared",
    keep_coders: Annotated[
        bool, typer.Option("--keep-coders", help="Keep every trained coder in the folder of the study.")
    ] = False,
) -> None:
    """Trained coders against random directions, untrained coders and, with --random-model, coders of a random model.

    With --checkpoint the given coders are judged; otherwise one coder a seed is trained first."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.conditions import Similarity
        from trialplate.sae.programs.control import (
            ControlOptions,
            compare_with_controls,
            control_summary,
            given_coders,
            run_control,
        )

        given = sae.read_coders(checkpoint, run.device) if checkpoint else []
        opened = sae.open_rows(rows, run, given[0] if given else None)
        base = given[0].config if given else description(coder, opened)
        numbers = tuple(range(len(given))) if given else sae.whole_numbers("--seeds", seeds, (0, 1, 2, 3, 4))
        similarity = Similarity(statistic, absolute, seed=run.seed)
        settings = training(coder, opened, base)
        options = ControlOptions(base, settings, numbers, order_of(order), minimum_effect, similarity)
        split = opened.split(rows, run.seed)
        config = {
            "options": options,
            "rows": opened.about(),
            "held_out": rows.held_out,
            "given": len(given),
            "random_model": random_model,
        }

        def work(folder: Any) -> dict[str, Any]:
            if given:
                trained = given_coders(dict(enumerate(given)), split[1])
                return with_rows(opened, compare_with_controls(options, trained, *split))
            place = folder.path / "coders" if keep_coders else None
            twin = _random_rows(opened, rows, run) if random_model else None
            found = run_control(options, *split, twin=twin, folder=place, device=run.device, after=progress)
            return with_rows(opened, found)

        study(ctx, run, "phase4a", config, work, control_summary, controlled)


def _random_rows(opened: sae.Opened, rows: sae.RowOptions, run: sae.RunOptions) -> tuple[Subset, Subset]:
    """The same texts at the same site of the model with random weights, split in the same way."""
    from trialplate.sae.source import from_model, split

    if opened.model is None:
        raise inputs.InputError(
            "--random-model wants a model to draw weights for: give --model-name in place of --rows"
        )
    twin = opened.model.random_twin(run.seed)
    found = from_model(
        twin,
        [list(ids) for ids in opened.documents],
        opened.site_in,
        opened.site_out,
        max_rows=rows.max_rows,
        seed=run.seed,
        skip=inputs.separators(twin),
    )
    return split(found, rows.held_out, run.seed)
