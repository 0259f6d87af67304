"""`trialplate sae ablate`, `calibrate-l0`, `assign`, `frontier`, `scaling`: studies that train grids of coders over seeds on the rows of one site or more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_coders import CoderOptions, Order, description, order_of, training
from trialplate.cli.sae_headlines import ablated, assigned, calibrated, on_frontier, scaled
from trialplate.cli.sae_runs import progress, study, with_rows

Ks = Annotated[list[str] | None, typer.Option("--k-values", help="Values of k; several may follow.")]
Widths = Annotated[list[str] | None, typer.Option("--d-sae-values", help="Numbers of latents; several may follow.")]
Keep = Annotated[bool, typer.Option("--keep-coders", help="Keep every trained coder in the folder of the study.")]
Program = Callable[..., dict[str, Any]]


@grouped
def ablate(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    k_values: Ks = None,
    d_sae_values: Widths = None,
    seeds: sae.Seeds = None,
    order: Order = "shared",
    keep_coders: Keep = False,
) -> None:
    """Vary k, the width, or both, one at a time: explained variance and stability over seeds, each against chance for its own shape."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.ablate import AblationOptions, ablation_summary, run_ablation

        opened = sae.open_rows(rows, run)
        base = description(coder, opened)
        options = AblationOptions(
            base,
            training(coder, opened, base),
            sae.whole_numbers("--k-values", k_values, ()),
            sae.whole_numbers("--d-sae-values", d_sae_values, ()),
            sae.whole_numbers("--seeds", seeds, (0, 1, 2)),
            order_of(order),
        )
        _study(ctx, rows, run, opened, "ablation", options, (run_ablation, ablation_summary, ablated), keep_coders)


@grouped
def calibrate_l0(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    k_values: Ks = None,
    ev_floor: Annotated[float, typer.Option(help="Least explained variance, of the lower bound over seeds.")] = 0.5,
    min_adjusted: Annotated[
        float, typer.Option(help="The lower bound of stability above chance must exceed this.")
    ] = 0.0,
    seeds: sae.Seeds = None,
    confirm_seeds: Annotated[
        list[str] | None, typer.Option("--confirm-seeds", help="Seeds that train the chosen k again; none of --seeds.")
    ] = None,
    confirm_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the confirmation; by default as in the search.")
    ] = None,
    order: Order = "shared",
    keep_coders: Keep = False,
) -> None:
    """Choose k by a floor of explained variance and by stability, and confirm it with seeds that had no part in the choice."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.calibrate import CalibrationOptions, calibration_summary, run_calibration

        opened = sae.open_rows(rows, run)
        base = description(coder, opened)
        settings = training(coder, opened, base)
        options = CalibrationOptions(
            base,
            settings,
            sae.whole_numbers("--k-values", k_values, (4, 8, 16, 32)),
            ev_floor,
            min_adjusted,
            sae.whole_numbers("--seeds", seeds, (0, 1, 2)),
            sae.whole_numbers("--confirm-seeds", confirm_seeds, (1000, 1001, 1002, 1003, 1004)),
            None if confirm_steps is None else settings.with_(steps=confirm_steps),
            order_of(order),
        )
        parts = (run_calibration, calibration_summary, calibrated)
        _study(ctx, rows, run, opened, "l0_calibration", options, parts, keep_coders)


@grouped
def assign(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    lambdas: Annotated[
        list[str] | None, typer.Option("--lambdas", help="Strengths of the pull; 0 is always among them.")
    ] = None,
    seeds: Annotated[
        list[str] | None, typer.Option("--seeds", help="Seeds of the references, one a family; at least 3.")
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Coders of a family that are pulled to its reference.")] = 1,
    ev_floor: Annotated[float, typer.Option(help="Least explained variance, of the lower bound over families.")] = 0.5,
    max_ev_drop: Annotated[float, typer.Option(help="Most explained variance that a pull may cost.")] = 0.05,
    refresh: Annotated[int, typer.Option(min=1, help="Steps between matchings with the reference.")] = 20,
    keep_coders: Keep = False,
) -> None:
    """Pull coders to a reference, and see whether coders that have no reference in common become more alike."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.assign import AssignmentOptions, Family, assignment_summary, run_assignment

        opened = sae.open_rows(rows, run)
        base = description(coder, opened)
        references = sae.whole_numbers("--seeds", seeds, (0, 1, 2))
        first = max(references) + 1
        families = tuple(
            Family(seed, tuple(range(first + i * members, first + (i + 1) * members)))
            for i, seed in enumerate(references)
        )
        strengths = tuple(dict.fromkeys((0.0, *sae.decimal_numbers("--lambdas", lambdas, (0.05, 0.2)))))
        options = AssignmentOptions(
            base, training(coder, opened, base), strengths, families, ev_floor, max_ev_drop, refresh
        )
        _study(
            ctx, rows, run, opened, "assignment", options, (run_assignment, assignment_summary, assigned), keep_coders
        )


