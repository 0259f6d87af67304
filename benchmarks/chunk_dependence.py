"""How much of what a model computes hangs on the write chunk size and the write mode alone.

    python benchmarks/chunk_dependence.py [--model CHECKPOINT]

Without a model: one attention layer, drawn anew and untrained, width 256, 8 heads, 16 slots, slotspace 32, everything else at its default, on
normal x [2, 512, 256]. Shown is |y - y'| / |y'|, Euclidean norms over the whole output, mean and largest over seeds.

With a model (a checkpoint file, a folder, an embedded name; one that was trained on the corpus): windows of held-out documents, read with the
chunk size that it was trained with, with others, and in exact mode. Shown are the loss, the mean divergence of the next token's distribution from
that of the trained chunk size, and the share of positions at which another token comes first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from asa import AddressedStateAttention, ASMLanguageModel
from asa.checkpoint import load_checkpoint
from trialplate.models.resolve import resolve
from trialplate.models.spec import ModelSpec
from trialplate.tasks.corpus import heldout_documents
from trialplate.training_data.settings import DataSettings
from trialplate.training_data.tokenizer import find_tokens

WIDTH, HEADS, SLOTS, SLOTSPACE = 256, 8, 16, 32
ROWS, LENGTH, SEEDS = 2, 512, 8
CHUNKS = (1, 8, 16, 32, 64, 128, 256, 512)
PAIRS = ((16, 32), (32, 128), (64, 128), (128, 256), (256, 512))
DOCUMENTS, DOCUMENT_SEED = 1000, 40_000


def outputs(seed: int) -> dict[int | str, torch.Tensor]:
    """The output of one layer on one input, by chunk size and as "exact"."""
    torch.manual_seed(seed)
    layer = AddressedStateAttention(WIDTH, HEADS, SLOTS, slotspace_dim=SLOTSPACE).eval()
    x = torch.randn(ROWS, LENGTH, WIDTH)
    found: dict[int | str, torch.Tensor] = {}
    with torch.no_grad():
        for chunk in CHUNKS:
            with written([layer], chunk, "reference"):
                found[chunk] = layer(x)[0]
        with written([layer], 0, "exact"):
            found["exact"] = layer(x)[0]
    return found


@contextmanager
def written(layers: Sequence[AddressedStateAttention], chunk: int, mode: str) -> Iterator[None]:
    """Layers with another chunk size and mode."""
    before = [(layer.write_chunk_size, layer.write_mode) for layer in layers]
    try:
        for layer in layers:
            layer.write_chunk_size, layer.write_mode = chunk, mode
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.write_chunk_size, layer.write_mode = old


def distance(y: torch.Tensor, other: torch.Tensor) -> float:
    """Relative to `other`."""
    return ((y - other).norm() / other.norm()).item()


def spread(values: list[float]) -> str:
    """Mean and largest."""
    mean, largest = sum(values) / len(values), max(values)
    return f"{mean:.1e} | {largest:.1e}" if largest < 1e-4 else f"{mean:.3f} | {largest:.3f}"


def show_layer() -> None:
    """Both tables of an untrained layer."""
    runs = [outputs(seed) for seed in range(SEEDS)]
    print(f"| chunk size | difference from the exact mode, mean of {SEEDS} seeds | largest |\n|--:|--:|--:|")
    for chunk in CHUNKS:
        print(f"| {chunk} | {spread([distance(run[chunk], run['exact']) for run in runs])} |")
    print("\n| chunk sizes | difference from the second, mean | largest |\n|---|--:|--:|")
    for one, other in PAIRS:
        print(f"| {one} and {other} | {spread([distance(run[one], run[other]) for run in runs])} |")


def show_model(name: str) -> None:
    """What another chunk size does to a trained model."""
    source = resolve(ModelSpec(name))
    model = load_checkpoint(source.checkpoint or source.path, dtype=torch.float32).model
    stream = find_tokens(DataSettings(), online=False).stream(heldout_documents(DOCUMENTS, DOCUMENT_SEED))
    windows = stream[: len(stream) // model.max_seq_len * model.max_seq_len].view(-1, model.max_seq_len)
    trained, length = model.layers[0].write_chunk_size, model.max_seq_len
    others = [(chunk, "reference") for chunk in CHUNKS if chunk <= length and chunk != trained]
    settings = [(trained, "reference"), *others, (0, "exact")]
    print(f"{len(windows)} windows of {length} tokens\n")
    print("| chunk size | loss, nats per token | divergence, nats | another first token |\n|---|--:|--:|--:|")
    for (chunk, mode), (loss, divergence, changed) in zip(settings, compared(model, windows, settings), strict=True):
        what = "exact mode" if mode == "exact" else f"{chunk}, as trained" if chunk == trained else str(chunk)
        print(f"| {what} | {loss:.4f} | {divergence:.1e} | {changed:.1%} |")


@torch.no_grad()
def compared(model: ASMLanguageModel, windows: torch.Tensor, settings: list[tuple[int, str]]) -> list[list[float]]:
    """Loss, divergence from the first setting, and share of other first tokens: means over all predictions, for each setting."""
    totals = torch.zeros(len(settings), 3, dtype=torch.float64)
    for rows in windows.split(16):
        first = None
        for total, (chunk, mode) in zip(totals, settings, strict=True):
            with written(model.layers, chunk, mode):  # type: ignore[arg-type]
                logp = torch.log_softmax(model(rows[:, :-1]).double(), dim=-1)
            first = logp if first is None else first
            total[0] -= logp.gather(-1, rows[:, 1:, None]).sum()
            total[1] += (first.exp() * (first - logp)).sum()
            total[2] += (first.argmax(-1) != logp.argmax(-1)).sum()
    return (totals / windows[:, 1:].numel()).tolist()


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a trained model instead of a layer")
    name = parser.parse_args().model
    torch.set_num_threads(1)
    if name is None:
        show_layer()
    else:
        show_model(name)


if __name__ == "__main__":
    main()
