"""Where a sparse training step spends its time: CPU milliseconds of each part, one thread, for the shapes of benchmarks/sae_step.py.

    python benchmarks/sae_step_parts.py [--rounds 7]

Pre-activations are made a thousand tokens at a time and searched while they are still in a cache, as in a step; what is timed is the search. A
search over numbers that it has seen before would be timed several times too fast: the processor remembers which way its branches went."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig
from trialplate.sae.latents import Latents
from trialplate.sae.optimiser import project_gradients, renormalise
from trialplate.sae.sparse_products import Products, by_latent, products, summed
from trialplate.sae.sparse_step import PIECE

D_IN, D_SAE, K, BATCH, N_BATCHES = 512, 4096, 32, 4096, 4
Search = Callable[[torch.Tensor], object]


class Parts:
    """The parts of a step over batches of normal numbers."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = torch.randn(N_BATCHES, BATCH, D_IN, generator=generator)
        self.coder = initialise(Coder(CoderConfig("topk", D_IN, D_SAE, k=K)), generator).requires_grad_(False)
        self.pre, self.all = torch.empty(PIECE, D_SAE), torch.empty(BATCH, D_SAE)
        self.cut = float(self._dense(self.batches[0]).flatten().topk(BATCH * K).values[-1])
        for parameter in self.coder.parameters():
            parameter.requires_grad_().grad = torch.randn(parameter.shape, generator=generator)
        self.adam = torch.optim.Adam(self.coder.parameters(), lr=1e-4, fused=True)
        value, index = self._dense(self.batches[0]).topk(K, dim=1)
        self.code = Latents.from_rectangle(index, value, D_SAE)

    @torch.no_grad()
    def _dense(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, self.coder.encoder.T, out=self.all)

    @torch.no_grad()
    def searched(self, x: torch.Tensor, search: Search | None) -> float:
        """CPU seconds of the search over one batch; without one, of the product."""
        spent = 0.0
        for piece in x.split(PIECE):
            begin = time.process_time()
            torch.addmm(self.coder.b_enc, piece, self.coder.encoder.T, out=self.pre)
            made = time.process_time()
            if search is not None:
                search(self.pre)
            spent += time.process_time() - made if search is not None else made - begin
        return spent

    @torch.no_grad()
    def decode(self, x: torch.Tensor, kernels: Products) -> None:
        kernels.decode(self.code, self.coder.W_dec, self.coder.b_dec.unsqueeze(0), x, 2 / BATCH)

    @torch.no_grad()
    def sums(self, x: torch.Tensor) -> None:
        order, tokens, firsts = by_latent(self.code)
        for _ in ("W_dec", "encoder"):
            summed(x, self.code.value[order], tokens, firsts)

    def move(self) -> None:
        project_gradients(self.coder)
        self.adam.step()
        renormalise(self.coder)


def cases(parts: Parts) -> dict[str, Callable[[torch.Tensor], float]]:
    """name -> CPU seconds for one batch."""
    plain, compiled = products("torch"), products("numba")

    def search(find: Search | None) -> Callable[[torch.Tensor], float]:
        return lambda x: parts.searched(x, find)

    def flat(x: torch.Tensor) -> float:
        pre = parts._dense(x)
        return timed(lambda: pre.flatten().topk(BATCH * K, sorted=False))

    def timed(run: Callable[[], object]) -> float:
        begin = time.process_time()
        run()
        return time.process_time() - begin

    return {
        "encoder product": search(None),
        "topk: torch.topk": search(lambda pre: plain.largest(pre, D_SAE, K)),
        "topk: numba": search(lambda pre: compiled.largest(pre, D_SAE, K)),
        "batchtopk: torch.topk over the whole batch": flat,
        "batchtopk: above a limit, torch": search(lambda pre: plain.above(pre, D_SAE, 0.95 * parts.cut)),
        "batchtopk: above a limit, numba": search(lambda pre: compiled.above(pre, D_SAE, 0.95 * parts.cut)),
        "decoding, error and slopes, torch": lambda x: timed(lambda: parts.decode(x, plain)),
        "decoding, error and slopes, numba": lambda x: timed(lambda: parts.decode(x, compiled)),
        "both weight gradients": lambda x: timed(lambda: parts.sums(x)),
        "projection, Adam, unit rows": lambda x: timed(parts.move),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    parts = Parts()
    named = cases(parts)
    taken: dict[str, list[float]] = {name: [] for name in named}
    for number in range(rounds + 1):
        for name, run in named.items():
            milliseconds = 1e3 * run(parts.batches[number % N_BATCHES])
            if number:
                taken[name].append(milliseconds)
    print("| part | CPU ms | best |\n|---|--:|--:|")
    for name, values in taken.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