@grouped
def frontier(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    architectures: Annotated[
        list[str] | None,
        typer.Option("--architectures", help="relu topk batchtopk jumprelu routed; several may follow."),
    ] = None,
    l0_targets: Annotated[
        list[str] | None, typer.Option("--l0-targets", help="Active latents a token; several may follow.")
    ] = None,
    seeds: sae.Seeds = None,
    tolerance: Annotated[
        float, typer.Option(help="Share of its target by which the L0 of every seed may differ.")
    ] = 0.1,
    order: Order = "shared",
    keep_coders: Keep = False,
) -> None:
    """Architectures at one L0 over seeds, compared seed by seed; one that misses the target is shown and not ranked."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.frontier import FrontierOptions, frontier_summary, run_frontier

        opened = sae.open_rows(rows, run)
        base = description(replace(coder, architecture="topk"), opened)
        options = FrontierOptions(
            base,
            training(coder, opened, base),
            tuple(sae.entries("--architectures", architectures)) or ("topk", "batchtopk", "jumprelu", "relu"),
            sae.decimal_numbers("--l0-targets", l0_targets, (float(base.k or 1),)),
            sae.whole_numbers("--seeds", seeds, (0, 1, 2)),
            tolerance,
            coder.n_experts,
            order=order_of(order),
        )
        _study(ctx, rows, run, opened, "frontier", options, (run_frontier, frontier_summary, on_frontier), keep_coders)


@grouped
def scaling(
    ctx: typer.Context,
    rows: sae.RowOptions,
    coder: CoderOptions,
    run: sae.RunOptions,
    token_budgets: Annotated[
        list[str] | None,
        typer.Option("--token-budgets", help="Different tokens to train on, ascending; several may follow."),
    ] = None,
    hook_layers: Annotated[
        list[str] | None,
        typer.Option("--hook-layers", help="Layers or sites, in place of --hook-name; several may follow."),
    ] = None,
    site: Annotated[str, typer.Option("--layer-site", help="What a bare layer number or depth means.")] = "resid_post",
    d_sae_values: Widths = None,
    seeds: sae.Seeds = None,
    passes: Annotated[float, typer.Option(help="How often every token of a budget is read.")] = 1.0,
    order: Order = "shared",
    keep_coders: Keep = False,
) -> None:
    """How error falls with tokens and with width: slopes with intervals over seeds; a grid with a hole is not fitted."""
    with sae.told(), inputs.one_thread(run.device):
        from trialplate.sae.programs.scaling import ScalingOptions, run_scaling, scaling_summary

        opened = sae.open_sites(rows, run, sae.entries("--hook-layers", hook_layers), site)
        first = next(iter(opened.values()))
        base = description(coder, first)
        options = ScalingOptions(
            base,
            training(coder, first, base),
            sae.whole_numbers("--token-budgets", token_budgets, (10_000, 30_000)),
            sae.whole_numbers("--d-sae-values", d_sae_values, (base.d_sae,)),
            sae.whole_numbers("--seeds", seeds, (0, 1, 2)),
            passes,
            run.seed,
            order_of(order),
        )
        splits = {name: one.split(rows, run.seed) for name, one in opened.items()}

        def program(_: Any, *args: Any, **how: Any) -> dict[str, Any]:
            return run_scaling(options, splits, **how)

        _study(ctx, rows, run, first, "scaling", options, (program, scaling_summary, scaled), keep_coders)


def _study(
    ctx: typer.Context,
    rows: sae.RowOptions,
    run: sae.RunOptions,
    opened: sae.Opened,
    role: str,
    options: Any,
    parts: tuple[Program, Callable[[Mapping[str, Any]], str], Callable[[Mapping[str, Any]], Any]],
    keep: bool,
) -> None:
    """Run a program on the rows, split into those that are trained on and those held out, and write what it says."""
    program, summary, headline = parts
    split = opened.split(rows, run.seed)
    config = {"options": options, "rows": opened.about(), "held_out": rows.held_out}

    def work(folder: Any) -> dict[str, Any]:
        place = folder.path / "coders" if keep else None
        return with_rows(opened, program(options, *split, folder=place, device=run.device, after=progress))

    study(ctx, run, role, config, work, summary, headline)
