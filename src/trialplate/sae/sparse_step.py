"""One step of gradients for coders with k, from the few latents that are active. Equal to `autograd_step.gradients` up to rounding, several times
faster, and without a matrix [n, m] in memory. Symbols: n tokens, m latents, f the code, x^ = x - b_dec (or x) what the encoder sees.

    L = 1/n sum_i ||y'_i - y_i||^2        y' = f W_dec + b_dec (+ W_skip x)        p = dL/dy' = 2/n (y' - y)        s = dL/df where f is active

    dL/dW_dec = f^T p       dL/db_enc = sum_i s_i      dL/dW_skip = p^T x
    dL/dW_enc = s^T x^      dL/db_dec = sum_i p_i - (dL/db_enc) W_enc, the second part where b_dec is subtracted from x

One dense product is left, the pre-activations, and it is made and searched a thousand tokens at a time. The gradient with respect to x, another
dense product that autograd makes for b_dec, is never formed: its sum over tokens is that vector times the encoder. A prefix of the
dictionary, the multi term and the dead latents of the AuxK term are codes like f, with a target, a pull p and slopes s of their own; gradients add up.
Where few latents are dead, those are left to dense products; see `aux_step`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae.aux_step import WORTH_IT, DeadRows, explained_by_dead
from trialplate.sae.coder import Coder
from trialplate.sae.errors import TrainingError
from trialplate.sae.latents import Latents
from trialplate.sae.losses import MULTI, Outcome, Terms, prefix_k
from trialplate.sae.selections import BatchSelection, DeadSelection, RowSelection, Selection
from trialplate.sae.settings import WITH_SPARSE_STEP
from trialplate.sae.sparse_products import Decoded, KernelName, by_latent, products, summed

PIECE = 1024
"""Tokens whose pre-activations are in memory at a time: enough for the product to run at its full rate, few enough to be searched from a cache."""


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Which kernels, and why."""

    kernels: KernelName
    reason: str


