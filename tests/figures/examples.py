"""Small tables and reports that pictures are drawn from in tests: values that can be read off again."""

import numpy as np
import pandas as pd

from trialplate.report.conclude import reasons
from trialplate.report.model import Case, Code, Environment, Measurement, Report, Run

SUBJECT = "m|cpu|float32"
SPARSITY = ["task_id", "layer", "site", "positions", "metric", "value", "ci_lo", "ci_hi", "n_tokens", "n_docs"]


def sparsity(tasks=("code", "math"), layers=3, metrics=("gini",), positions=("all",), scale=1.0):
    """value = scale * (task + layer / 10 + 1), multiplied by 1000 for every further metric; the interval reaches 0.1 each way."""
    rows = [
        (t, n, f"L{n}.mlp_act", p, m, v, v - 0.1 * 1000**k, v + 0.1 * 1000**k, 100 + i, 10)
        for k, m in enumerate(metrics)
        for p in positions
        for i, t in enumerate(tasks)
        for n in range(layers)
        for v in [scale * (i + n / 10 + 1) * 1000**k]
    ]
    return pd.DataFrame(rows, columns=SPARSITY)


def units(rates, layer=0, task="code"):
    """One layer of units with these firing rates."""
    rows = [(task, layer, f"L{layer}.mlp_act", i, r, r) for i, r in enumerate(rates)]
    return pd.DataFrame(rows, columns=["task_id", "layer", "site", "unit", "rate", "mean_abs"])


def lorenz(layers=2, tasks=("code",)):
    """Curves y = x ** (n + 2), which lie lower the higher the layer."""
    x = np.linspace(0, 1, 11)
    rows = [
        (t, n, f"L{n}.mlp_act", a, a ** (n + 2), (n + 1) / (n + 3)) for t in tasks for n in range(layers) for a in x
    ]
    return pd.DataFrame(rows, columns=["task_id", "layer", "site", "share_of_entries", "share_of_magnitude", "gini"])


def si_units(values, nulls, layer=0, scored=None):
    """One layer of units; those that are not scored have empty cells."""
    scored = [1] * len(values) if scored is None else scored
    rows = [
        (layer, f"L{layer}.mlp_act", i, 100, s, v if s else None, n if s else None, 0.1, 0.01, int(v > 0.3), "code")
        for i, (v, n, s) in enumerate(zip(values, nulls, scored, strict=True))
    ]
    names = "layer site unit n_firings scored si si_null mi_bits q_value selective preferred_task"
    return pd.DataFrame(rows, columns=names.split())


def si_rates(rates, tasks=("code", "math"), layer=0):
    """One layer; `rates` has a row a unit and a column a task."""
    rows = [
        (layer, f"L{layer}.mlp_act", u, t, r) for u, row in enumerate(rates) for t, r in zip(tasks, row, strict=True)
    ]
    return pd.DataFrame(rows, columns=["layer", "site", "unit", "task_id", "rate"])


def si(layers=2, shift=0.0):
    """0.2 for the index and 0.01 for its null in layer 0, growing with the layer."""
    values = {"si_mean": 0.2, "si_null": 0.01, "si_excess": 0.19, "si_coverage": 0.9, "mi_bits": 0.05}
    values |= {"frac_selective": 0.4, "frac_selective_null": 0.002}
    rows = [
        (n, f"L{n}.mlp_act", m, v + n / 100 + shift, v + n / 100 - 0.001, v + n / 100 + 0.001, 64, 30)
        for n in range(layers)
        for m, v in values.items()
    ]
    return pd.DataFrame(rows, columns=["layer", "site", "metric", "value", "ci_lo", "ci_hi", "n_units", "n_docs"])


def modularity(q=(0.5, 0.9), defined=(1, 0)):
    """A layer a value of Q; z is empty where Q is not defined."""
    rows = []
    for n, (value, is_defined) in enumerate(zip(q, defined, strict=True)):
        z = 40.0 if is_defined else None
        found = {
            "q": value,
            "q_null_mean": 0.1,
            "q_null_sd": 0.01,
            "q_z": z,
            "q_defined": is_defined,
            "n_edges": 6,
            "n_units": 4,
        }
        rows += [(n, f"L{n}.mlp_act", "louvain", m, v) for m, v in found.items()]
    return pd.DataFrame(rows, columns=["layer", "site", "algorithm", "metric", "value"])


def nulls(layers=2, draws=3):
    """Rewired graphs with Q around 0.1; shifted ones with few edges and a high Q."""
    rows = [
        (n, f"L{n}.mlp_act", kind, k, q + k / 100, edges)
        for n in range(layers)
        for kind, q, edges in (("rewired", 0.1, 6), ("shifted", 0.8, 2))
        for k in range(draws)
    ]
    return pd.DataFrame(rows, columns=["layer", "site", "kind", "draw", "q", "n_edges"])


def communities(labels=(1, 0, 0, 0, -1), layer=0):
    """Unit i in community labels[i]; -1 is outside the graph."""
    rows = [(layer, f"L{layer}.mlp_act", i, c) for i, c in enumerate(labels)]
    return pd.DataFrame(rows, columns=["layer", "site", "unit", "community"])


