"""`trialplate capture`: rows of activations to disk, or only what they sum up to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialplate.cli import study_inputs as inputs

if TYPE_CHECKING:
    from trialplate.activations.batches import Plan
    from trialplate.activations.sites import Point
    from trialplate.models.causal_lm import CausalLM


def capture(
    model: inputs.Model,
    probe_manifest: inputs.Manifest = None,
    task_id: inputs.TaskIds = None,
    prompt: inputs.Prompt = None,
    dataset: inputs.Dataset = None,
    split: inputs.Split = "validation",
    num_docs: inputs.NumDocs = -1,
    layers: inputs.Layers = None,
    site: Annotated[str, typer.Option(help="What a bare layer number or depth means.")] = "mlp_act",
    max_tokens: inputs.MaxTokens = 2048,
    output_dir: inputs.OutDir = Path("artifacts"),
    no_save: Annotated[bool, typer.Option("--no-save", help="Keep sums only: no rows on disk.")] = False,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows kept of every site, a uniform sample. Default: every token.")
    ] = None,
    store_dtype: Annotated[str, typer.Option(help="float32 or bfloat16, of the rows on disk.")] = "float32",
    dtype: inputs.Dtype = "auto",
    device: inputs.Device = "cpu",
    seed: inputs.Seed = 0,
    online: inputs.Online = False,
) -> None:
    """Read activations in one pass over all tasks: rows with their tokens in `rows/`, and counts and moments of every unit in a CSV."""
    with inputs.told(), inputs.one_thread(device):
        lm = inputs.load_model(model, device, dtype, online)
        options = inputs.TextOptions(
            probe_manifest, inputs.split_list(task_id), prompt, dataset, split, num_docs, online
        )
        texts = inputs.read_texts(lm, options, max_tokens)
        points = inputs.chosen_points(lm, layers, "25%,50%,75%", site)
        settings = {"max_rows": max_rows, "dtype": store_dtype, "seed": seed}
        final, n_tokens = _capture(lm, texts, points, output_dir, None if no_save else settings, seed)
    n_texts = sum(map(len, texts.documents.values()))
    typer.echo(f"{n_tokens:,} tokens of {n_texts:,} texts read at {', '.join(p.name for p in points)}")
    typer.echo(f"written: {final}")


def _capture(
    lm: CausalLM, texts: inputs.Texts, points: list[Point], root: Path, rows: dict[str, Any] | None, seed: int
) -> tuple[Path, int]:
    from contextlib import nullcontext

    from trialplate.activations.artifacts import study_folder
    from trialplate.activations.capture import Collector, collect, plan_for
    from trialplate.activations.collectors.moments import UnitMoments
    from trialplate.activations.shards import writing

    plan = plan_for(lm, texts.documents, skip=inputs.separators(lm))
    about = inputs.about_run("capture", lm, texts, seed, sites=[p.name for p in points], plan=plan.digest, rows=rows)
    with study_folder(root, inputs.short_name(lm), "capture") as folder:
        sums = {(task, p.name): UnitMoments() for task in texts.documents for p in points}
        saved = nullcontext() if rows is None else writing(folder.path / "rows", plan, about, **rows)
        with saved as writer:
            table: dict[tuple[str, str], list[Collector]] = {
                key: [moments, *([writer.collector(key[1], key[0])] if writer is not None else [])]
                for key, moments in sums.items()
            }
            collect(lm, plan, points, table, after=inputs.progress("batches read", len(plan.batches)))
        for task in texts.documents:
            folder.table("units", _units(plan, task, points, sums), task)
        folder.meta(about)
    return folder.final, plan.total


def _units(plan: Plan, task: str, points: list[Point], sums: dict[tuple[str, str], Any]) -> Any:
    """Rates and moments of every unit as a frame."""
    import numpy as np
    import pandas as pd

    parts = []
    for point in points:
        found = sums[task, point.name].result("all")
        parts.append(
            pd.DataFrame(
                {
                    "task_id": task,
                    "layer": point.layer,
                    "site": point.name,
                    "positions": "all",
                    "unit": np.arange(len(found.mean)),
                    "rate": found.rate,
                    "mean": found.mean,
                    "sd": np.sqrt(found.m2 / found.n),
                    "mean_abs": found.abs_sum / found.n,
                    "n_tokens": plan.n_tokens[task],
                }
            )
        )
    return pd.concat(parts, ignore_index=True).astype({"layer": "Int64"})