def choose_kernels(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> KernelChoice:
    """The faster kernels for coders of a dtype on a device, on this machine as it is; the choice is for the caller to record."""
    if torch.device(device).type != "cpu" or dtype != torch.float32:
        return KernelChoice("torch", f"the compiled kernels are for float32 on a CPU, not {dtype} on {device}")
    if torch.get_num_threads() > 1:
        return KernelChoice(
            "torch", f"torch may use {torch.get_num_threads()} threads, and the compiled kernels use one"
        )
    if find_spec("numba") is None:
        return KernelChoice("torch", "numba is not installed (pip install 'trialplate[numba]')")
    return KernelChoice("numba", "float32 on a CPU, one thread, numba is installed")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A code that a reconstruction loss is asked of: k latents a token among the first `width`, the loss times `weight` into the part `part`."""

    part: str
    weight: float
    k: int
    width: int


class SparseStep:
    """Gradients of batches of at most `batch_size` tokens for one topk or batchtopk coder, autoencoder or (skip) transcoder.

    kernels: "torch" or "numba", see `sparse_products`. A batchtopk step remembers where the last batch was cut, which makes it faster and
    changes nothing else. TrainingError for other architectures, for numba where it is not installed or the coder is not float32 on a CPU."""

    def __init__(self, coder: Coder, batch_size: int, kernels: KernelName = "torch") -> None:
        c = coder.config
        if c.architecture not in WITH_SPARSE_STEP or c.k is None:
            raise TrainingError(
                f"a sparse step is for {' and '.join(WITH_SPARSE_STEP)}, not for {c.architecture}; use the backend autograd"
            )
        if batch_size < 1:
            raise TrainingError(f"wanted batches of at least 1 token, got {batch_size}")
        self._products = products(kernels)
        if kernels == "numba" and (coder.encoder.device.type != "cpu" or coder.encoder.dtype != torch.float32):
            raise TrainingError(
                f"the kernels numba compute float32 on a CPU, this coder is {coder.encoder.dtype} on {coder.encoder.device}; use the kernels torch (backend sparse)"
            )
        self.coder, self.batch_size, self.kernels, self._k = coder, batch_size, kernels, c.k
        self._pre = coder.encoder.detach().new_empty(min(batch_size, PIECE), c.d_sae)
        self._seen = self._pre.new_empty(batch_size, c.d_in)
        self._limits: dict[tuple[str, int], float] = {}

    @torch.no_grad()
    def gradients(self, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], terms: Terms) -> Outcome:
        """Sets `.grad` of every parameter to the gradient of this batch's loss, and returns what the batch gave; as `autograd_step.gradients`.

        TrainingError for a batch that is empty, too large, or of another width or dtype, and for terms that topk and batchtopk do not have."""
        self._require(x, y, terms)
        coder, n = self.coder, len(x)
        seen = torch.sub(x, coder.b_dec, out=self._seen[:n]) if coder.config.centre_input else x
        offset = coder.b_dec.unsqueeze(0)
        if coder.config.skip:
            offset = torch.addmm(offset, x, coder.W_skip.T)
        asked = self._asked(terms)
        numbers = self._dead(terms)
        codes, dead = self._codes(seen, asked, numbers, terms)
        sums, parts, made = _Sums(coder, x, seen), dict.fromkeys((a.part for a in asked), 0.0), []
        for one, code in zip(asked, codes, strict=True):
            decoded = self._products.decode(code, coder.W_dec, offset, y, 2 * one.weight / n)
            sums.add(code, decoded)
            sums.add_output(decoded.pull)
            parts[one.part] += one.weight * float(decoded.squared) / n
            made.append(decoded.y_hat)
        if terms.aux:
            parts["aux"] = self._aux(numbers, dead, y - made[0], terms, sums)
        sums.write()
        parts["mse"] += self._taint(seen)
        named = {name: y.new_tensor(part) for name, part in parts.items()}
        return Outcome(y.new_tensor(sum(parts.values())), codes[0], made[0], named)

    def _taint(self, seen: Tensor) -> float:
        """0; NaN where there is one in what pre-activations are made of. A selection may overlook a NaN, and the loss must not."""
        return 0.0 * float(seen.sum() + self.coder.encoder.sum() + self.coder.b_enc.sum())

    def _asked(self, terms: Terms) -> list[_Asked]:
        """The whole code first."""
        m, k, prefixes = self.coder.config.d_sae, terms.k or self._k, self.coder.config.prefixes
        asked = [_Asked("mse", 1.0, k, m)]
        if terms.prefix_weight:
            share = terms.prefix_weight / len(prefixes)
            asked += [_Asked("prefix", share, prefix_k(k, width, m), width) for width in prefixes]
        if terms.multi:
            asked.append(_Asked("multi", terms.multi, min(MULTI * k, m), m))
        return asked

    def _dead(self, terms: Terms) -> Tensor:
        """The numbers of the latents that an AuxK term may use."""
        if not terms.aux or terms.dead is None:
            return torch.zeros(0, dtype=torch.long, device=self._pre.device)
        return terms.dead.nonzero().squeeze(1)

    def _codes(
        self, seen: Tensor, asked: list[_Asked], dead: Tensor, terms: Terms
    ) -> tuple[list[Latents], Latents | None]:
        """A code for each that is asked, and that of the dead latents where there are too many for dense products."""
        n, m = len(seen), self.coder.config.d_sae
        selections: list[Selection] = [self._selection(n, one) for one in asked]
        if len(dead) > WORTH_IT * terms.aux_k:
            selections.append(DeadSelection(self._products, dead, n, m, terms.aux_k))
        codes = self._shown(seen, selections)
        for one, selection in zip(asked, selections, strict=False):
            if isinstance(selection, BatchSelection):
                self._limits[one.part, one.width] = selection.next_limit
        return codes[: len(asked)], codes[-1] if len(codes) > len(asked) else None

    def _selection(self, n: int, one: _Asked) -> Selection:
        c = self.coder.config
        if c.architecture == "batchtopk":
            limit = self._limits.get((one.part, one.width), 0.0)
            return BatchSelection(self._products, n, c.d_sae, one.k, width=one.width, limit=limit)
        return RowSelection(self._products, c.d_sae, one.k, width=one.width, signed=c.signed)

    def _shown(self, seen: Tensor, selections: list[Selection]) -> list[Latents]:
        """The codes that selections find, which are shown the batch until each has one: once, or twice where a limit was too high."""
        coder = self.coder
        found: dict[int, Latents] = {}
        while waiting := [i for i in range(len(selections)) if i not in found]:
            for first in range(0, len(seen), PIECE):
                piece = seen[first : first + PIECE]
                pre = torch.addmm(coder.b_enc, piece, coder.encoder.T, out=self._pre[: len(piece)])
                for i in waiting:
                    selections[i].see(first, pre)
            found |= {i: code for i in waiting if (code := selections[i].code()) is not None}
        return [found[i] for i in range(len(selections))]

    def _aux(self, numbers: Tensor, dead: Latents | None, error: Tensor, terms: Terms, sums: _Sums) -> float:
        """The AuxK term, see `losses.aux`: dead latents, without b_dec, aim at the error of the whole code."""
        spread = float(torch.linalg.vector_norm(error - error.mean(0), dim=1).double().square().sum())
        if not len(numbers) or not spread > 0:
            return 0.0
        scale = 2 * terms.aux / spread
        if dead is None:
            rows = explained_by_dead(
                self.coder, sums.seen, error, numbers, terms.aux_k, scale=scale, piece=len(self._pre)
            )
            sums.add_rows(rows)
            return terms.aux * rows.squared / spread
        decoded = self._products.decode(dead, self.coder.W_dec, error.new_zeros(1, error.shape[1]), error, scale)
        sums.add(dead, decoded)
        return terms.aux * float(decoded.squared) / spread

    def _require(self, x: Tensor, y: Tensor, terms: Terms) -> None:
        c, dtype = self.coder.config, self.coder.encoder.dtype
        shapes = [x.shape, y.shape] == [(len(x), c.d_in), (len(x), c.d_out)] and 1 <= len(x) <= self.batch_size
        if not shapes or (x.dtype, y.dtype) != (dtype, dtype):
            raise TrainingError(
                f"wanted x [n, {c.d_in}] and y [n, {c.d_out}] of {dtype}, 1 <= n <= {self.batch_size}; got {list(x.shape)} {x.dtype} and {list(y.shape)} {y.dtype}"
            )
        foreign = {name: getattr(terms, name) for name in ("l1", "l0", "router_balance") if getattr(terms, name)}
        if terms.prefix_weight and not c.prefixes:
            foreign["prefix_weight"] = terms.prefix_weight
        if foreign:
            listed = ", ".join(f"{name}={value}" for name, value in foreign.items())
            raise TrainingError(f"{listed} means nothing for this {c.architecture} coder; leave it at 0")
        if terms.k is not None and not 1 <= terms.k <= c.d_sae:
            raise TrainingError(f"wanted k between 1 and d_sae = {c.d_sae}, got {terms.k}")


class _Sums:
    """Gradients of the parameters while codes are added up."""

    def __init__(self, coder: Coder, x: Tensor, seen: Tensor) -> None:
        self._coder, self._x, self.seen = coder, x, seen
        self._b_enc = torch.zeros_like(coder.b_enc)
        self._b_dec = torch.zeros_like(coder.b_dec)
        self._encoder: Tensor | None = None
        self._W_dec: Tensor | None = None
        self._W_skip: Tensor | None = None

    def add(self, code: Latents, decoded: Decoded) -> None:
        """What a code's latents get: f^T p, s^T x^ and sum_i s_i, each added up latent by latent."""
        slope = decoded.slope if self._coder.config.signed else decoded.slope * (code.value > 0)  # the ReLU
        order, tokens, firsts = by_latent(code)
        self._W_dec = _plus(self._W_dec, summed(decoded.pull, code.value[order], tokens, firsts))
        self._encoder = _plus(self._encoder, summed(self.seen, slope[order], tokens, firsts))
        self._b_enc.index_add_(0, code.index, slope)

    def add_rows(self, rows: DeadRows) -> None:
        """What some latents get in addition, after `add`."""
        assert self._W_dec is not None
        assert self._encoder is not None
        self._W_dec.index_add_(0, rows.numbers, rows.W_dec)
        self._encoder.index_add_(0, rows.numbers, rows.encoder)
        self._b_enc.index_add_(0, rows.numbers, rows.b_enc)

    def add_output(self, pull: Tensor) -> None:
        """What the parts of y' beside the code get."""
        self._b_dec += pull.sum(0)
        if self._coder.config.skip:
            self._W_skip = _plus(self._W_skip, pull.T @ self._x)

    def write(self) -> None:
        """Set `.grad`."""
        coder = self._coder
        if coder.config.centre_input:
            self._b_dec -= _in_blocks(self._b_enc, coder.encoder)
        coder.encoder.grad, coder.W_dec.grad = self._encoder, self._W_dec
        coder.b_enc.grad, coder.b_dec.grad = self._b_enc, self._b_dec
        if coder.config.skip:
            coder.W_skip.grad = self._W_skip


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total.add_(more)


def _in_blocks(vector: Tensor, matrix: Tensor, size: int = 64) -> Tensor:
    """vector @ matrix, summed block by block: one product over thousands of rows lets rounding pile up to ten times that of the other gradients."""
    blocks = zip(vector.split(size), matrix.split(size), strict=True)
    return torch.stack([part @ rows for part, rows in blocks]).sum(0)
