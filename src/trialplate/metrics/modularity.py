"""Do units form modules? Co-activation counts, tested edges, communities, and nulls that say what the modularity is worth.

Symbols: T tokens, d units, u = units that fire often enough to be tested, m = edges, Q = Newman's modularity.

1. n_i and C_ij over T tokens, or over one random token of each block of a document (`coactivation`, `surrogates`).
2. Edges: pairs with more joint firings than independent units of these rates, exact hypergeometric tail, false discovery rate 1 % over all
   pairs; weight phi (`association`). Z = phi sqrt(T - 1) as weight would give the same Q.
3. Communities: the best of several seeds by Q; how far the seeds agree (`communities`).
4. Nulls. "rewired": graphs with the same degrees and weights (`rewiring`), communities found anew: is the graph more modular than its
   degrees make it? "shifted" and "dealt": patterns without co-activation on tokens or over documents (`surrogates`), steps 1 to 3 done
   anew: which edges would be there anyway, because units like the same documents, tasks or positions?
5. Q is undefined with fewer than max(200, u) edges: a graph of few edges falls to pieces, and pieces have high Q by construction.

Tokens of a document depend on each other, so the tails of step 2 are too small on running text; "shifted" and "dealt" show by how much.
For structure on tokens the expected shifted null has too few edges, thus no Q; so q_z judges against "rewired" alone, and the others report
edges, and Q where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from trialplate.metrics.association import Association, associated_pairs
from trialplate.metrics.coactivation import METHODS, Coactivation, count_coactivation
from trialplate.metrics.communities import ALGORITHMS, best_of
from trialplate.metrics.graphs import Graph
from trialplate.metrics.rewiring import rewire
from trialplate.metrics.surrogates import dealt, one_per_block, shifted

_FEWEST_EDGES = 200
_SWAPS_PER_EDGE = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for; kept with the result.

    method:        of `count_coactivation`. algorithm: of `communities.find`.
    fdr, min_firings: of `associated_pairs`.
    min_edges:     fewest edges for which Q is defined; None = max(200, u).
    one_per_block: keep one random token of this many of a document; None = all.
    n_runs:        seeds on the graph. null_runs: seeds on each graph of a null, at most n_runs. q_z compares equal effort.
    n_rewired, n_shifted, n_dealt: draws of each null; 0 leaves it out, one draw has no standard deviation."""

    method: str = "numpy"
    algorithm: str = "louvain"
    fdr: float = 0.01
    min_firings: int = 50
    min_edges: int | None = None
    one_per_block: int | None = None
    n_runs: int = 10
    null_runs: int = 1
    n_rewired: int = 20
    n_shifted: int = 20
    n_dealt: int = 20

    def __post_init__(self) -> None:
        if self.method not in METHODS or self.algorithm not in ALGORITHMS:
            raise ValueError(
                f"method is one of {', '.join(METHODS)} and algorithm one of {', '.join(ALGORITHMS)}; got {self.method!r}, {self.algorithm!r}"
            )
        if not 1 <= self.null_runs <= self.n_runs:
            raise ValueError(
                f"a null gets at least one run and at most as many as the graph, got null_runs={self.null_runs}, n_runs={self.n_runs}"
            )
        if min(self.n_rewired, self.n_shifted, self.n_dealt) < 0:
            raise ValueError(
                f"a null has a number of draws, 0 leaves it out; got {self.n_rewired}, {self.n_shifted}, {self.n_dealt}"
            )


USUAL = Settings()


@dataclass(frozen=True, slots=True)
class Null:
    """Draws of one null. kind: rewired, shifted or dealt. q: of each draw, None where it had too few edges. n_edges: of each draw."""

    kind: str
    q: tuple[float | None, ...] = ()
    n_edges: tuple[int, ...] = ()

    @property
    def defined(self) -> tuple[float, ...]:
        """Q of the draws that have one."""
        return tuple(q for q in self.q if q is not None)

    @property
    def mean(self) -> float | None:
        """Mean Q of the draws that have one; None if none has."""
        return float(np.mean(self.defined)) if self.defined else None

    @property
    def sd(self) -> float | None:
        """Standard deviation (n - 1) of the same; None for fewer than two."""
        return float(np.std(self.defined, ddof=1)) if len(self.defined) > 1 else None

    @property
    def mean_edges(self) -> float | None:
        """Mean number of edges of all draws; None without draws."""
        return float(np.mean(self.n_edges)) if self.n_edges else None


