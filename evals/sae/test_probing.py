"""Can single latents tell apart what the model tells apart? Probes of a few latents against as few channels and a random coder, on the same texts.

k is chosen on texts that are neither trained on nor tested on. Budget: 6 CPU seconds.
"""

import pytest
from evals.domain_texts import APPLIES

pytestmark = APPLIES


@pytest.mark.parametrize(
    "labels", ["register", *(pytest.param(name, marks=pytest.mark.slow) for name in ("place", "continent", "domain"))]
)
def test_sparse_probes(labels, coder, random_coder, model, about, record, rng, seed, limit):
    """Accuracy of probes of 1, 2 or 5 latents, and what they have over channels and over a random coder, paired by text."""
    from trialplate.activations.sites import resolve
    from trialplate.sae.probing import probe_coder
    from trialplate.tasks.labelled_texts import labelled_texts

    n = limit(40)
    texts = labelled_texts(labels, seed=seed % 2**31, train=n, valid=max(2, n // 2), test=n)
    record.uses(f"labelled texts: {labels}", texts.digest(), len(texts.texts), seed=seed)
    found = probe_coder(model, resolve(model, coder.config.site_in), coder, texts, rng, random=random_coder)
    task = {"labels": labels, **about}
    record(
        "probe_accuracy",
        found.scores().accuracy,
        null=("random coder", found.scores("random").accuracy),
        of="latents",
        **task,
    )
    everything = found.scores("dense").accuracy
    record("probe_accuracy", everything, null=("either class", 0.5), of="all channels", **task)
    record("probe_gain", found.minus("raw").accuracy_items, null=("no difference", 0.0), over="channels", **task)
    record("probe_gain", found.minus("random").accuracy_items, null=("no difference", 0.0), over="random coder", **task)
    assert found.texts == texts.digest()


@pytest.mark.parametrize("mode", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_contrastive(mode, coder, random_coder, model, about, record, rng, seed, limit):
    """CE-Bench: the largest z-score among latents of what two opposed stories differ in, as a share of the most that this width can show."""
    from trialplate.activations.sites import resolve
    from trialplate.metrics.contrastive import bound
    from trialplate.sae.contrastive import cebench
    from trialplate.tasks.contrastive_pairs import contrastive_pairs, pairs_digest

    pairs = contrastive_pairs(limit(56), seed=seed % 2**31)
    record.uses("contrastive pairs", pairs_digest(pairs), len(pairs), seed=seed)
    point = resolve(model, coder.config.site_in)
    found = cebench(model, point, coder, pairs, rng, baseline=random_coder, mode=mode)
    for measure in ("contrastive", "independent", "interpretability"):
        null = ("stories paired across subjects", found.null[measure])
        record("cebench", found.coder.score(measure), null=null, measure=measure, mode=mode, **about)
        record("cebench_share", found.coder.per_root(measure), measure=measure, mode=mode, **about)
    record("cebench_gain", found.minus_baseline("contrastive"), null=("no difference", 0.0), mode=mode, **about)
    assert max(found.coder.values["contrastive"]) <= bound(coder.config.d_sae)
