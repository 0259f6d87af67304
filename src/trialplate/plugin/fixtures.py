"""What an eval asks for: the model, its scorer, its random twin, a generator, and `record`. All of them work without a report too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import cases, keys, options


@pytest.fixture
def trialplate_subject(request: pytest.FixtureRequest) -> Any:
    """The specification of the case's subject; parametrized over --model, --revision, --device and --dtype."""
    if request.param is None:
        pytest.fail(options.NO_MODEL, pytrace=False)
    return request.param


@pytest.fixture
def subject(trialplate_subject: Any) -> Any:
    """The subject's specification (name, revision, adapter, device, dtype, label, key), for cases that only read files."""
    return trialplate_subject


@pytest.fixture
def source(request: pytest.FixtureRequest, trialplate_subject: Any) -> Any:
    """Where the subject's files are: `source.path` holds config, tokenizer and weights."""
    from trialplate.plugin.loading import source_of

    found = source_of(request.config, trialplate_subject)
    if found is None:
        pytest.fail(f"{trialplate_subject.label} has no files; mark the case requires_files", pytrace=False)
    return found


@pytest.fixture
def model(request: pytest.FixtureRequest, trialplate_subject: Any, record: Any) -> Any:
    """The subject's model (CausalLM), leased from the pool: one load a model, device and process."""
    from trialplate.plugin.loading import pool

    found = pool(request.config).lease(trialplate_subject)
    record.identity = {**found.identity(), "key": trialplate_subject.key}
    return found


@pytest.fixture
def scorer(request: pytest.FixtureRequest, model: Any, progress: Any, record: Any) -> Any:
    """Scores requests with the subject's model. A budget that memory forced down is written into the report."""
    from trialplate.plugin.loading import cache
    from trialplate.scoring import Scorer

    found = Scorer(model, cache=cache(request.config), progress=progress)
    asked = found.token_budget

    def shrunk() -> str | None:
        now = found.token_budget
        return (
            None if now == asked else f"{model.label}: memory ran out, batches were cut from {asked} to {now} positions"
        )

    record.degradations.append(shrunk)
    return found


@pytest.fixture
def tokenizer(request: pytest.FixtureRequest, trialplate_subject: Any) -> Any:
    """The subject's tokenizer, read from its files without loading the model."""
    from trialplate.plugin.loading import tokenizer as find

    return find(request.config, trialplate_subject)


@pytest.fixture
def control(request: pytest.FixtureRequest, trialplate_subject: Any) -> Any:
    """The random-weights twin of the subject's model: what a probe gives when nothing was learnt. Measured beside, never judged."""
    from trialplate.plugin.loading import pool

    return pool(request.config).twin(trialplate_subject, seed=cases.case_seed(0, "control") % 2**31)


@pytest.fixture
def control_scorer(control: Any) -> Any:
    """Scores requests with the random twin."""
    from trialplate.scoring import Scorer

    return Scorer(control)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Any:
    """`record(metric, value, n=..., **params)`: the measurements of this case. It only records; the assert is the eval's."""
    from trialplate.plugin import hookspec
    from trialplate.report.recording import Recorder

    spec = request.getfixturevalue("trialplate_subject") if "trialplate_subject" in request.fixturenames else None
    case = cases.case_id(request.node.nodeid, request.config)
    recorder = Recorder(case, spec.key if spec else "", hookspec.extra_metrics(request.config))
    request.node.stash[keys.RECORDER] = recorder
    return recorder


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this case, from the run's seed and the case's id."""
    case = cases.case_id(request.node.nodeid, request.config)
    return cases.case_seed(options.value(request.config, "seed"), case)


@pytest.fixture
def rng(seed: int) -> Any:
    """The numpy generator of this case."""
    import numpy as np

    return np.random.default_rng(seed)


@pytest.fixture
def limit(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """`limit(n)`: n items, or fewer where --limit says so."""
    given = options.value(request.config, "limit")
    return lambda n: n if given is None else min(n, given)


@pytest.fixture
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of local texts and data sets."""
    return options.folder(request.config, "data")


@pytest.fixture
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of golden values."""
    return options.folder(request.config, "golden")


@pytest.fixture
def golden_file(request: pytest.FixtureRequest, trialplate_subject: Any) -> Callable[[str], Path]:
    """`golden_file(kind)`: the file of golden values of a kind for the subject's model; it may not exist yet."""
    from trialplate.plugin.loading import golden_file as find

    return lambda kind: find(request.config, trialplate_subject, kind)


@pytest.fixture
def golden_update(request: pytest.FixtureRequest) -> bool:
    """Whether golden values are to be written instead of compared with."""
    return bool(options.value(request.config, "golden_update"))


@pytest.fixture
def progress(request: pytest.FixtureRequest) -> Iterator[Any]:
    """`progress(done, total)`: shown once a case takes long; a bar on a terminal, plain lines elsewhere."""
    from trialplate.plugin.progress_bar import Progress

    shown = Progress(request.config, request.node.name)
    yield shown
    shown.close()


@pytest.fixture
def trialplate_gate(request: pytest.FixtureRequest) -> Any:
    """A gate bound to a subject; parametrized over the policies of this run."""
    return request.param


@pytest.fixture
def verdict(request: pytest.FixtureRequest, trialplate_gate: Any) -> Any:
    """The verdict of the case's gate on its subject. Fails the case where no policy judges the subject at all."""
    if isinstance(trialplate_gate, str):
        from trialplate.plugin.outcomes import no_policy

        pytest.fail(no_policy(trialplate_gate), pytrace=False)
    run = request.config.stash.get(keys.RUN, None)
    if run is None:
        pytest.fail("gates judge a report, and this run writes none; give --report DIR", pytrace=False)
    wanted = (trialplate_gate.policy.name, trialplate_gate.gate.name, trialplate_gate.subject)
    found = next((v for v in run.verdicts() if (v.policy, v.gate, v.subject) == wanted), None)
    if found is None:
        pytest.fail("nothing was measured, so there is nothing to judge", pytrace=False)
    return found
