"""Faults of scoring, of its cache, and of the tasks: the model is right, the numbers said of it are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tests.kill_matrix.sabotage import Sabotage, on_code

from trialplate.metrics import choices
from trialplate.models.causal_lm import CausalLM
from trialplate.scoring import answers, forward, probing, results, scorer, sinks
from trialplate.scoring.plan import Query
from trialplate.scoring.requests import TokenPair
from trialplate.tasks.probes import greater_than, ioi


def labels_not_shifted() -> tuple[Any, str, Any]:
    honest = scorer.Scorer._score

    def score(self: Any, queries: list[Query], targets: list[int], report: Any) -> Any:
        return honest(self, queries, [token for q in queries for token in q.ids[-q.n_reads :]], report)

    return scorer.Scorer, "_score", score


def cut_at_the_right() -> tuple[Any, str, Any]:
    def scored_query(pair: TokenPair, max_length: int, label: str, index: int = 0) -> tuple[Query, int]:
        context = pair.context[: max_length + 1 - len(pair.continuation)]
        return Query((context + pair.continuation)[:-1], len(pair.continuation)), len(pair.context) - len(context)

    return scorer, "scored_query", scored_query


def first_token_unscored() -> tuple[Any, str, Any]:
    honest = scorer.rolling_windows

    def rolling_windows(ids: Any, prefix_id: int, max_length: int) -> list[TokenPair]:
        return honest(ids[1:], ids[0], max_length) if len(ids) > 1 else honest(ids, prefix_id, max_length)

    return scorer, "rolling_windows", rolling_windows


def padded_at_the_left() -> tuple[Any, str, Any]:
    honest = forward._outputs

    def outputs(model: Any, batch: Any) -> torch.Tensor:
        if batch.is_packed:
            return honest(model, batch)
        gaps = [batch.width - len(row.ids) for row in batch.rows]
        ids = torch.tensor([(0,) * gap + row.ids for gap, row in zip(gaps, batch.rows, strict=True)])
        found = (model.hidden if model.splits_head else model.logits)(ids.to(model.device))
        return torch.stack([row.roll(-gap, 0) for gap, row in zip(gaps, found, strict=True)])

    return forward, "_outputs", outputs


def tails_see_each_other() -> tuple[Any, str, Any]:
    honest = forward._layout

    def layout(row: Any, width: int) -> tuple[list[int], list[int]]:
        owner, positions = honest(row, width)
        return [min(k, 0) for k in owner], positions

    return forward, "_layout", layout


def packing_unchecked() -> tuple[Any, str, Any]:
    return forward, "packing_is_exact", lambda model: True


def half_softmax() -> tuple[Any, str, Any]:
    honest = sinks.TargetSink.take
    return sinks.TargetSink, "take", lambda self, logits, *where: honest(self, logits.half().log_softmax(-1), *where)


def cache_without_weights() -> tuple[Any, str, Any]:
    return answers, "responder", lambda model: "the model"


def cache_without_continuation() -> tuple[Any, str, Any]:
    honest = answers.Answers.get

    def get(self: Any, kind: Any, requests: Any, compute: Any) -> Any:
        return honest(self, kind, [r[0] for r in requests] if kind.name == "continuation" else requests, compute)

    return answers.Answers, "get", get


def ties_win_probes() -> tuple[Any, str, Any]:
    return probing.AnswerScores, "beats_foil", property(lambda self: (self.difference >= 0).astype(float))


def ties_win_pairs() -> tuple[Any, str, Any]:
    return choices, "minimal_pair_credits", lambda good, bad: np.greater_equal(good, bad).astype(float)


def constant_model() -> tuple[Any, str, Any]:
    return CausalLM, "head", lambda self, hidden: hidden.new_zeros(*hidden.shape[:-1], self.vocab_rows)


def swapped_answers() -> tuple[Any, str, Any]:
    honest = ioi.ioi_items

    def items(*args: Any, **kwargs: Any) -> list[Any]:
        return [replace(item, answer=item.foils[0], foils=(item.answer,)) for item in honest(*args, **kwargs)]

    return ioi, "ioi_items", items


def earlier_for_later() -> tuple[Any, str, Any]:
    honest = greater_than.greater_than_items

    def items(*args: Any, **kwargs: Any) -> list[Any]:
        found = honest(*args, **kwargs)
        return [replace(item, meta={**item.meta, "year": 99 - int(item.meta["year"])}) for item in found]

    return greater_than, "greater_than_items", items


def first_for_best() -> tuple[Any, str, Any]:
    return results.ChoiceScores, "pick", property(lambda self: int(np.argmin(self.logprobs)))


def bad_for_good() -> tuple[Any, str, Any]:
    honest = choices.minimal_pair_credits
    return choices, "minimal_pair_credits", lambda good, bad: honest(bad, good)


SABOTAGES: tuple[Sabotage, ...] = (
    on_code("labels-not-shifted", "A token's score is read off where it stands, not off the position before it.", labels_not_shifted),
    on_code("cut-at-the-right", "A context that is too long loses its end instead of its beginning.", cut_at_the_right),
    on_code("first-token-unscored", "Documents are scored without the token that goes before them, their first token not at all.", first_token_unscored),
    on_code("padded-at-the-left", "Rows of a batch are padded in front, without a mask.", padded_at_the_left),
    on_code("tails-see-each-other", "Continuations that share a computed context see each other, and nobody checks.", tails_see_each_other, packing_unchecked),
    on_code("half-softmax", "The softmax is computed in float16.", half_softmax),
    on_code("stale-cache", "The response cache forgets which model answered.", cache_without_weights),
    on_code("cache-half-key", "The response cache forgets the last token of the question.", cache_without_continuation),
    on_code("ties-as-wins", "Scoring sees a constant model, and ties count as wins.", constant_model, ties_win_probes, ties_win_pairs),
    on_code("least-likely-choice", "Multiple choice picks the least likely answer.", first_for_best),
    on_code("swapped-answers", "In indirect object identification, subject and object have changed places.", swapped_answers),
    on_code("earlier-for-later", "Greater-than counts from the wrong end of the century.", earlier_for_later),
    on_code("bad-for-good", "Minimal pairs take the wrong sentence for the right one.", bad_for_good),
)  # fmt: skip
