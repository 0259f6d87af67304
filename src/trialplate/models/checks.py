"""Measurements of model code itself: is it causal, do padding, batching and caching leave answers alone, is everything finite and as stored.

Pure functions of a model: numbers out, no thresholds (those belong to the callers). Gaps are the largest absolute difference of logits; beside
them `logit_scale` gives the size that rounding is relative to. `rng` draws the token ids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trialplate.checkpoints.diff import KeyDiff, compare_keys
from trialplate.checkpoints.digest import state_digest
from trialplate.checkpoints.keys import TensorInfo
from trialplate.checkpoints.manifest import state_manifest
from trialplate.models.adapters import base_state
from trialplate.models.causal_lm import CausalLM
from trialplate.models.errors import ModelError
from trialplate.models.load import quiet_transformers
from trialplate.models.resolve import Source
from trialplate.models.stored import comparable_manifest, comparable_tensors
from trialplate.models.tied import declares_tied, is_tied


@dataclass(frozen=True, slots=True)
class PaddingGap:
    """Largest difference of logits at real tokens, padding on the left or on the right against none."""

    left: float
    right: float


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Save and load again: whether every tensor came back bit for bit, and the largest difference of logits."""

    is_identical: bool
    logit_gap: float


@dataclass(frozen=True, slots=True)
class FiniteCounts:
    """Numbers that are NaN or infinite, and how many were looked at, among stored weights and among outputs of all modules."""

    weights: int
    n_weights: int
    activations: int
    n_activations: int


@dataclass(frozen=True, slots=True)
class StoredGap:
    """In-memory weights against the files: tensors compared, tensors that differ after casting to the compute dtype, largest absolute difference."""

    n_tensors: int
    n_different: int
    max_abs: float


@dataclass(frozen=True, slots=True)
class Tied:
    """Whether the configuration ties head and embedding, and whether they are one tensor."""

    declared: bool
    actual: bool

    @property
    def ok(self) -> bool:
        """Whether both agree."""
        return self.declared == self.actual


def random_ids(model: CausalLM, rng: np.random.Generator, n: int, length: int) -> torch.Tensor:
    """Token ids [n, length], uniform over the ids that tokenizer and head share."""
    rows = min(model.vocab_rows, model.tokenizer.vocab_size)
    return torch.from_numpy(rng.integers(0, rows, size=(n, length), dtype=np.int64)).to(model.device)


def logit_scale(model: CausalLM, rng: np.random.Generator, n: int = 4, length: int = 16) -> float:
    """Root mean square of centred logits: the size of the numbers that the gaps are differences of."""
    logits = model.logits(random_ids(model, rng, n, length)).double()
    return float((logits - logits.mean(-1, keepdim=True)).square().mean().sqrt())


def causality_gap(model: CausalLM, rng: np.random.Generator, n: int = 4, length: int = 16) -> float:
    """Change the token at a random place t >= 1: largest change of logits before t. 0 up to rounding for a causal model."""
    ids = random_ids(model, rng, n, length)
    places = rng.integers(1, length, size=n)
    changed = ids.clone()
    rows = min(model.vocab_rows, model.tokenizer.vocab_size)
    for row, place in enumerate(places):
        changed[row, place] = (ids[row, place] + int(rng.integers(1, rows))) % rows
    before, after = model.logits(ids), model.logits(changed)
    return max(_gap(before[row, :place], after[row, :place]) for row, place in enumerate(places))


def padding_gap(model: CausalLM, rng: np.random.Generator, n: int = 4, length: int = 12, n_pad: int = 5) -> PaddingGap:
    """Pad with random tokens under a mask of zeros: largest change of logits at real tokens, by side."""
    ids = random_ids(model, rng, n, length)
    padding = random_ids(model, rng, n, n_pad)
    plain = model.logits(ids)
    real, none = torch.ones_like(ids), torch.zeros_like(padding)
    left = model.logits(torch.cat([padding, ids], 1), torch.cat([none, real], 1))[:, n_pad:]
    right = model.logits(torch.cat([ids, padding], 1), torch.cat([real, none], 1))[:, :length]
    return PaddingGap(_gap(plain, left), _gap(plain, right))


def batch_gap(model: CausalLM, rng: np.random.Generator, n: int = 5, length: int = 16) -> float:
    """Rows of one batch against the same rows alone: largest difference of logits."""
    ids = random_ids(model, rng, n, length)
    together = model.logits(ids)
    return max(_gap(together[row : row + 1], model.logits(ids[row : row + 1])) for row in range(n))


def cache_gap(
    model: CausalLM,
    rng: np.random.Generator,
    n: int = 2,
    length: int = 16,
    chunkings: Sequence[Sequence[int]] = ((1,), (3,), (5, 1, 2)),
) -> float:
    """Decoding through the cache against one full forward pass, tokens fed in chunks whose sizes repeat as given: largest difference of logits."""
    ids = random_ids(model, rng, n, length)
    full = model.logits(ids)
    return max(_gap(full, _decode_in_chunks(model, ids, sizes)) for sizes in chunkings)


