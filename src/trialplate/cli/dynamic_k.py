"""`trialplate dynamic-k`: what a model loses, and gains in speed, when it runs with a part of its hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trialplate.cli import study_inputs as inputs

if TYPE_CHECKING:
    from trialplate.activations.sites import Point
    from trialplate.cli.dynamic_k_sweep import Sweep, Timing
    from trialplate.cli.dynamic_k_tables import DynamicKTables
    from trialplate.models.causal_lm import CausalLM

Kept = Annotated[
    list[str] | None,
    typer.Option(help="Shares of the units that stay, in (0, 1]; several may follow. Default: 0.1 0.2 0.3 0.5 0.7 1."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        help="Which units stay: topk (as many for every token, the default), threshold (those above a size), cett (as many as keep "
        "the output within a bound). Size and bound are set on a quarter of the texts, the others are scored. Several may follow."
    ),
]
Size = Annotated[
    float | None,
    typer.Option(
        min=0, help="A size instead of shares: units stay that write more than this, |h| times the norm of their row."
    ),
]


def dynamic_k(
    model: inputs.Model = "embedded:neox-tiny",
    prompt: inputs.Prompt = None,
    dataset: inputs.Dataset = None,
    split: inputs.Split = "validation",
    num_docs: inputs.NumDocs = 64,
    probe_manifest: inputs.Manifest = None,
    task_id: inputs.TaskIds = None,
    layers: inputs.Layers = None,
    max_tokens: inputs.MaxTokens = 2048,
    kept: Kept = None,
    rule: Rules = None,
    threshold: Size = None,
    scope: Annotated[
        str, typer.Option(help="all: the chosen layers together; layers: also each of them alone.")
    ] = "all",
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Also time decoding; wants a machine that does nothing else.")
    ] = False,
    kernel: Annotated[
        str, typer.Option(help="Of --speed: gather-numba (extra numba, float32 on a CPU), index (torch), mask.")
    ] = "gather-numba",
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that a round of --speed decodes.")] = 64,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds of --speed.")] = 20,
    output_dir: inputs.OutDir = Path("artifacts"),
    dtype: inputs.Dtype = "auto",
    device: inputs.Device = "cpu",
    seed: inputs.Seed = 0,
    online: inputs.Online = False,
    plot: inputs.Plot = True,
) -> None:
    """Score texts while only a share of the hidden units of every MLP stays, beside as many random units; and, with --speed, time it.

    All tasks are scored together, after the model's beginning token. Writes perplexity, bits a byte and divergence from the dense model by kept share."""
    from trialplate.cli.dynamic_k_sweep import Timing
    from trialplate.cli.dynamic_k_tables import headline
    from trialplate.cli.headlines import show

    with inputs.told(), inputs.one_thread(device):
        sweep = _sweep(kept, rule, threshold, scope, seed)
        timing = Timing(kernel, new_tokens, repeats) if speed else None  # type: ignore[arg-type]
        lm = inputs.load_model(model, device, dtype, online)
        options = inputs.TextOptions(
            probe_manifest, inputs.split_list(task_id), prompt, dataset, split, num_docs, online
        )
        texts = inputs.read_texts(lm, options, max_tokens, in_parts=True)
        points = inputs.chosen_points(lm, layers, "all")
        final, tables = _study(lm, texts, points, output_dir, sweep, timing, plot)
        show(headline(tables, sweep.timed_rule))
    typer.echo(f"written: {final}")


def _sweep(kept: Sequence[str] | None, rule: Sequence[str] | None, size: float | None, scope: str, seed: int) -> Sweep:
    """What the options ask for. InputError or ValueError for what is no share, rule or scope."""
    from trialplate.activations.quality import KEPT
    from trialplate.cli.dynamic_k_sweep import RULES, Sweep

    try:
        shares = tuple(dict.fromkeys(float(text) for text in inputs.split_list(kept))) or KEPT
    except ValueError as error:
        raise inputs.InputError(
            f"--kept: wanted shares such as 0.1 0.3 1, got {' '.join(inputs.split_list(kept))}"
        ) from error
    rules = tuple(dict.fromkeys(inputs.split_list(rule))) or ("topk",)
    if unknown := [name for name in rules if name not in RULES]:
        raise inputs.InputError(f"--rule: wanted some of {', '.join(RULES)}, got {unknown[0]!r}")
    if scope not in ("all", "layers"):
        raise inputs.InputError(f"--scope: wanted all or layers, got {scope!r}")
    if size is None:
        return Sweep(shares, rules, scope == "layers", seed)
    if kept or rule:
        raise inputs.InputError("--threshold is one size for all units; it goes with neither --kept nor --rule")
    return Sweep((), ("threshold",), scope == "layers", seed, size)


def _study(
    lm: CausalLM,
    texts: inputs.Texts,
    points: Sequence[Point],
    root: Path,
    sweep: Sweep,
    timing: Timing | None,
    plot: bool,
) -> tuple[Path, DynamicKTables]:
    """Measure and write: the folder and the tables."""
    from trialplate.activations.artifacts import study_folder
    from trialplate.cli.dynamic_k_sweep import (
        layers_of,
        require_kernel,
        run_sweep,
        time_decoding,
        with_prefix,
    )
    from trialplate.cli.dynamic_k_tables import DynamicKTables, quality_table, speed_table, split_texts
    from trialplate.cli.study_figures import draw_figures

    layers = layers_of(points)
    own = split_texts(with_prefix(lm, texts), texts.n_bytes, calibrate=sweep.calibrates)
    if timing is not None:
        require_kernel(lm, layers, sweep, timing)  # before minutes are spent
    about = inputs.about_run("dynamic-k", lm, texts, sweep.seed, layers=layers, sweep=asdict(sweep))
    about["texts"] = {"calibrate": len(own.calibration), "scored": len(own.scored), "begin_with": lm.prefix_id}
    about["separators"]["counted"] = True  # they are predicted like every other token
    with study_folder(root, inputs.short_name(lm), "dynamic-k") as folder:
        found = run_sweep(lm, own, layers, sweep)
        about["cett_bounds"] = [rule.asked for rule in found.rules.get("cett", ())]
        quality, null, speed = quality_table(found.quality), quality_table(found.by_chance), None
        folder.table("dynamic_k", quality)
        folder.table("dynamic_k_null", null)
        if timing is not None:
            timed, ceilings = time_decoding(lm, own, layers, sweep, timing, found.rules)
            speed = speed_table(timed, quality, ceilings)
            folder.table("dynamic_k_speed", speed)
            about["speed"] = [asdict(one) for one in timed]
        folder.meta(about)
        if plot:
            draw_figures(folder)
    return folder.final, DynamicKTables(quality, null, speed)
