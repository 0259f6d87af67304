"""SCR and TPP of a coder at a site: what is left of one attribute when latents are set to 0, and of the others.

gate: never. See `metrics.erasure` for why, and for what is computed. Both need an autoencoder, since erased latents are subtracted from the activations
that were read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from trialplate.activations.sites import Point
from trialplate.metrics.erasure import NS, Scr, Texts, Tpp, scr, tpp
from trialplate.models.causal_lm import CausalLM
from trialplate.sae.coder import Coder
from trialplate.sae.errors import CoderError
from trialplate.sae.pooled import RAW, Pooled, pool, text_ids
from trialplate.tasks.labelled_texts import LabelledSet, Split

_CODER = "coder"


def coder_scr(
    model: CausalLM,
    point: Point,
    coder: Coder,
    labelled: LabelledSet,
    ns: Sequence[int] = NS,
    *,
    skip: Iterable[int] | None = None,
) -> Scr:
    """SCR on texts with two labels of two classes each (`labelled_texts("kind_by_number")`): fitted on train, scored on test.

    The wanted attribute is whether the label is the last of its classes in order, the spurious one the same of the second label; the biased probe sees
    the texts where both agree. CoderError for a transcoder; ValueError for other numbers of classes, and for a combination that is missing."""
    if len(labelled.classes) != 2 or len(labelled.seconds) != 2:
        raise ValueError(
            f"{labelled.name}: SCR wants two classes of each of two labels, got {list(labelled.classes)} and {list(labelled.seconds)}"
        )
    pooled = _pooled(model, point, coder, labelled, skip)
    wanted = np.array([text.label == labelled.classes[1] for text in labelled.texts])
    spurious = np.array([text.second == labelled.seconds[1] for text in labelled.texts])
    train, test = labelled.of("train"), labelled.of("test")
    return scr(
        _texts(pooled, labelled, "train"),
        (wanted[train], spurious[train]),
        _texts(pooled, labelled, "test"),
        (wanted[test], spurious[test]),
        coder.W_dec.detach().cpu().numpy(),
        ns,
    )


def coder_tpp(
    model: CausalLM,
    point: Point,
    coder: Coder,
    labelled: LabelledSet,
    rng: np.random.Generator,
    ns: Sequence[int] = NS,
    *,
    skip: Iterable[int] | None = None,
) -> Tpp:
    """TPP on the classes of labelled texts: fitted on train, scored on test. CoderError for a transcoder."""
    pooled = _pooled(model, point, coder, labelled, skip)
    return tpp(
        _texts(pooled, labelled, "train"),
        [labelled.texts[row].label for row in labelled.of("train")],
        _texts(pooled, labelled, "test"),
        [labelled.texts[row].label for row in labelled.of("test")],
        coder.W_dec.detach().cpu().numpy(),
        rng,
        ns,
    )


def _pooled(model: CausalLM, point: Point, coder: Coder, labelled: LabelledSet, skip: Iterable[int] | None) -> Pooled:
    if coder.config.is_transcoder:
        raise CoderError(
            "erasure takes what latents write from the activations that were read; a transcoder writes another site. Give an autoencoder"
        )
    return pool(model, point, {_CODER: coder}, text_ids(model, [text.parts for text in labelled.texts]), skip)


def _texts(pooled: Pooled, labelled: LabelledSet, split: Split) -> Texts:
    rows = labelled.of(split)
    return Texts(pooled.means[RAW][rows].astype(np.float64), pooled.means[_CODER][rows])
