"""Sums are those of the texts, whichever way they are batched and padded, and every token counts once. Budget: 5 CPU seconds."""

import numpy as np
import torch
from evals.activations.conftest import largest
from evals.domain_texts import APPLIES, separators

from trialplate.activations.capture import captured, collect, plan_for
from trialplate.activations.collectors.clusters import ClusterSums
from trialplate.activations.collectors.moments import UnitMoments
from trialplate.activations.sites import choose

pytestmark = APPLIES

N_TEXTS = 2  # a domain


def sums(model, rows, points, positions):
    """{site: (moments, clusters)} of texts in batches of so many positions."""
    plan = plan_for(model, {"texts": rows}, positions=positions, skip=separators(model))
    made = {("texts", p.name): [UnitMoments(4), ClusterSums(len(rows))] for p in points}
    collect(model, plan, points, made)
    return {p.name: made["texts", p.name] for p in points}


def test_every_token_counts_once(model, rows_of, record):
    """Tokens and firings of every text, all positions, against a loop that reads one text at a time and counts what is above 0."""
    rows, points = rows_of(N_TEXTS), choose(model, ["*"])
    found = sums(model, rows, points, positions=512)
    lost, wrong = 0, 0
    for point in points:
        moments, clusters = found[point.name][0].result("all"), found[point.name][1].result()
        fires = []
        for row in rows:
            kept = torch.tensor([token not in separators(model) for token in row])
            values = captured(model, torch.tensor([row]), [point])[point.name][0][kept]
            # entries within rounding of 0 may fall either way in another batch
            fires.append(((values > 1e-5).sum(0).cpu().numpy(), (values > -1e-5).sum(0).cpu().numpy()))
        low, high = (np.stack(part) for part in zip(*fires, strict=True))
        n_tokens = sum(token not in separators(model) for row in rows for token in row)
        lost += abs(moments.n - n_tokens) + abs(int(clusters.tokens.sum()) - n_tokens)
        for got, least, most in ((clusters.fires, low, high), (moments.fires, low.sum(0), high.sum(0))):
            wrong += int((np.maximum(least - got, 0) + np.maximum(got - most, 0)).sum())
    record("tokens_lost", lost, n=len(rows))
    record("count_gap", wrong, n=len(rows))
    assert n_tokens == sum(map(len, rows)) - sum(row.count(token) for row in rows for token in separators(model))


def test_stream_invariance(model, rows_of, record):
    """Moments of the same texts one at a time, in batches of 7 rows or so, and all together: the largest relative change of any sum."""
    rows, points = rows_of(N_TEXTS), choose(model, ["*"])
    longest = max(map(len, rows))
    one, *others = (sums(model, rows, points, positions) for positions in (1, 7 * longest, 64 * longest))
    worst = []
    for point in points:
        reference = one[point.name][0].result("all")
        for other in others:
            found = other[point.name][0].result("all")
            for name in ("mean", "abs_sum", "m2", "m3", "m4"):
                a, b = getattr(reference, name), getattr(found, name)
                worst.append(float(np.abs(a - b).max() / np.abs(a).max()))
    record("stream_gap", largest(worst), n=len(rows), of="moments")
    assert len(worst) == 10 * len(points)


def test_padding_invariance(model, rows_of, record):
    """Hidden units of texts of unlike lengths in one batch, padded on the right, against each text alone."""
    rows, points = sorted(rows_of(2), key=len), choose(model, ["*"])
    some = [rows[0][: len(rows[0]) // 3], rows[0], rows[-1]]
    width = max(map(len, some))
    together = captured(model, torch.tensor([row + [0] * (width - len(row)) for row in some]), points)
    worst = []
    for number, row in enumerate(some):
        alone = captured(model, torch.tensor([row]), points)
        for point in points:
            a, b = alone[point.name][0].float(), together[point.name][number, : len(row)].float()
            worst.append(float((a - b).abs().max() / a.abs().max()))
    record("activation_padding_gap", largest(worst), n=len(some))
    assert len({len(row) for row in some}) > 1