@dataclass(frozen=True, eq=False)
class Modularity:
    """Everything that the pipeline found; None where a number is undefined, and `why` says why.

    n_tokens: counted, after thinning. n_units: u. n_edges: m. density: m / pairs of tested units. settings: as asked. counted_by: the method.
    q_defined: enough edges. q: the best of the runs. q_matched: expected best of `null_runs` of the runs, what q_z compares.
    q_z: (q_matched - mean) / sd of the rewired null. q_spread: largest minus smallest Q of the runs. stability_ari: mean adjusted Rand index of pairs
    of runs. n_communities, largest_share: groups, and the share of the largest one, among units that have an edge.
    communities: [d] group of each unit, 0 = the largest; -1 where it was not tested, has no edge, or Q is undefined.
    pairs, weights: [m, 2] and [m], the edges as pairs of units, and phi. swaps_per_edge: the least that a rewired graph got.
    why: reasons, by the name of the number."""

    n_tokens: int
    n_units: int
    n_edges: int
    density: float | None
    q_defined: bool
    communities: Int[np.ndarray, " unit"]
    pairs: Int[np.ndarray, "edge 2"]
    weights: Float[np.ndarray, " edge"]
    settings: Settings
    counted_by: str
    q: float | None = None
    q_matched: float | None = None
    q_z: float | None = None
    q_spread: float | None = None
    stability_ari: float | None = None
    n_communities: int | None = None
    largest_share: float | None = None
    swaps_per_edge: float | None = None
    rewired: Null = Null("rewired")
    shifted: Null = Null("shifted")
    dealt: Null = Null("dealt")
    why: dict[str, str] = field(default_factory=dict)

    def metrics(self) -> dict[str, float | None]:
        """Every number by its name in a report; q_defined is 0 or 1, `*_edges` and `*_q` are means over the draws of a null."""
        own = ("q", "q_matched", "q_z", "q_spread", "stability_ari", "n_communities", "largest_share")
        sizes = ("n_edges", "density", "n_units", "n_tokens", "q_defined")
        numbers: dict[str, float | None] = {name: getattr(self, name) for name in own + sizes}
        numbers |= {"q_null_mean": self.rewired.mean, "q_null_sd": self.rewired.sd}
        for null in (self.shifted, self.dealt):
            numbers |= {
                f"{null.kind}_edges": null.mean_edges,
                f"{null.kind}_q": null.mean,
                f"{null.kind}_n_defined": len(null.defined),
            }
        return {name: None if value is None else float(value) for name, value in numbers.items()}


def modularity(
    fires: Bool[np.ndarray, "token unit"],
    document: ArrayLike,
    rng: np.random.Generator,
    settings: Settings = USUAL,
    *,
    task: ArrayLike | None = None,
) -> Modularity:
    """The whole pipeline on firing patterns whose documents stand whole and one after the other.

    document, task: [T], one name and one label a token; a deal stays inside a task. Each part draws from a generator of its own, so the
    draws of one null do not depend on the number of another. Too few edges is a result, no error; ValueError for input that
    allows none: no tokens, no units, fewer than 2 min_firings tokens, documents in pieces."""
    thinning, graph, shift, deal = rng.spawn(4)
    block = settings.one_per_block
    kept = np.arange(len(fires)) if block is None else one_per_block(document, block, thinning)
    observed = modularity_of_counts(count_coactivation(fires[kept], settings.method), graph, settings)

    def null(kind: str, pattern: Callable[[], np.ndarray], draws: int, seeds: np.random.Generator) -> Null:
        found = [_draw(count_coactivation(pattern()[kept], settings.method), seeds, settings) for _ in range(draws)]
        return Null(kind, tuple(q for q, _ in found), tuple(n for _, n in found))

    return replace(
        observed,
        shifted=null("shifted", lambda: shifted(fires, document, shift), settings.n_shifted, shift),
        dealt=null("dealt", lambda: dealt(fires, document, deal, task), settings.n_dealt, deal),
    )


