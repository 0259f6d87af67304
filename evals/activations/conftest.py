"""Six domains of texts, read once a model: every case about activations asks the same study.

Texts are those of the manifest's `domain_*` lines; the end-of-text tokens between their documents are read and not counted. Position 0 is left
out unless a case says otherwise. Layers are named by depth, so that cases are the same for every model: 25% of four layers is L1.
"""

import pytest

# for every file of this folder: `pytestmark = APPLIES`
APPLIES = [pytest.mark.requires_sites, pytest.mark.requires_data("probe_tasks.jsonl")]
N_TEXTS, N_HELD_OUT, N_ROWS = 48, 12, 192
DEPTHS = ("0%", "25%", "50%", "75%")
STUDIES = {}  # of one subject at a time: {(key of the subject, twin or not, texts a task): study}


@pytest.fixture
def domains(model, data_dir, limit, record):
    """Token ids of texts by task: `domains["measured"]` to measure on, and `domains["held_out"]`, others to test on."""
    from trialplate.tasks.manifest import load_manifest
    from trialplate.tasks.stimuli import stimuli_digest, texts, token_rows

    n, found = limit(N_TEXTS), {"measured": {}, "held_out": {}}
    for line in load_manifest(data_dir / "probe_tasks.jsonl"):
        if line.task_id.startswith("domain_"):
            stimuli = texts(line, model.tokenizer.encode, n + N_HELD_OUT)
            rows = token_rows(stimuli, model.tokenizer.encode_batch, model.tokenizer.eos_id)
            found["measured"][line.task_id], found["held_out"][line.task_id] = rows[:n], rows[n:]
            record.uses(line.task_id, stimuli_digest(stimuli), len(stimuli), license=line.license or None)
    return found


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

    n = len(next(iter(domains["measured"].values())))
    if (key, whose, n) not in STUDIES:
        for other in [k for k in STUDIES if (k[0], k[2]) != (key, n)]:
            del STUDIES[other]
        wanted = Wanted(n_rows=N_ROWS, bits=True)
        STUDIES[key, whose, n] = run_study(
            model, domains["measured"], choose(model, DEPTHS), wanted, seed=0, skip=separators(model)
        )
    return STUDIES[key, whose, n]


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
