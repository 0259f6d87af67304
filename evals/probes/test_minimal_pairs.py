"""Minimal pairs in BLiMP's format (Warstadt et al. 2020, arXiv:1912.00582): the shipped sample, and every file of DATA/blimp.

Budget: 3 CPU seconds for the sample.
"""

from collections import defaultdict

from trialplate.metrics.choices import minimal_pair_credits
from trialplate.tasks.formats import read_blimp


def files(data_dir):
    """The shipped sample, and what a user has put beside it."""
    return [data_dir / "samples" / "minimal_pairs.jsonl", *sorted((data_dir / "blimp").glob("*.jsonl"))]


def pytest_generate_tests(metafunc):
    from trialplate.plugin import options

    found = [f for f in files(options.folder(metafunc.config, "data")) if f.is_file()]
    metafunc.parametrize("task", [f.stem if f.stem != "minimal_pairs" else "minimal_pairs_sample" for f in found])


def test_minimal_pairs(task, data_dir, scorer, control_scorer, record, uses_file, limit):
    """Accuracy: share of pairs whose grammatical sentence is likelier as a whole; ties count half, else a constant model is perfect."""
    from trialplate.metrics import statistics

    path = next(f for f in files(data_dir) if task in (f.stem, f"{f.stem}_sample"))
    by_group = defaultdict(list)
    for pair in read_blimp(path):
        by_group[pair.group].append(pair)
    uses_file(task, path, sum(map(len, by_group.values())))
    for group, pairs in sorted(by_group.items()):
        pairs = pairs[: limit(len(pairs))]
        ours, twins = (credits_of(s, pairs) for s in (scorer, control_scorer))
        samples = [{"item": p.id, "value": v, "good": p.good, "bad": p.bad} for p, v in zip(pairs, ours, strict=True)]
        record(
            "accuracy",
            statistics.proportion(ours),
            null=("random_weights", statistics.proportion(twins)),
            samples=samples,
            task=task,
            phenomenon=group,
        )
    assert by_group


def credits_of(scorer, pairs):
    """1, 0.5 or 0 a pair."""
    scores = scorer.rolling([p.good for p in pairs] + [p.bad for p in pairs])
    return minimal_pair_credits([s.logprob for s in scores[: len(pairs)]], [s.logprob for s in scores[len(pairs) :]])