def _decode_in_chunks(model: CausalLM, ids: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Logits [n, length, v]; the first chunk goes through `start`, whose logits are those of its last token only, so it is one token."""
    first, state = model.start(ids[:, :1])
    parts, done, turn = [first.unsqueeze(1)], 1, 0
    while done < ids.shape[1]:
        size = sizes[turn % len(sizes)]
        logits, state = model.extend(state, ids[:, done : done + size])
        parts.append(logits)
        done, turn = done + size, turn + 1
    return torch.cat(parts, 1)


def repeat_gap(model: CausalLM, rng: np.random.Generator, n: int = 4, length: int = 16) -> float:
    """The same input twice: largest difference of logits. 0 for a model in evaluation mode on a deterministic device."""
    ids = random_ids(model, rng, n, length)
    return _gap(model.logits(ids), model.logits(ids))


def round_trip(model: CausalLM, folder: Path, rng: np.random.Generator) -> RoundTrip:
    """Save the module into `folder` (empty), load it again, compare. Raises ModelError for a model with an adapter: that is saved apart."""
    if model.adapter is not None:
        raise ModelError(
            f"{model.label}: a model with an adapter is not saved as one; measure the round trip of its base"
        )
    ids = random_ids(model, rng, 2, 12)
    with quiet_transformers():
        model.module.save_pretrained(str(folder))
        again = (
            type(model.module)
            .from_pretrained(str(folder), dtype=model.dtype, local_files_only=True)
            .eval()
            .requires_grad_(False)
        )
    reloaded = CausalLM(model.spec, again.to(model.device), model.tokenizer, torch_device=model.device)
    is_identical = state_digest(model.module.state_dict()) == state_digest(again.state_dict())
    return RoundTrip(is_identical, _gap(model.logits(ids), reloaded.logits(ids)))


def finite_counts(model: CausalLM, rng: np.random.Generator, n: int = 4, length: int = 16) -> FiniteCounts:
    """Count NaN and infinite numbers in the weights and in the outputs of every module on random tokens."""
    state = [tensor for tensor in model.module.state_dict().values() if tensor.is_floating_point()]
    seen: list[tuple[int, int]] = []

    def count(_module: object, _inputs: object, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) and output else output
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            seen.append((_not_finite(tensor), tensor.numel()))

    hooks = [part.register_forward_hook(count) for part in model.module.modules()]
    try:
        model.logits(random_ids(model, rng, n, length))
    finally:
        for hook in hooks:
            hook.remove()
    return FiniteCounts(
        sum(map(_not_finite, state)),
        sum(t.numel() for t in state),
        sum(bad for bad, _ in seen),
        sum(size for _, size in seen),
    )


def tied(model: CausalLM) -> Tied:
    """Whether head and embedding are tied as the configuration says."""
    return Tied(declares_tied(model.module), is_tied(model.module))


def key_coverage(model: CausalLM) -> KeyDiff:
    """Keys of the module in memory (wanted) against keys of its files (got), whatever the stored dtype. A head that is tied need not be stored.

    Raises ModelError for a model without files."""
    stored = comparable_manifest(_source(model))
    wanted = state_manifest(base_state(model.module))
    head = [name for name in wanted if name.endswith(("lm_head.weight", "embed_out.weight"))]
    if is_tied(model.module) and not any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in stored):
        wanted = {name: info for name, info in wanted.items() if name not in head}
    return compare_keys(_any_dtype(wanted), _any_dtype(stored))


def stored_gap(model: CausalLM) -> StoredGap:
    """Weights in memory against the files they came from. Raises ModelError for a model without files or where no key is common."""
    source = _source(model)
    state = base_state(model.module)
    diff = compare_keys(_any_dtype(state_manifest(state)), _any_dtype(comparable_manifest(source)))
    in_memory = {renamed.new: renamed.old for renamed in diff.renamed if renamed.is_allowed}
    n_tensors, n_different, largest = 0, 0, 0.0
    for name, stored in comparable_tensors(source):
        tensor = state.get(in_memory.get(name, name))
        if tensor is None or not stored.is_floating_point() or tensor.shape != stored.shape:
            continue
        gap = _gap(stored.to(tensor.dtype), tensor.cpu())
        n_tensors, n_different, largest = n_tensors + 1, n_different + (gap != 0), max(largest, gap)
    if n_tensors == 0:
        raise ModelError(f"{model.label}: no tensor of {source.path} has the name and shape of one in memory")
    return StoredGap(n_tensors, n_different, largest)


def dtypes_differing(model: CausalLM) -> int:
    """Number of floating parameters and stored buffers whose dtype is not the one asked for."""
    return sum(
        tensor.is_floating_point() and tensor.dtype != model.dtype for tensor in model.module.state_dict().values()
    )


def _source(model: CausalLM) -> Source:
    if model.source is None or not model.has_files:
        raise ModelError(f"{model.label}: its weights come from no file, so there is nothing to compare them with")
    return model.source


def _any_dtype(manifest: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {name: TensorInfo("*", info.shape) for name, info in manifest.items()}


def _not_finite(tensor: torch.Tensor) -> int:
    return int((~torch.isfinite(tensor)).sum())


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest absolute difference; infinite where either side is not finite, so that NaN never looks like agreement."""
    if a.numel() == 0:
        return 0.0
    gap = float((a.double() - b.double()).abs().max())
    return gap if math.isfinite(gap) else math.inf
