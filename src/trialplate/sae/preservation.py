"""How much of a model's behaviour is left when a coder stands in for its activations: losses and divergences, with intervals over documents.

Symbols: CE mean nats a token; clean: the model as it is, sae: with the coder in place, zero: with zeros in its place; KL = KL(P_clean || P) a token.

    ce_loss_score = (CE_zero - CE_sae) / (CE_zero - CE_clean)      kl_score = (KL_zero - KL_sae) / KL_zero

1 means that nothing is lost, 0 no better than zeros, below 0 worse. Sums are divided by sums, so long documents count for their length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from trialplate.activations.likelihood import Changed
from trialplate.activations.sites import Point
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.jackknife import jackknife
from trialplate.metrics.statistics import ratio_of_sums
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.splice import Splice
from trialplate.sae.token_losses import Table, token_losses


@dataclass(frozen=True, eq=False)
class Preserved:
    """Sums over the scored tokens of each document, columns clean, sae, zero; the numbers are made of them when asked for.

    nats, kl  [D, 3];  tokens [D]"""

    nats: Table
    kl: Table
    tokens: Table
    level: float = 0.95

    @property
    def n_tokens(self) -> int:
        """Scored tokens."""
        return int(self.tokens.sum())

    @property
    def site_matters(self) -> bool:
        """Whether zeros at the site raise the loss and change predictions: otherwise neither score is defined."""
        return bool(self.nats[:, 2].sum() > self.nats[:, 0].sum() and self.kl[:, 2].sum() > 0)

    @cached_property
    def ce_clean(self) -> Estimate:
        """Nats a token of the model as it is."""
        return self._mean(self.nats[:, 0])

    @cached_property
    def ce_sae(self) -> Estimate:
        """Nats a token with the coder in place."""
        return self._mean(self.nats[:, 1])

    @cached_property
    def ce_zero(self) -> Estimate:
        """Nats a token with zeros in its place."""
        return self._mean(self.nats[:, 2])

    @cached_property
    def ce_increase(self) -> Estimate:
        """CE_sae - CE_clean, paired by document; what makes a text hard for both cancels out."""
        return self._mean(self.nats[:, 1] - self.nats[:, 0])

    @cached_property
    def kl_sae(self) -> Estimate:
        """Divergence a token with the coder in place."""
        return self._mean(self.kl[:, 1])

    @cached_property
    def kl_zero(self) -> Estimate:
        """Divergence a token with zeros in its place."""
        return self._mean(self.kl[:, 2])

    @cached_property
    def ce_loss_score(self) -> Estimate:
        """(CE_zero - CE_sae) / (CE_zero - CE_clean), at most a little above 1. ValueError where zeros do not raise the loss: nothing can be recovered."""
        clean, _, zero = self.nats.sum(0)
        if not zero > clean:
            raise ValueError(
                f"ce_loss_score is undefined: with zeros at the site the loss is {self.ce_zero.value:.6g} nats a token, without {self.ce_clean.value:.6g}, "
                "so there is no loss to recover. Choose a site that matters to this model, or report ce_increase"
            )
        return jackknife(self.nats, _recovered, level=self.level, name="ce_loss_score")

    @cached_property
    def kl_score(self) -> Estimate:
        """1 - KL_sae / KL_zero, at most 1. ValueError where zeros change nothing."""
        if not self.kl[:, 2].sum() > 0:
            raise ValueError(
                "kl_score is undefined: zeros at the site change no prediction, so there is nothing to preserve. Choose a site that matters to this model"
            )
        lost = ratio_of_sums(self.kl[:, 1], self.kl[:, 2], level=self.level)
        ci = None if lost.ci is None else (1 - lost.ci[1], 1 - lost.ci[0])
        return Estimate(1 - lost.value, lost.n, lost.stderr, ci, lost.level, f"1 - {lost.method}")

    def _mean(self, sums: Table) -> Estimate:
        return ratio_of_sums(sums, self.tokens, level=self.level)


def preservation(
    model: CausalLM,
    point: Point,
    coder: Coder,
    documents: Sequence[Sequence[int]],
    *,
    out: Point | None = None,
    skip: Iterable[int] = (),
    zero_at: Literal["kept", "all"] = "kept",
    max_length: int | None = None,
    positions: int | None = None,
    level: float = 0.95,
) -> Preserved:
    """Run the documents (token ids) three times: plain, with the coder in place, with zeros in place.

    out      the site that a transcoder writes, where its config does not say
    skip     ids (beginnings, separators) whose positions are not replaced and not scored
    zero_at  "kept": zeros stand where the coder would, so a coder that writes zeros scores exactly 0; "all": at skipped positions too, as
             SAEBench 0.6 has it, which raises every score
    max_length, positions: as `likelihood.texts_of`

    ValueError as `token_losses`, CoderError as `splice.Splice`."""
    if zero_at not in ("kept", "all"):
        raise ValueError(f'zeros stand at the positions that are "kept" or at "all", got zero_at={zero_at!r}')
    left_out = tuple(skip)
    in_place = Splice(model, point, coder, "replace", out=out, skip=left_out)
    zeros = Splice(model, point, None, "zero", out=in_place.out, skip=left_out if zero_at == "kept" else ())
    subjects: list[Changed | None] = [None, in_place, zeros]
    found = token_losses(model, documents, subjects, skip=left_out, max_length=max_length, positions=positions)
    tokens = found.by_document(np.ones((1, found.document.size)))[:, 0]
    return Preserved(found.by_document(found.nats), found.by_document(found.kl), tokens, level)


def _recovered(nats: Table) -> Table:
    return (nats[..., 2] - nats[..., 1]) / (nats[..., 2] - nats[..., 0])
