"""CE-Bench on a coder in a local folder: its script takes published coders only, so the coder is handed to the function below its command line.

Run by the interpreter that has what CE-Bench needs, beside a clone of its repository; only the standard library and those packages are imported.
    python cebench_local.py --repository FOLDER --checkpoint FOLDER --model-name M --hook-name H [--pairs FILE.jsonl] [--max-rows N] [--device cpu]
Results are those of CE-Bench as released, in interpretability_eval/local/coder/results.json of the working folder: maxima of z over the latents,
which grow with their number, and an independence term against zero."""

import argparse
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def rows_of(path: str | None, max_rows: int | None) -> list[Any]:
    """The pairs of a local file, or of the hub's data set."""
    if path is None:
        rows: Any = importlib.import_module("datasets").load_dataset("GulkoA/contrastive-stories-v4", split="train")
    else:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [{"subject_title": row.get("subject"), **row} for row in rows]
    n = len(rows) if max_rows is None else min(max_rows, len(rows))
    return [rows[i] for i in range(n)]


def stand_in(name: str, module: ModuleType | Any) -> None:
    """A module under a name that CE-Bench still imports; its parents are empty where they are gone."""
    parts = name.split(".")
    for n in range(1, len(parts)):
        sys.modules.setdefault(".".join(parts[:n]), ModuleType(parts[n - 1]))
    sys.modules.setdefault(name, module)


class Stopwatch:
    """What CE-Bench tells the time with, where its package is not there; nothing is measured by it."""

    def __init__(self, **ignored: Any) -> None:
        """Takes what the package's own takes."""

    def lap(self, *ignored: Any) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def with_old_names() -> None:
    """CE-Bench was written for an older SAELens, and for a package of one class."""
    if (
        importlib.util.find_spec("sae_lens.toolkit") is None
        and importlib.util.find_spec("sae_lens.loading") is not None
    ):
        moved = importlib.import_module("sae_lens.loading.pretrained_saes_directory")
        stand_in("sae_lens.toolkit.pretrained_saes_directory", moved)
    if importlib.util.find_spec("stw") is None:
        watch: Any = ModuleType("stw")
        watch.Stopwatch = Stopwatch
        stand_in("stw", watch)


def main() -> None:
    """Exit status other than 0 where CE-Bench raises, or there is no pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("repository", "checkpoint", "model-name", "hook-name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pairs")
    parser.add_argument("--max-rows", type=int)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    with_old_names()
    sys.path.insert(0, asked.repository)
    bench: Any = importlib.import_module("ce_bench.CE_Bench")
    sae = importlib.import_module("sae_lens").SAE.load_from_disk(asked.checkpoint, device=asked.device)
    sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name = asked.model_name, asked.hook_name
    importlib.import_module("sae_bench.sae_bench_utils.general_utils").load_and_format_sae("local", sae, asked.device)
    settings = importlib.import_module("sae_bench.evals.autointerp.eval_config")
    config = settings.AutoInterpEvalConfig(model_name=asked.model_name, llm_dtype="float32")
    rows = rows_of(asked.pairs, asked.max_rows)
    if not rows:
        sys.exit("no pair of stories to read")
    bench.load_sae = lambda release, name, device, dtype: (name, sae, None)  # what its command line would have loaded
    bench.run_eval_once(rows, asked.device, "local", "coder", config)


if __name__ == "__main__":
    main()
