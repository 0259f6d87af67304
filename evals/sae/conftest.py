"""Coders of one site and what is measured beside each: small ones that the run trains itself, or those that --sae names.

The run's own coders read the residual stream after half of the layers, on texts of six domains; everything is measured on texts of which no document was
trained on. The control of a coder is one of the same description that learned nothing. Budget of the folder: 50 CPU seconds for both embedded models.
"""

import pytest
from evals.domain_texts import domains, once, separators

__all__ = ["domains"]
SITE = "50%"
WIDTH, K, STEPS, BATCH, RATE = 256, 8, 160, 256, 4e-3
SEEDS = (0, 1, 2)
OWN = ("topk", "batchtopk", "jumprelu")
MORE = ("matryoshka", "relu")  # in the slow tier


def pytest_generate_tests(metafunc):
    """Cases of a coder are those of the run's own architectures, or of the paths of --sae."""
    if "coder_name" in metafunc.fixturenames:
        from trialplate.plugin import coders

        given = coders.paths(metafunc.config)
        own = [*OWN, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
        names = [pytest.param(path, id=coders.label(path)) for path in given] or own
        metafunc.parametrize("coder_name", names)


@pytest.fixture
def coder(coder_name, subject, model, own_coders, record):
    """The coder that is judged, named in the report by content."""
    from trialplate.plugin import coders
    from trialplate.sae.formats import coder_digest

    if isinstance(coder_name, str):
        found = own_coders(coder_name in MORE)[coder_name, SEEDS[0]].coder
    else:
        found = once(subject.key, ("coder", coder_name), lambda: coders.load(coder_name, model))
    record.uses(f"coder {label_of(coder_name)}", coder_digest(found), found.config.d_sae)
    return found


@pytest.fixture
def about(coder_name):
    """Parameters of every measurement of the coder."""
    return {"coder": label_of(coder_name), "kind": "trained" if isinstance(coder_name, str) else "given"}


def label_of(coder_name):
    from trialplate.plugin import coders

    return coder_name if isinstance(coder_name, str) else coders.label(coder_name)


@pytest.fixture
def site(model):
    """The site that the run's own coders read."""
    from trialplate.activations.sites import choose

    return choose(model, [SITE], "resid_post")[0].name


@pytest.fixture
def rows_at(subject, model, domains):
    """rows_at(site_in, site_out): (rows to train on, held-out rows)."""
    from trialplate.sae.source import from_model

    def captured(site_in, site_out=None, whose=model, name="own"):
        def make():
            skip = separators(whose)
            return [from_model(whose, domains[use], site_in, site_out, skip=skip) for use in ("measured", "held_out")]

        return once(subject.key, ("rows", name, site_in, site_out, size_of(domains)), make)

    return captured


@pytest.fixture
def held_out(coder, rows_at):
    """Held-out rows of the coder's own site, or sites."""
    c = coder.config
    if not c.site_in:
        pytest.fail(f"this coder does not say which site it reads ({c.d_in} channels); write it again with site_in")
    return rows_at(c.site_in, c.site_out if c.is_transcoder else None)[1]


@pytest.fixture
def l0_in_training(coder_name, coder, own_coders):
    """Active latents a token while the coder was trained: measured for the run's own, k of a given batchtopk coder, None where nothing says so."""
    if isinstance(coder_name, str):
        return own_coders(coder_name in MORE)[coder_name, SEEDS[0]].held_out["l0_train"]
    return coder.config.k if coder.config.architecture == "batchtopk" else None


@pytest.fixture
def random_coder(coder, rows_at):
    """The coder's control: the same description and as many active latents, nothing learned."""
    import torch

    from trialplate.sae.random_twin import random_twin

    c = coder.config
    rows = rows_at(c.site_in, c.site_out if c.is_transcoder else None)[0]
    return random_twin(coder, rows, torch.Generator().manual_seed(10_000))


@pytest.fixture
def own_coders(subject, rows_at, site, domains):
    """own_coders(): {(name, seed): trained} of the run's own coders, trained together on one stream of rows; own_coders(True): those of the slow tier."""

    def found(slow=False):
        what = ("coders", slow, size_of(domains))
        return once(subject.key, what, lambda: train_own(subject, site, *rows_at(site), slow))

    return found


def train_own(subject, site, rows, held_out, slow):
    from trialplate.sae.training import train

    single = MORE if slow else OWN[1:]
    names = [(name, SEEDS[0]) for name in single] + ([] if slow else [(OWN[0], seed) for seed in SEEDS])
    plans = [plan(name, seed, rows.d_in, site, subject.name) for name, seed in names]
    return dict(zip(names, train(plans, rows, held_out), strict=True))


def plan(name, seed, d_in, site, model, **changes):
    """What is trained under a name: the description of a coder, and its settings. relu and jumprelu are driven to the L0 of the others."""
    from trialplate.sae.config import CoderConfig
    from trialplate.sae.settings import TrainingSettings

    with_k = name in ("topk", "batchtopk", "matryoshka")
    more = {"k": K} if with_k else {}
    if name == "matryoshka":
        more["prefixes"] = (WIDTH // 8, WIDTH // 2)
    architecture = "topk" if name == "matryoshka" else name
    config = CoderConfig(architecture, d_in, WIDTH, site_in=site, site_out=site, model=model, **more)
    settings = {"steps": STEPS, "batch_size": BATCH, "lr": RATE, "init_seed": seed, "data_seed": seed, **changes}
    return config, TrainingSettings(**settings, **({} if with_k else {"l0_target": float(K)}))


def size_of(domains):
    """Texts a domain: what --limit changes."""
    return len(next(iter(domains["measured"].values())))


def as_estimate(entry):
    """What `record` wants of an estimate in the result of a study."""
    return {name: entry[name] for name in ("value", "n", "stderr", "ci", "level")}
