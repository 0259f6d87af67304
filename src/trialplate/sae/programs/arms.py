"""Grids of coders to train. A cell is one coder: a configuration with its seeds. A condition is a configuration without them: cells of one
condition differ by seed alone.

Both are named by a hash of everything that decides what is trained, so two configurations that differ anywhere are two conditions, whatever they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import StudyError, TrainingError
from trialplate.sae.learner import Learner
from trialplate.sae.programs.results import config_hash
from trialplate.sae.settings import TrainingSettings, resolved
from trialplate.sae.source import Source
from trialplate.sae.training import Trained, train
from trialplate.sae.training_log import Progress

Order = Literal["shared", "own"]
"""Whether coders of a condition see the rows in one order, or each in an order drawn from its own seed."""
After = Callable[[str, int], None]
_SEEDS = ("init_seed", "data_seed", "eval_seed")


@dataclass(frozen=True)
class Arm:
    """One coder to train. seed: the number that tells cells of a condition apart. about: what varies in the grid, for tables; plain data."""

    coder: CoderConfig
    settings: TrainingSettings
    seed: int
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def condition(self) -> str:
        """Hash of the configuration without its seeds."""
        return condition_key(self.coder, self.settings)

    @property
    def cell(self) -> str:
        """Hash of the configuration with its seeds."""
        return config_hash({"coder": self.coder, "settings": resolved(self.settings, self.coder)})


@dataclass(frozen=True)
class Grid:
    """What became of every arm: trained, or missing with the reason. Keys are cells."""

    arms: tuple[Arm, ...]
    trained: Mapping[str, Trained]
    missing: Mapping[str, str]

    def conditions(self) -> dict[str, list[Arm]]:
        """The arms of every condition, in the order given."""
        return by_condition(self.arms)

    def lost(self, arms: Iterable[Arm]) -> dict[str, str]:
        """{seed: reason} of those that are missing."""
        return {str(arm.seed): self.missing[arm.cell] for arm in arms if arm.cell in self.missing}

    def of(self, arms: Iterable[Arm]) -> dict[int, Trained]:
        """{seed: trained} of the arms of one condition. StudyError where one is missing: a mean over the seeds that are left is another mean."""
        arms = list(arms)
        if lost := self.lost(arms):
            seed, reason = next(iter(lost.items()))
            raise StudyError(f"{len(lost)} of {len(arms)} coders are missing, first that of seed {seed}: {reason}")
        return {arm.seed: self.trained[arm.cell] for arm in arms}


def condition_key(coder: CoderConfig, settings: TrainingSettings) -> str:
    """Hash of a whole configuration, defaults filled in, except its three seeds. TrainingError for settings that do not fit the coder."""
    kept = {name: value for name, value in asdict(resolved(settings, coder)).items() if name not in _SEEDS}
    return config_hash({"coder": coder, "settings": kept})


def by_condition(arms: Iterable[Arm]) -> dict[str, list[Arm]]:
    """The arms of every condition, in the order given."""
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        found.setdefault(arm.condition, []).append(arm)
    return found


def over_seeds(
    coder: CoderConfig, settings: TrainingSettings, seeds: Sequence[int], *, order: Order = "shared", **about: Any
) -> list[Arm]:
    """One arm a seed, which draws the initial weights and, with `order` "own", the order of the rows too."""
    of_data = {seed: seed if order == "own" else settings.data_seed for seed in seeds}
    return [Arm(coder, settings.with_(init_seed=seed, data_seed=of_data[seed]), seed, about) for seed in seeds]


def train_arms(
    arms: Sequence[Arm],
    rows: Source,
    held_out: Source,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    after: After = lambda condition, n: None,
    watch: Callable[[Progress], None] | None = None,
    prepare: Callable[[Learner], None] | None = None,
) -> Grid:
    """Train every arm on `rows`, condition by condition. A coder that cannot be trained is missing, with the reason; the others are not lost with it.

    folder, prepare: where coders are kept, and what is done to learners; see `training.train`. after(condition, n): called when the n coders of a
    condition are done; watch: at every logging step. StudyError for no arms, and for one cell twice; TrainingError for settings that do not fit their coder."""
    cells = [arm.cell for arm in arms]
    if not arms:
        raise StudyError("an empty grid: there is nothing to train; give at least one configuration and one seed")
    if twice := len(cells) - len(set(cells)):
        raise StudyError(f"{twice} of {len(cells)} configurations appear a second time; one coder cannot count as two")
    trained: dict[str, Trained] = {}
    missing: dict[str, str] = {}
    for key, members in by_condition(arms).items():
        plans = [(arm.coder, arm.settings) for arm in members]
        run = partial(train, rows=rows, held_out=held_out, folder=folder, device=device, after=watch, prepare=prepare)
        try:
            trained |= dict(zip([arm.cell for arm in members], run(plans), strict=True))
        except TrainingError:
            # one of them broke and took the others along: each again by itself, from where it stood if it was written down
            for arm, plan in zip(members, plans, strict=True):
                try:
                    (trained[arm.cell],) = run([plan], resume=folder is not None)
                except TrainingError as error:
                    missing[arm.cell] = str(error)
        after(key, len(members))
    return Grid(tuple(arms), trained, missing)
