"""SAEBench on a coder in a local folder (cfg.json and sae_weights.safetensors): its command line takes published coders only.

Run by the interpreter that has `sae_lens` and `sae_bench`, which need not have this project: only the standard library and those two are imported.
    python saebench_local.py core|sparse_probing --checkpoint FOLDER --model-name M --hook-name H --output FOLDER [--device cpu] [--seed 42]"""

import argparse
import importlib
import sys
from typing import Any


def load(folder: str, model_name: str, hook_name: str, device: str) -> Any:
    """The coder with the names that SAEBench reads from its configuration."""
    sae = importlib.import_module("sae_lens").SAE.load_from_disk(folder, device=device)
    sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name = model_name, hook_name
    return sae


def core(sae: Any, name: str, asked: argparse.Namespace) -> Any:
    """Reconstruction, sparsity and what the model keeps, with the published numbers of batches."""
    return importlib.import_module("sae_bench.evals.core.main").multiple_evals(
        selected_saes=[(name, sae)],
        n_eval_reconstruction_batches=asked.reconstruction_batches,
        n_eval_sparsity_variance_batches=asked.sparsity_batches,
        eval_batch_size_prompts=16,
        compute_featurewise_density_statistics=True,
        compute_featurewise_weight_based_metrics=True,
        exclude_special_tokens_from_reconstruction=True,
        context_size=128,
        output_folder=asked.output,
        verbose=True,
        dtype="float32",
        device=asked.device,
        force_rerun=True,
    )


def sparse_probing(sae: Any, name: str, asked: argparse.Namespace) -> Any:
    """The data sets of sae-probes; every run has its own folder, so no result of another one is read."""
    main = importlib.import_module("sae_bench.evals.sparse_probing_sae_probes.main")
    settings = importlib.import_module("sae_bench.evals.sparse_probing_sae_probes.eval_config")
    config = settings.SparseProbingSaeProbesEvalConfig(
        model_name=asked.model_name,
        random_seed=asked.seed,
        results_path=f"{asked.output}/probes",
        model_cache_path=f"{asked.output}/activations",
    )
    return main.run_eval(config, [(name, sae)], asked.device, asked.output, force_rerun=True)


def main() -> None:
    """Exit status 1 where SAEBench came back without a result: it logs errors of a coder and goes on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("eval", choices=["core", "sparse_probing"])
    for name in ("checkpoint", "model-name", "hook-name", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--reconstruction-batches", type=int, default=200)
    parser.add_argument("--sparsity-batches", type=int, default=2000)
    asked = parser.parse_args()
    sae = load(asked.checkpoint, asked.model_name, asked.hook_name, asked.device)
    found = {"core": core, "sparse_probing": sparse_probing}[asked.eval](sae, "local", asked)
    if not found:
        sys.exit("SAEBench gave no result for this coder; its log above says why")


if __name__ == "__main__":
    main()
