"""Six domains of texts, read once a model: every case about activations asks the same study.

Texts are those of the manifest's `domain_*` lines; the end-of-text tokens between their documents are read and not counted. Position 0 is left
out unless a case says otherwise. Layers are named by depth, so that cases are the same for every model: 25% of four layers is L1.
"""

import pytest

# for every file of this folder: `pytestmark = APPLIES`
APPLIES = [pytest.mark.requires_sites, pytest.mark.requires_data("probe_tasks.jsonl")]
N_TEXTS, N_HELD_OUT, N_ROWS = 40, 12, 96
DEPTHS = ("0%", "25%", "50%", "75%")
STUDIES = {}  # of one subject at a time


@pytest.fixture
def domains(subject, model, data_dir, limit, record):
    """Token ids of texts by task: `domains["measured"]` to measure on, and `domains["held_out"]`, others to test on."""
    n = max(2, limit(N_TEXTS))
    found, used = once(subject.key, ("texts", n), lambda: read_domains(model, data_dir / "probe_tasks.jsonl", n))
    for name, sha256, n_texts, license_ in used:
        record.uses(name, sha256, n_texts, license=license_)
    return found


def read_domains(model, manifest, n):
    """(token ids by use and task, what a report says of them). No document of a measured text stands in a held-out one."""
    from trialplate.tasks.manifest import load_manifest
    from trialplate.tasks.stimuli import stimuli_digest, texts, token_rows

    found, used, tokenizer = {"measured": {}, "held_out": {}}, [], model.tokenizer
    lead = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    for line in load_manifest(manifest):
        if line.task_id.startswith("domain_"):
            stimuli = texts(line, tokenizer.encode)
            seen = {part for stimulus in stimuli[:n] for part in stimulus.parts}
            others = [s for s in stimuli[n:] if seen.isdisjoint(s.parts)][:N_HELD_OUT]
            for use, some in (("measured", stimuli[:n]), ("held_out", others)):
                rows = token_rows(some, tokenizer.encode_batch, tokenizer.eos_id)
                found[use][line.task_id] = [[*lead, *row] for row in rows]
                used.append((f"{line.task_id}, {use}", stimuli_digest(some), len(some), line.license or None))
    return found, used


def once(key, what, make):
    """`make()`, remembered for as long as cases of one subject follow each other."""
    if (key, what) not in STUDIES:
        for other in [k for k in STUDIES if k[0] != key]:
            del STUDIES[other]
        STUDIES[key, what] = make()
    return STUDIES[key, what]


@pytest.fixture
def study(subject, model, domains):
    """The study of the subject: the hidden units at four depths on all domains."""
    return studied(subject.key, "own", model, domains)


@pytest.fixture
def control_study(subject, control, domains):
    """The same study of the random twin."""
    return studied(subject.key, "twin", control, domains)


def studied(key, whose, model, domains):
    from trialplate.activations.sites import choose
    from trialplate.activations.study import Wanted, run_study

    def make():
        wanted = Wanted(n_rows=N_ROWS, bits=True)
        return run_study(model, domains["measured"], choose(model, DEPTHS), wanted, seed=0, skip=separators(model))

    return once(key, (whose, len(next(iter(domains["measured"].values())))), make)


def largest(values):
    """The largest value, or NaN where there is one: `record` refuses that, which `max` would have hidden."""
    import numpy as np

    return float(np.max(np.asarray(list(values), dtype=np.float64)))


def separators(model):
    """What stands between the documents of a text."""
    return [] if model.tokenizer.eos_id is None else [model.tokenizer.eos_id]


@pytest.fixture
def at_depth(model):
    """at_depth("25%"): the layer."""
    from trialplate.activations.sites import layer_at_depth

    return lambda depth: layer_at_depth(model.n_layers, float(depth.rstrip("%")))


@pytest.fixture
def rows_of(domains):
    """rows_of(n): the first n texts of every domain, one list."""
    return lambda n: [row for rows in domains["measured"].values() for row in rows[:n]]
