"""Answers from the cache where it has them, computed where not. Without a cache, everything is computed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from trialplate.scoring.cache import ResponseCache, answer_key
from trialplate.scoring.identity import responder
from trialplate.scoring.surface import ScorableModel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of answer: its name in the key, and how it is written as bytes and read again, exactly."""

    name: str
    dump: Callable[[T], bytes]
    load: Callable[[bytes], T]


def _load_tokens(value: bytes) -> tuple[np.ndarray, np.ndarray]:
    n = len(value) // 9
    return np.frombuffer(value[: 8 * n], "<f8"), np.frombuffer(value[8 * n :], np.bool_)


CONTINUATION: Kind[tuple[float, bool]] = Kind(
    "continuation", lambda answer: struct.pack("<d?", *answer), lambda value: struct.unpack("<d?", value)
)
TOKENS: Kind[tuple[np.ndarray, np.ndarray]] = Kind(
    "tokens", lambda answer: answer[0].astype("<f8").tobytes() + answer[1].tobytes(), _load_tokens
)
CANDIDATES: Kind[torch.Tensor] = Kind(
    "candidates",
    lambda answer: answer.numpy().astype("<f4").tobytes(),
    lambda value: torch.from_numpy(np.frombuffer(value, "<f4").copy()),
)
TEXT: Kind[str] = Kind("text", str.encode, bytes.decode)


Report = Callable[[int], None]
Progress = Callable[[int, int], None]


class Answers:
    """Answers of one model. `hits` counts requests that the cache answered, `misses` those that were computed although there is a cache."""

    def __init__(self, model: ScorableModel, cache: ResponseCache | None, progress: Progress | None) -> None:
        self.model, self.cache, self.progress = model, cache, progress
        self.hits = self.misses = 0

    def get(
        self, kind: Kind[T], requests: Sequence[object], compute: Callable[[list[int], Report], Sequence[T]]
    ) -> list[T]:
        """One answer a request. `requests` are plain data that decide the answer; `compute(indices, report)` gives the answers of some of them and
        reports how many more are done."""
        everything = list(range(len(requests)))
        name = responder(self.model) if self.cache is not None and requests else None
        if self.cache is None or name is None:
            return list(compute(everything, self.reporter(0, len(requests))))
        keys = [
            answer_key(name, kind.name, json.dumps(content, separators=(",", ":")).encode()) for content in requests
        ]
        known = {key: kind.load(value) for key, value in self.cache.lookup(list(dict.fromkeys(keys))).items()}
        missing = [i for i in everything if keys[i] not in known]
        report = self.reporter(len(requests) - len(missing), len(requests))
        self.hits += len(requests) - len(missing)
        self.misses += len(missing)
        if missing:
            computed = dict(zip((keys[i] for i in missing), compute(missing, report), strict=True))
            self.cache.store({key: kind.dump(answer) for key, answer in computed.items()})
            known |= computed
        return [known[key] for key in keys]

    def reporter(self, done: int, total: int) -> Report:
        """Adds finished requests up for `progress`, which hears of those that are done already at once."""

        def report(n: int) -> None:
            nonlocal done
            done += n
            if self.progress is not None:
                self.progress(done, total)

        if done:
            report(0)
        return report
