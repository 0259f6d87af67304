"""Texts of six domains as token ids, and what was made of them, remembered while cases of one subject follow each other.

Texts are those of the manifest's `domain_*` lines; the end-of-text tokens between their documents are read and not counted. No document of a
measured text stands in a held-out one.
"""

import pytest

# for files whose cases read activations of these texts: `pytestmark = APPLIES`
APPLIES = [pytest.mark.requires_sites, pytest.mark.requires_data("probe_tasks.jsonl")]
N_TEXTS, N_HELD_OUT = 40, 12
REMEMBERED = {}  # of one subject at a time


@pytest.fixture
def domains(subject, model, data_dir, limit, record):
    """Token ids of texts by task: `domains["measured"]` to measure on, and `domains["held_out"]`, others to test on."""
    n = max(2, limit(N_TEXTS))
    found, used = once(subject.key, ("texts", n), lambda: read_domains(model, data_dir / "probe_tasks.jsonl", n))
    for name, sha256, n_texts, license_ in used:
        record.uses(name, sha256, n_texts, license=license_)
    return found


def read_domains(model, manifest, n):
    """(token ids by use and task, what a report says of them)."""
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
    if (key, what) not in REMEMBERED:
        for other in [k for k in REMEMBERED if k[0] != key]:
            del REMEMBERED[other]
        REMEMBERED[key, what] = make()
    return REMEMBERED[key, what]


def separators(model):
    """What stands between the documents of a text."""
    return [] if model.tokenizer.eos_id is None else [model.tokenizer.eos_id]