def modularity_of_counts(counts: Coactivation, rng: np.random.Generator, settings: Settings = USUAL) -> Modularity:
    """Steps 2 to 5 on counts alone, as of a stream too long to keep; without the nulls that need the patterns."""
    found = _edges(counts, settings)
    needed = _needed(found, settings)
    bare = Modularity(
        n_tokens=counts.n_tokens,
        n_units=len(found.units),
        n_edges=len(found.pairs),
        density=len(found.pairs) / found.n_tests if found.n_tests else None,
        q_defined=len(found.pairs) >= needed,
        communities=np.full(len(counts.counts), -1, dtype=np.intp),
        pairs=found.pairs,
        weights=found.phi,
        settings=settings,
        counted_by=counts.method,
    )
    if not bare.q_defined:
        reason = f"{bare.n_edges} edges among {bare.n_units} tested units; Q wants {needed}, as fewer fall to pieces"
        return replace(bare, why={"q": reason})
    nodes, graph = _graph(found)
    runs = best_of(graph, _seeds(rng, settings.n_runs), settings.algorithm)
    rewired, swaps = _rewired(graph, rng, settings)
    matched = _expected_best(runs.q, settings.null_runs)
    q_z, why = _z(matched, rewired, swaps)
    bare.communities[nodes] = runs.labels
    return replace(
        bare,
        q=max(runs.q),
        q_matched=matched,
        q_z=q_z,
        q_spread=max(runs.q) - min(runs.q),
        stability_ari=runs.stability_ari,
        n_communities=int(runs.labels.max()) + 1,
        largest_share=float((runs.labels == 0).mean()),
        swaps_per_edge=swaps,
        rewired=rewired,
        why=why | ({} if runs.stability_ari is not None else {"stability_ari": "one run has nothing to agree with"}),
    )


def _edges(counts: Coactivation, settings: Settings) -> Association:
    return associated_pairs(counts, fdr=settings.fdr, min_firings=settings.min_firings)


def _needed(found: Association, settings: Settings) -> int:
    """Edges for which Q is defined; never none."""
    usual = max(_FEWEST_EDGES, len(found.units))
    return usual if settings.min_edges is None else max(1, settings.min_edges)


def _graph(found: Association) -> tuple[np.ndarray, Graph]:
    """Units that have an edge, and the graph of them."""
    nodes, ends = np.unique(found.pairs, return_inverse=True)
    return nodes, Graph(len(nodes), ends.reshape(-1, 2), found.phi)


def _draw(counts: Coactivation, rng: np.random.Generator, settings: Settings) -> tuple[float | None, int]:
    """Steps 2 and 3 on a surrogate: (Q or None, edges)."""
    found = _edges(counts, settings)
    if len(found.pairs) < _needed(found, settings):
        return None, len(found.pairs)
    runs = best_of(_graph(found)[1], _seeds(rng, settings.null_runs), settings.algorithm)
    return max(runs.q), len(found.pairs)


def _rewired(graph: Graph, rng: np.random.Generator, settings: Settings) -> tuple[Null, float | None]:
    """The null of degrees, and the fewest swaps for each edge that one of its graphs got."""
    q, swaps = [], []
    for _ in range(settings.n_rewired):
        drawn = rewire(graph, rng, _SWAPS_PER_EDGE)
        q.append(max(best_of(drawn.graph, _seeds(rng, settings.null_runs), settings.algorithm).q))
        swaps.append(drawn.n_swaps / len(graph.pairs))
    return Null("rewired", tuple(q), (len(graph.pairs),) * len(q)), min(swaps, default=None)


def _z(matched: float, rewired: Null, swaps: float | None) -> tuple[float | None, dict[str, str]]:
    """Standard deviations of the null between it and the graph, or the reason why there is no such number."""
    mean, sd = rewired.mean, rewired.sd
    if mean is None or sd is None:
        return None, {"q_z": f"{len(rewired.q)} rewired graphs have no standard deviation, two are needed"}
    if swaps is not None and swaps < _SWAPS_PER_EDGE / 2:
        return None, {"q_z": f"rewiring got stuck after {swaps:.2g} of {_SWAPS_PER_EDGE} swaps for each edge"}
    if sd == 0:
        return None, {"q_z": f"all {len(rewired.q)} rewired graphs have the same Q, {mean:.6g}"}
    return (matched - mean) / sd, {}


def _expected_best(q: Sequence[float], tries: int) -> float:
    """Mean over all choices of `tries` of these runs of the best Q in the choice."""
    ascending = sorted(q)
    ways = [math.comb(rank, tries - 1) for rank in range(len(ascending))]
    return sum(way * value for way, value in zip(ways, ascending, strict=True)) / math.comb(len(ascending), tries)


def _seeds(rng: np.random.Generator, n: int) -> list[int]:
    return rng.integers(2**31, size=n).tolist()