def edges(pairs=((1, 2, 5.0), (2, 3, 7.0), (0, 1, 2.0)), layer=0):
    """Edges (unit, unit, weight) of one layer."""
    rows = [(layer, f"L{layer}.mlp_act", a, b, w) for a, b, w in pairs]
    return pd.DataFrame(rows, columns=["layer", "site", "unit_a", "unit_b", "weight"])


def dynamic_k(scopes=("all", "L0"), rules=("topk",), dense=20.0):
    """perplexity = dense * (2 - kept), in every scope the same."""
    rows = [
        (s, rule, k, k, dense * (2 - k), dense * (2 - k) - 1, dense * (2 - k) + 1, 100 * (1 - k), 1.0, 1 - k, 1000, 20)
        for rule in rules
        for s in scopes
        for k in (0.2, 0.5, 1.0)
    ]
    names = "scope rule kept kept_measured perplexity ppl_lo ppl_hi dppl_pct bits_per_byte kl_to_dense n_tokens n_docs"
    return pd.DataFrame(rows, columns=names.split())


def dynamic_k_null():
    """As many random units: perplexity 200 at a kept share of 0.2, 50 at 0.5."""
    rows = [
        ("all", "random", k, k, p, p - 9, p + 9, 100.0, 1.0, kl, 1000, 20)
        for k, p, kl in ((0.2, 200.0, 4.0), (0.5, 50.0, 2.0))
    ]
    return pd.DataFrame(rows, columns=dynamic_k().columns)


def speed():
    """A dense model at 100 tokens per second, a mask at 95, and a gather that reaches 110 under a ceiling of 1.2."""
    rows = [(1.0, "dense", 100.0, 99.0, 101.0, 1.0, 1.0, None, 20.0, 1, 25)]
    for kept, gather, ceiling in ((0.5, 104.0, 1.1), (0.2, 110.0, 1.2)):
        ppl = 20.0 * (2 - kept)
        rows.append((kept, "mask", 95.0, 94.0, 96.0, 0.95, ceiling, -0.5, ppl, 1, 25))
        rows.append((kept, "gather-numba", gather, gather - 1, gather + 1, gather / 100, ceiling, 0.4, ppl, 1, 25))
    names = "kept kernel tokens_per_second tps_lo tps_hi speedup speedup_ceiling efficiency perplexity threads repeats"
    return pd.DataFrame(rows, columns=names.split())


def ablation(tasks=("code", "math")):
    """A task's own units cost 5 % more than random ones, those of others nothing."""
    rows = [(2, a, e, 6.0 if a == e else 1.0, 1.0, 0.5, 10.0 if a == e else 0.0) for a in tasks for e in tasks]
    names = "layer ablated_task evaluated_task loss_increase_pct null_mean null_sd z"
    return pd.DataFrame(rows, columns=names.split())


def scaling(models=(("small", 1e7), ("large", 1e9)), steps=(0, 1000)):
    """q_z = size in 1e7 plus steps in 1000; frac_selective a hundredth of that."""
    rows = [
        (m, n, s, metric, v, v - 0.1, v + 0.1)
        for m, n in models
        for s in steps
        for metric, v in (("q_z", n / 1e7 + s / 1000), ("frac_selective", (n / 1e7 + s / 1000) / 100))
    ]
    return pd.DataFrame(rows, columns=["model", "n_parameters", "step", "metric", "value", "ci_lo", "ci_hi"])


def samples(values, task="ioi", order="ABBA", subject=SUBJECT):
    """Items of one case as in samples.parquet."""
    params = f'{{"order":"{order}","task":"{task}"}}'
    rows = [(subject, "c", "logit_diff", params, f"{task}/{i}", v, "{}") for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["subject", "case", "metric", "params", "item", "value", "extra"])


def measurement(metric, value, stderr=0.1, direction="higher", subject=SUBJECT, case="a.py::t", **params):
    """A measurement of one case; its id names the subject, as pytest's does."""
    ci = None if stderr is None else (value - 2 * stderr, value + 2 * stderr)
    return Measurement(
        case=f"{case}[{subject}]", subject=subject, metric=metric, params=params, value=value, n=50, stderr=stderr, ci=ci,
        unit="x", direction=direction,
    )  # fmt: skip


def report(*measurements, name="run"):
    """A finished report that holds these measurements and is believed by the reader."""
    found = {m.case: m.subject for m in measurements}
    cases = [
        Case(id=c, subject=s, outcome="passed", measured=sum(m.case == c for m in measurements))
        for c, s in found.items()
    ]
    run = Run(id=name, state="finished", started_at="2025-01-01T00:00:00Z", exit_status=0)
    why = reasons(run, [], cases, list(measurements), [], [], [])
    return Report(
        pass_all=not why, reasons=why, run=run, subjects=[], code=Code(trialplate="0", trialplate_sha256=""), config={}, data=[],
        environment=Environment(python="3", platform="p", cpu="c", cpu_count=1), cases=cases, measurements=list(measurements),
        policies=[], gates=[],
    )  # fmt: skip


def lines(axes):
    """The lines of axes by their labels, without those that matplotlib made up names for."""
    return {str(x.get_label()): x for x in axes.get_lines() if not str(x.get_label()).startswith("_")}


def words(figure):
    """All words of a figure in one string."""
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))
