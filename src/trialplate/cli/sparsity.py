"""`trialplate sparsity`: how few units carry the activations of a model, by task and layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trialplate.cli import study_inputs as inputs

if TYPE_CHECKING:
    import pandas as pd

    from trialplate.activations.sites import Point
    from trialplate.activations.study import Wanted
    from trialplate.models.causal_lm import CausalLM


def sparsity(
    model: inputs.Model = "embedded:neox-tiny",
    prompt: inputs.Prompt = None,
    dataset: inputs.Dataset = None,
    split: inputs.Split = "validation",
    num_docs: inputs.NumDocs = -1,
    probe_manifest: inputs.Manifest = None,
    task_id: inputs.TaskIds = None,
    layers: inputs.Layers = None,
    max_tokens: inputs.MaxTokens = 2048,
    threshold: inputs.Threshold = 0.0,
    covariance: Annotated[
        bool, typer.Option("--covariance", help="Also the dimension of the activations: about twice the time.")
    ] = False,
    output_dir: inputs.OutDir = Path("artifacts"),
    dtype: inputs.Dtype = "auto",
    device: inputs.Device = "cpu",
    seed: inputs.Seed = 0,
    online: inputs.Online = False,
    plot: inputs.Plot = True,
) -> None:
    """Measure how sparse activations are, at the hidden units of every MLP: shares above thresholds, concentration, units that never fire.

    One pass over all tasks, with and without the first token of each text. Writes a table a task, firing rates, Lorenz curves, meta.json and figures."""
    from trialplate.activations.study import Wanted
    from trialplate.cli.headlines import show
    from trialplate.cli.sparsity_tables import headline

    with inputs.told(), inputs.one_thread(device):
        lm = inputs.load_model(model, device, dtype, online)
        options = inputs.TextOptions(
            probe_manifest, inputs.split_list(task_id), prompt, dataset, split, num_docs, online
        )
        texts = inputs.read_texts(lm, options, max_tokens)
        points = inputs.chosen_points(lm, layers, "all")
        wanted = Wanted(inputs.POSITIONS, covariance=covariance, threshold=threshold)
        final, table = _study(lm, texts, points, output_dir, wanted, seed, plot)
        show(headline(table, threshold))
    typer.echo(f"written: {final}")


def _study(
    lm: CausalLM, texts: inputs.Texts, points: Sequence[Point], root: Path, wanted: Wanted, seed: int, plot: bool
) -> tuple[Path, pd.DataFrame]:
    """Measure and write: the folder, and all rows of sparsity."""
    import pandas as pd

    from trialplate.activations.artifacts import study_folder
    from trialplate.activations.study import run_study
    from trialplate.cli.sparsity_tables import lorenz_table, sparsity_table, units_table
    from trialplate.cli.study_figures import draw_figures

    positions, skip = inputs.positions_of(lm, texts), inputs.separators(lm)
    about = inputs.about_run("sparsity", lm, texts, seed, sites=[p.name for p in points])
    about |= {"threshold": wanted.threshold, "sampled_tokens": wanted.n_rows, "covariance": wanted.covariance}
    about["positions_of_units"] = {task: there[-1] for task, there in positions.items()}
    tables = []
    with study_folder(root, inputs.short_name(lm), "sparsity") as folder:
        after = inputs.progress("batches read")
        study = run_study(lm, texts.documents, points, wanted, seed, skip=skip, after=after)
        for task, usual in about["positions_of_units"].items():
            tables.append(sparsity_table(study, task, positions[task], seed))
            folder.table("sparsity", tables[-1], task)
            folder.table("units", units_table(study, task, usual), task)
            folder.table("lorenz", lorenz_table(study, task, usual), task)
        folder.meta({**about, "plan": study.plan.digest})
        if plot:
            draw_figures(folder)
    return folder.final, pd.concat(tables, ignore_index=True)
