"""What all evals share: `measure` turns per-item values into a measurement with n, standard error, interval, null and samples.

The default tier costs about three minutes of one core; every file says its own budget.
"""

import pytest


@pytest.fixture
def measure(record):
    """measure(metric, values, items, null, ...): the mean of per-item values with everything that belongs to it.

    Shares get Wilson intervals, other means Student's; `clusters` are labels of items that depend on each other. `null` is the
    same metric's values for the random-weights twin, or a number that chance gives (then with `kind`).
    """
    from trialplate.metrics import statistics
    from trialplate.report.catalogue import METRICS

    def measured(metric, values, items, null, *, clusters=None, kind="random_weights", **params):
        is_share = METRICS[metric].unit == "fraction"

        def estimate(numbers):
            if clusters is not None:
                return (statistics.clustered_proportion if is_share else statistics.clustered_mean)(numbers, clusters)
            return (statistics.proportion if is_share else statistics.mean)(numbers)

        result = estimate(values)
        samples = [{"item": i.id, "value": v, **shown(i)} for i, v in zip(items, values, strict=True)]
        reference = null if isinstance(null, int | float) else estimate(null)
        record(metric, result, null=(kind, reference), samples=samples, **params)
        return result.value

    return measured


def shown(item):
    """What a reader of failures wants to see of an item."""
    fields = ("prompt", "answer", "context", "target", "good", "bad", "group")
    return {f: getattr(item, f)[-200:] for f in fields if isinstance(getattr(item, f, None), str)}


@pytest.fixture
def uses(record):
    """uses(name, items): name the items of this case in the report, by content."""
    from trialplate.tasks.items import items_digest

    def used(name, items, **more):
        record.uses(name, items_digest(items), len(items), **more)
        return items

    return used


@pytest.fixture
def uses_file(record):
    """uses_file(name, path, n): name the n items of this case in the report, by the bytes of the file that holds them."""
    import hashlib

    return lambda name, path, n: record.uses(name, hashlib.sha256(path.read_bytes()).hexdigest(), n)
