"""Does reading a million tokens at a hundred layers stay flat in memory and linear in time? A random GPT-NeoX of 100 layers, 16 wide, texts of 128 tokens.

python benchmarks/activation_scale.py [--tokens 1000000]

Counts, four moments, shapes, sums by cluster, magnitudes and a sample of rows are kept at the hidden units of every layer. One thread, CPU seconds; the
resident set is read after every tenth of the tokens. Exits with 1 where memory grows by more than 2 % after the first tenth, or where the last tenth
takes more than 1.25 times the second."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trialplate.activations.capture import collect, plan_for
from trialplate.activations.sites import choose
from trialplate.activations.study import Wanted, watch
from trialplate.models.causal_lm import CausalLM
from trialplate.models.spec import ModelSpec
from trialplate.models.tokenizers import byte_tokenizer

LAYERS, WIDTH, LENGTH = 100, 16, 128


def deep() -> CausalLM:
    """Random weights, a hundred layers."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=257, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=4 * WIDTH, max_position_embeddings=LENGTH
    )  # fmt: skip
    return CausalLM(ModelSpec("hundred-layers"), GPTNeoXForCausalLM(config), byte_tokenizer())


def resident_mib() -> float:
    """The resident set now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Print the curve; exit status as above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    n_texts = parser.parse_args().tokens // LENGTH
    torch.set_num_threads(1)
    model = deep()
    points = choose(model, ["*"])
    ids = torch.randint(0, 256, (n_texts, LENGTH), generator=torch.Generator().manual_seed(1)).tolist()
    plan = plan_for(model, {"text": ids})
    collectors = {("text", p.name): watch(plan.n_clusters["text"], Wanted(n_rows=256), 0).all() for p in points}
    marks = [round(len(plan.batches) * tenth / 10) for tenth in range(1, 11)]
    curve: list[tuple[int, float, float]] = []
    begin = time.process_time()

    def after(done: int) -> None:
        if done in marks:
            tokens = sum(b.n_tokens for b in plan.batches[:done])
            curve.append((tokens, time.process_time() - begin, resident_mib()))

    collect(model, plan, points, collectors, after=after)
    print("| tokens | CPU s | tokens / CPU s in this tenth | resident MiB |\n|--:|--:|--:|--:|")
    before = (0, 0.0)
    for tokens, seconds, mib in curve:
        print(f"| {tokens:,} | {seconds:.1f} | {(tokens - before[0]) / (seconds - before[1]):,.0f} | {mib:,.0f} |")
        before = tokens, seconds
    growth, slowest = curve[-1][2] / curve[0][2], (curve[-1][1] - curve[-2][1]) / (curve[1][1] - curve[0][1])
    print(f"\nmemory after the first tenth: x {growth:.3f}; time of the last tenth over the second: x {slowest:.2f}")
    sys.exit(growth > 1.02 or slowest > 1.25)


if __name__ == "__main__":
    main()
