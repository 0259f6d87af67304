"""What the firing patterns of a study become as tables of modularity: by site, by draw of a null, by unit, and by edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from trialplate.metrics.modularity import Modularity

Layers = Mapping[str, int | None]
"""Layer of each site by its name."""


class ModularityTables(NamedTuple):
    """`sites`: a row a site and measure. `nulls`: a row a draw. `communities`: a row a unit. `edges`: a row a pair."""

    sites: pd.DataFrame
    nulls: pd.DataFrame
    communities: pd.DataFrame
    edges: pd.DataFrame


def modularity_tables(found: Mapping[str, Modularity], layers: Layers, top_edges: int) -> ModularityTables:
    """Tables of the modularity at several sites; of each site the `top_edges` heaviest edges, heaviest first."""
    import pandas as pd

    parts = [_of_site(one, {"layer": layers[site], "site": site}, top_edges) for site, one in found.items()]
    frames = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    return ModularityTables(*(frame.astype({"layer": "Int64"}) for frame in frames))


def sampled_texts(documents: Mapping[str, list[list[int]]], n_tokens: int, seed: int) -> dict[str, list[list[int]]]:
    """Texts of every task drawn at random until each task has its equal share of the tokens.

    A task that is shorter than its share stays whole, and every task keeps two texts at least where it has as many."""
    import numpy as np

    share, chosen = n_tokens / len(documents), {}
    for task, rows in documents.items():
        order = np.random.default_rng(seed).permutation(len(rows))
        before = np.cumsum([0, *(len(rows[i]) for i in order[:-1])])
        n = max(2, int((before < share).sum()))
        chosen[task] = [rows[i] for i in sorted(order[:n])]
    return chosen


def _of_site(found: Modularity, about: Mapping[str, object], top_edges: int) -> ModularityTables:
    import numpy as np
    import pandas as pd

    algorithm = found.settings.algorithm
    sites = pd.DataFrame(
        [{**about, "algorithm": algorithm, "metric": name, "value": value} for name, value in found.metrics().items()]
    )
    nulls = [
        {**about, "kind": null.kind, "draw": draw, "q": q, "n_edges": n}
        for null in (found.rewired, found.shifted, found.dealt)
        for draw, (q, n) in enumerate(zip(null.q, null.n_edges, strict=True))
    ]
    communities = {**about, "unit": np.arange(len(found.communities)), "community": found.communities}
    return ModularityTables(
        sites.astype({"value": float}),
        pd.DataFrame(nulls, columns=[*about, "kind", "draw", "q", "n_edges"]).astype({"q": float}),
        pd.DataFrame(communities),
        pd.DataFrame({**about, **_heaviest(found, top_edges)}),
    )


def _heaviest(found: Modularity, n: int) -> dict[str, np.ndarray]:
    import numpy as np

    order = np.argsort(-found.weights, kind="stable")[:n]
    first, second = found.pairs[order].T
    return {"unit_a": first, "unit_b": second, "weight": found.weights[order]}
