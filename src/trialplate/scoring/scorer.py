"""The scorer: requests of every kind to one model, with the request rules of lm-evaluation-harness and results in the order of the requests.

Scores do not depend on the order of the requests, and on their company only by rounding (see `noise`). Log-softmax is float32, sums are float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from trialplate.scoring.answers import CANDIDATES, CONTINUATION, TEXT, TOKENS, Answers, Progress, Report
from trialplate.scoring.cache import ResponseCache
from trialplate.scoring.forward import Forward
from trialplate.scoring.generation import generate
from trialplate.scoring.plan import Query, slot_offsets
from trialplate.scoring.requests import Encoder, RequestError, TokenPair, rolling_windows, scored_query, word_count
from trialplate.scoring.results import ChoiceScores, ContinuationScore, RollingScore, TokenScores
from trialplate.scoring.sinks import RowSink, Sink, TargetSink
from trialplate.scoring.surface import ScorableModel

Prompts = Sequence[str] | Sequence[Sequence[int]]
Positions = Literal["last"] | Sequence[int]
T = TypeVar("T")
Candidates = Sequence[int] | Sequence[Sequence[int]] | Tensor


class Scorer:
    """Scores requests with one model.

    token_budget    positions a batch may have, padding included (None: 1024 on a CPU, 8192 elsewhere); halved when memory runs out
    cache           answers on disk, keyed by the model's content; None computes everything. A model with hooks is never cached
    progress        called with (requests done, requests in all) of the call under way
    add_bos         put the beginning token before every text; None does what the tokenizer asks for, as lm-evaluation-harness does (Llama and
                    OPT ask for it, GPT-NeoX does not)
    share_contexts  compute a context that several requests share once, for models that take packed rows (`shares_contexts` says whether)

    Methods raise RequestError (a ValueError) for requests that cannot be scored, ScoringError for NaN or lack of memory."""

    def __init__(
        self,
        model: ScorableModel,
        *,
        token_budget: int | None = None,
        cache: ResponseCache | None = None,
        progress: Progress | None = None,
        add_bos: bool | None = None,
        share_contexts: bool = True,
    ) -> None:
        self.model, self.cache, self.progress = model, cache, progress
        self.share_contexts = share_contexts
        self._encoder = Encoder(model, add_bos)
        self.add_bos = bool(self._encoder.lead)
        self._forward = Forward(model, token_budget)
        self._answers = Answers(model, cache, progress)

    @property
    def token_budget(self) -> int:
        """Positions a batch may have now; smaller than asked for once memory has run out."""
        return self._forward.token_budget

    @property
    def shares_contexts(self) -> bool:
        """Whether shared contexts are computed once for this model."""
        return self.share_contexts and self._forward.shares_contexts()

    @property
    def cache_hits(self) -> int:
        """Requests answered from the cache so far."""
        return self._answers.hits

    @property
    def cache_misses(self) -> int:
        """Requests computed so far although there is a cache."""
        return self._answers.misses

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[ContinuationScore]:
        """Score continuations after their contexts, given as (context, continuation)."""
        return self._continuations(self._encoder.pairs(pairs))

    def loglikelihood_ids(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[ContinuationScore]:
        """Score token continuations after token contexts; both at least one token, nothing is added."""
        return self._continuations([TokenPair(tuple(context), tuple(scored)) for context, scored in pairs])

    def rolling(self, texts: Sequence[str]) -> list[RollingScore]:
        """Score whole texts, every token once, in disjoint windows. Raises RequestError for a text without tokens."""
        encoded = self._encoder.texts(_several(texts, "texts"))
        if not all(encoded):
            raise RequestError(
                f"{self.model.label}: text {[bool(ids) for ids in encoded].index(False)} is empty; wanted at least one token to score"
            )
        windows = [rolling_windows(ids, self._encoder.require_prefix(), self.model.max_length) for ids in encoded]
        scores = iter(self._continuations([window for document in windows for window in document]))
        return [
            RollingScore(sum(next(scores).logprob for _ in document), len(ids), len(text.encode()), word_count(text))
            for text, ids, document in zip(texts, encoded, windows, strict=True)
        ]

    def multiple_choice(
        self, questions: Sequence[tuple[str, Sequence[str]]], *, delimiter: str = ""
    ) -> list[ChoiceScores]:
        """Score every choice of (context, choices) questions. `delimiter` stands between context and choice and does not count for the lengths.

        Raises RequestError for a question without choices, or an empty choice."""
        for i, (_, choices) in enumerate(questions):
            if isinstance(choices, str) or not choices or not all(choices):
                raise RequestError(
                    f"{self.model.label}: question {i} has choices {choices!r}; wanted at least one, none of them empty"
                )
        pairs = [(context, delimiter + choice) for context, choices in questions for choice in choices]
        scores = iter(self.loglikelihood(pairs))
        return [_choice_scores(choices, [next(scores) for _ in choices]) for _, choices in questions]

    def token_logprobs(self, ids: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Score every token after the first of each sequence, given all before it. Sequences of 1 to max_length + 1 tokens; nothing is cut off."""
        sequences = [tuple(sequence) for sequence in ids]
        limit = self.model.max_length + 1
        for i, sequence in enumerate(sequences):
            if not 1 <= len(sequence) <= limit:
                raise RequestError(
                    f"{self.model.label}: sequence {i} has {len(sequence)} tokens; wanted 1 to {limit}, the first being given"
                )
        long_enough = [sequence for sequence in sequences if len(sequence) > 1]

        def compute(indices: list[int], report: Report) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
            queries = [Query(long_enough[i][:-1], len(long_enough[i]) - 1) for i in indices]
            return self._score(queries, [t for i in indices for t in long_enough[i][1:]], report)

        found = iter(self._answers.get(TOKENS, long_enough, compute))
        nothing = (np.zeros(0), np.zeros(0, dtype=np.bool_))
        return [TokenScores(*(next(found) if len(sequence) > 1 else nothing)) for sequence in sequences]

    def next_token_logprobs(
        self, prompts: Prompts, *, positions: Positions = "last", candidates: Candidates | None = None
    ) -> Float[Tensor, "n columns"]:
        """Log-probabilities of the token after a position of each prompt, float32 on the CPU.

        positions   "last", or one index a prompt (negative counts from its end): what follows the tokens up to and including it
        candidates  token ids whose columns are wanted, the same for all prompts [c] or one row a prompt [n, c]; None gives all, [n, vocab_rows],
                    which are never cached

        With "last", a prompt longer than the window is cut at the left. Raises RequestError for a position or candidate out of range."""
        return self._next_token(prompts, positions, candidates, normalise=True)

    def next_token_logits(
        self, prompts: Prompts, *, positions: Positions = "last", candidates: Candidates | None = None
    ) -> Float[Tensor, "n columns"]:
        """Like `next_token_logprobs`, before the softmax."""
        return self._next_token(prompts, positions, candidates, normalise=False)

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """Continue prompts greedily until the end token, a stop string (which is left out), or `max_new_tokens`."""
        encoded = self._encoder.prompts(_several(prompts, "prompts"))
        stops = list(_several(stop, "stop"))

        def compute(indices: list[int], report: Report) -> list[str]:
            return generate(self._forward, [encoded[i] for i in indices], max_new_tokens, stops, report)

        return self._answers.get(TEXT, [(ids, max_new_tokens, stops) for ids in encoded], compute)

    def _continuations(self, pairs: Sequence[TokenPair]) -> list[ContinuationScore]:
        queries, cuts = [], []
        for i, pair in enumerate(pairs):
            query, cut = scored_query(pair, self.model.max_length, self.model.label, i)
            queries.append(query)
            cuts.append(cut)

        def compute(indices: list[int], report: Report) -> list[tuple[float, bool]]:
            targets = [token for i in indices for token in pairs[i].continuation]
            scored = self._score([queries[i] for i in indices], targets, report)
            return [(float(logprobs.sum()), bool(is_argmax.all())) for logprobs, is_argmax in scored]

        requests = [(query.ids, pair.continuation) for query, pair in zip(queries, pairs, strict=True)]
        answers = self._answers.get(CONTINUATION, requests, compute)
        return [
            ContinuationScore(logprob, is_greedy, query.n_reads, cut)
            for (logprob, is_greedy), query, cut in zip(answers, queries, cuts, strict=True)
        ]

    def _score(
        self, queries: list[Query], targets: list[int], report: Report
    ) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
        """Log-probability and flag of each target, by query."""
        self._require_in_vocabulary(targets)
        sink = TargetSink(targets, self.model.device)
        self._run(queries, sink, report)
        logprobs, is_argmax = sink.results(self.model.label)
        ends = slot_offsets(queries)[1:-1]
        return list(zip(np.split(logprobs, ends), np.split(is_argmax, ends), strict=True)) if queries else []

    def _run(self, queries: list[Query], sink: Sink, report: Report) -> None:
        self._require_in_vocabulary([end for query in queries for end in (min(query.ids), max(query.ids))])
        self._forward.run(queries, sink, report, self.share_contexts)

    def _next_token(
        self, prompts: Prompts, positions: Positions, candidates: Candidates | None, normalise: bool
    ) -> Tensor:
        queries = self._prompt_queries(prompts, positions)
        columns = self._columns(candidates, len(queries))

        def compute(indices: list[int], report: Report) -> Tensor:
            chosen = None if columns is None else columns[indices]
            sink = RowSink(len(indices), self.model.vocab_rows, chosen, normalise)
            self._run([queries[i] for i in indices], sink, report)
            return sink.results(self.model.label)

        if columns is None:
            return compute(list(range(len(queries))), self._answers.reporter(0, len(queries)))
        requests = [(q.ids, row, normalise) for q, row in zip(queries, columns.tolist(), strict=True)]
        rows = self._answers.get(CANDIDATES, requests, lambda indices, report: list(compute(indices, report)))
        return torch.stack(rows) if rows else columns.float()

    def _prompt_queries(self, prompts: Prompts, positions: Positions) -> list[Query]:
        encoded = self._prompt_ids(prompts)
        if isinstance(positions, str):
            if positions != "last":
                raise RequestError(f'positions wants "last" or one index a prompt, got {positions!r}')
            return [Query(ids[-self.model.max_length :], 1) for ids in encoded]
        if len(positions) != len(encoded):
            raise RequestError(f"positions wants one index for each of {len(encoded)} prompts, got {len(positions)}")
        queries = []
        for i, (ids, at) in enumerate(zip(encoded, positions, strict=True)):
            end = at + 1 if at >= 0 else len(ids) + at + 1
            if not 1 <= end <= min(len(ids), self.model.max_length):
                raise RequestError(
                    f"{self.model.label}: position {at} of prompt {i} ({len(ids)} tokens) is outside it, or outside the window of {self.model.max_length}"
                )
            queries.append(Query(ids[:end], 1))
        return queries

    def _prompt_ids(self, prompts: Prompts) -> list[tuple[int, ...]]:
        _several(prompts, "prompts")
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if len(texts) == len(prompts):
            return self._encoder.prompts(texts)
        ids = [tuple(prompt) for prompt in prompts if not isinstance(prompt, str)]
        if texts or not all(ids):
            raise RequestError(
                "prompts want texts, or sequences of at least one token id; not both kinds, and no empty sequence"
            )
        return ids

    def _columns(self, candidates: Candidates | None, n: int) -> Tensor | None:
        """Candidate ids [n, c]."""
        if candidates is None:
            return None
        try:
            columns = torch.as_tensor(candidates, dtype=torch.long, device="cpu")
        except (ValueError, TypeError) as error:
            raise RequestError(
                f"candidates want token ids [c] or [{n}, c], the same number for each prompt: {error}"
            ) from error
        columns = columns.expand(n, -1) if columns.dim() == 1 else columns
        if columns.dim() != 2 or len(columns) != n:
            raise RequestError(f"candidates want token ids [c] or [{n}, c], got shape {list(columns.shape)}")
        self._require_in_vocabulary(columns.flatten().tolist())
        return columns

    def _require_in_vocabulary(self, ids: Sequence[int]) -> None:
        rows = self.model.vocab_rows
        if ids and not (min(ids) >= 0 and max(ids) < rows):
            wrong = next(i for i in ids if not 0 <= i < rows)
            raise RequestError(
                f"{self.model.label}: token {wrong} is none of the model's {rows} tokens (0 to {rows - 1}). Does the tokenizer belong to this model?"
            )


def _several(texts: Sequence[T], name: str) -> Sequence[T]:
    """The same; RequestError for one text, which would be taken for a sequence of its characters."""
    if isinstance(texts, str):
        raise RequestError(f"{name} wants a sequence of texts, got one text {texts[:40]!r}. Put it into a list.")
    return texts


def _choice_scores(choices: Sequence[str], scores: Sequence[ContinuationScore]) -> ChoiceScores:
    return ChoiceScores(
        logprobs=tuple(score.logprob for score in scores),
        is_greedy=tuple(score.is_greedy for score in scores),
        n_tokens=tuple(score.n_tokens for score in scores),
        lengths_chars=tuple(map(len, choices)),
        lengths_bytes=tuple(len(choice.encode()) for choice in choices),
    )
