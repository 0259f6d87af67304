"""Training does what it says: seeds mean one thing each, company changes nothing, dead latents come back, numbers are of held-out rows in raw units."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from tests.sae.coders import drawn
from tests.sae.planted_rows import sources, truth

from trialplate.metrics.reconstruction import explained_variance
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import TrainingError
from trialplate.sae.formats import saelens
from trialplate.sae.l0_target import L0Control
from trialplate.sae.learner import Learner
from trialplate.sae.scaling import Scales
from trialplate.sae.schedules import active_k, learning_rate, rise
from trialplate.sae.settings import TrainingSettings, resolved
from trialplate.sae.source import Subset, from_tensor, split
from trialplate.sae.training import train
from trialplate.sae.training_log import rich_progress

SHORT = TrainingSettings(steps=30, batch_size=64, lr=3e-3, log_every=10)
PLANS = {
    "relu": (CoderConfig("relu", 8, 16), SHORT.with_(l1=0.3)),
    "topk": (CoderConfig("topk", 8, 16, k=2), SHORT),
    "signed": (CoderConfig("topk", 8, 16, k=2, signed=True), SHORT),
    "matryoshka": (CoderConfig("batchtopk", 8, 16, k=2, prefixes=(4, 8)), SHORT),
    "jumprelu": (CoderConfig("jumprelu", 8, 16), SHORT.with_(l0_target=2.0, bandwidth=0.05)),
    "routed": (CoderConfig("routed", 8, 16, k=2, n_experts=2), SHORT),
}


@pytest.fixture(scope="module")
def planted():
    return truth()


@pytest.fixture(scope="module")
def rows(planted):
    return sources(planted)


def same(one, other):
    a, b = one.coder.state_dict(), other.coder.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def everything(source):
    return source.rows(torch.arange(source.n_rows))


# --- what a run is ------------------------------------------------------------------------------------------------------


def test_a_coder_does_not_depend_on_who_is_trained_beside_it(rows):
    """Many coders share one stream of rows, each on its own scale, with its own number of steps."""
    plans = [*PLANS.values(), (PLANS["topk"][0], SHORT.with_(steps=17, scale="none", init_seed=3))]
    together = train(plans, *rows)
    assert len({found.name for found in together}) == len(plans)
    for plan, found in zip(plans, together, strict=True):
        (alone,) = train([plan], *rows)
        assert same(alone, found), found.name
        assert alone.history == found.history
        assert alone.held_out == found.held_out


@dataclass(frozen=True)
class Counted:
    """A source that counts how often it is asked for rows."""

    whole: Subset
    asked: list

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def rows(self, index):
        self.asked.append(len(index))
        return self.whole.rows(index)


def test_every_batch_is_read_once_for_all(rows):
    def batches(plans):
        source = Counted(rows[0], [])
        train(plans, source, rows[1])
        return source.asked.count(64)

    config = PLANS["topk"][0]
    assert batches([(config, SHORT.with_(init_seed=seed)) for seed in range(3)]) == 30
    assert batches([(config, SHORT.with_(data_seed=seed)) for seed in range(2)]) == 60


def test_three_seeds_mean_one_thing_each(rows):
    config = PLANS["topk"][0]
    one_step = SHORT.with_(steps=1, lr=1e-9, centre="zeros", eval_rows=50)  # weights are those at the beginning

    def trained(settings, **seeds):
        return train([(config, settings.with_(**seeds))], *rows)[0]

    first = trained(one_step)
    assert torch.allclose(first.coder.W_dec, trained(one_step, data_seed=5).coder.W_dec, atol=1e-6)
    assert not torch.allclose(first.coder.W_dec, trained(one_step, init_seed=5).coder.W_dec, atol=1e-2)
    long = trained(SHORT.with_(eval_rows=50))
    assert same(long, trained(SHORT.with_(eval_rows=50), eval_seed=5))
    assert long.held_out["mse"] != trained(SHORT.with_(eval_rows=50), eval_seed=5).held_out["mse"]
    assert not same(long, trained(SHORT.with_(eval_rows=50), data_seed=5))
    # another beginning does not mean other data: the first batch holds the same rows
    loss_of_mean = [float(trained(one_step, init_seed=s).history[0]["mse"] / (1 - trained(one_step, init_seed=s).history[0]["ev"])) for s in (0, 1)]  # fmt: skip
    assert loss_of_mean[0] == pytest.approx(loss_of_mean[1], rel=1e-6)


def test_global_generators_are_left_alone(rows):
    before = torch.get_rng_state()
    train([PLANS["routed"]], *rows)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", PLANS)
def test_learning_lowers_the_loss(rows, kind):
    config, settings = PLANS[kind]
    (found,) = train([(config, settings.with_(steps=80, lr=5e-3, sparsity_warmup=0.0, log_every=1))], *rows)
    losses = [entry["loss_mse"] for entry in found.history]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_topk_finds_a_planted_dictionary_whatever_the_seed():
    features = truth(4000, n_features=10, d=16, active=1.0)
    settings = SHORT.with_(steps=400, batch_size=128, lr=1e-2, dead_after_tokens=2000)
    plans = [(CoderConfig("topk", 16, 20, k=2), settings.with_(init_seed=seed)) for seed in range(3)]
    for found in train(plans, *sources(features)):
        cosine = torch.from_numpy(features.features) @ found.coder.W_dec.T
        assert float(cosine.max(1).values.min()) > 0.98
        assert found.held_out["ev"] > 0.9


# --- what is given back -------------------------------------------------------------------------------------------------


def test_numbers_are_of_held_out_rows_in_raw_units(rows):
    for found in train([PLANS["topk"], PLANS["relu"]], *rows):
        x, y = everything(rows[1])
        y_hat, code = found.coder(x), found.coder.encode(x).dense()
        assert found.held_out["ev"] == pytest.approx(explained_variance(y, y_hat), rel=1e-9)
        assert found.held_out["mse"] == pytest.approx(float((y - y_hat).double().square().sum(1).mean()), rel=1e-6)
        assert found.held_out["l0"] == pytest.approx(float((code != 0).double().sum(1).mean()))
        assert found.held_out["dead_frac"] == float((code == 0).all(0).double().mean())
        assert found.held_out["n_rows"] == rows[1].n_rows


def test_what_is_given_back_is_the_trained_function_on_raw_rows(rows):
    """The last batch's numbers, made by the coder in training on scaled rows, are those of the coder on raw ones."""
    settings = SHORT.with_(steps=1, lr=1e-12, batch_size=rows[0].n_rows)
    for config in (PLANS["topk"][0], PLANS["signed"][0], PLANS["routed"][0]):
        (found,) = train([(config, settings)], *rows)
        x, y = everything(rows[0])
        assert found.scale_in != 1
        assert found.history[-1]["mse"] == pytest.approx(float((y - found.coder(x)).square().sum(1).mean()), rel=1e-4)
        assert found.history[-1]["ev"] == pytest.approx(explained_variance(y, found.coder(x)), rel=1e-4)


def test_decoder_rows_are_unit_in_raw_space_too(rows):
    unit, free = train([(PLANS["topk"][0], SHORT.with_(decoder_norm=norm)) for norm in ("unit", "free")], *rows)
    torch.testing.assert_close(unit.coder.W_dec.norm(dim=1), torch.ones(16), rtol=1e-5, atol=1e-6)
    assert float((free.coder.W_dec.norm(dim=1) - 1).abs().max()) > 1e-3


def test_gradients_along_unit_rows_are_taken_out_before_the_step(rows):
    """Adam would remember what renormalising takes away again."""
    along = []

    def prepare(learner):
        W_dec = learner.coder.W_dec
        learner.optimizer.register_step_pre_hook(
            lambda *_: along.append(float((W_dec.grad * W_dec).sum(1).abs().max()))
        )

    for norm in ("unit", "free"):
        train([(PLANS["topk"][0], SHORT.with_(decoder_norm=norm))], *rows, prepare=prepare)
    assert max(along[:30]) < 1e-4 < 1e-2 < min(along[30:])


def test_thresholds_do_not_fall_below_zero(rows):
    def prepare(learner):
        def downwards(*_):
            learner.coder.threshold.grad.fill_(1.0)

        learner.optimizer.register_step_pre_hook(downwards)

    (found,) = train([(PLANS["jumprelu"][0], SHORT.with_(l0=0.1))], *rows, prepare=prepare)
    assert found.coder.threshold.tolist() == [0.0] * 16


def test_a_batchtopk_coder_comes_with_its_threshold(rows):
    config = CoderConfig("batchtopk", 8, 16, k=2)
    (found,) = train([(config, SHORT.with_(steps=100))], *rows)
    x, _ = everything(rows[0])
    assert float(found.coder.encode(x).active().double().mean()) == pytest.approx(
        2.0, abs=1e-6
    )  # on rows it was fitted on
    assert found.held_out["l0"] == pytest.approx(2.0, rel=0.1)
    assert found.held_out["l0_gap"] == found.held_out["l0"] - found.history[-1]["l0"] != 0


def test_a_coder_says_where_it_comes_from(rows):
    (found,) = train([PLANS["topk"]], *rows)
    said = found.coder.config.about["training"]
    assert said["rows"] == rows[0].digest
    assert (said["steps"], said["scale_in"], said["data_seed"]) == (30, found.scale_in, 0)


@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_learns_another_site(rows, skip):
    x, _ = everything(rows[0])
    y = 5 * torch.relu(x @ drawn(8, 6, seed=1)) + 1
    train_rows, out = split(from_tensor(x, y, name="pair"), 0.2, seed=0)
    config = CoderConfig("topk", 8, 32, d_out=6, k=4, centre_input=False, skip=skip, site_in="a", site_out="b")
    (found,) = train([(config, SHORT.with_(steps=200, lr=2e-2))], train_rows, out)
    assert found.scale_in != found.scale_out
    assert found.held_out["ev"] > 0.6
    torch.testing.assert_close(found.coder.W_dec.norm(dim=1), torch.ones(32), rtol=1e-5, atol=1e-6)


def test_prefixes_are_worth_something_on_their_own(rows):
    """The first four latents of a nested dictionary reconstruct better than those of one that was not asked for it."""

    def ev_of_prefix(found, size=4):
        x, _ = everything(rows[1])
        coder = found.coder
        kept = torch.topk(coder.preactivations(x)[:, :size], 1)
        code = torch.zeros(len(x), size).scatter(1, kept.indices, kept.values.relu())
        return explained_variance(x, code @ coder.W_dec[:size] + coder.b_dec)

    settings = SHORT.with_(steps=150, lr=1e-2)
    plans = [(CoderConfig("topk", 8, 16, k=2, prefixes=prefixes), settings) for prefixes in ((4,), ())]
    nested, flat = train(plans, *rows)
    assert ev_of_prefix(nested) > ev_of_prefix(flat) + 0.05


# --- dead latents -------------------------------------------------------------------------------------------------------


def learner_with_a_sleeper(aux, rows, steps=150):
    """A topk coder whose latent 0 has a bias so low that it is never among the two largest, though it is sometimes positive."""
    settings = TrainingSettings(
        steps=steps, batch_size=128, lr=1e-2, lr_decay=0.0, aux=aux, aux_k=2, dead_after_tokens=512
    )
    config = CoderConfig("topk", 8, 12, k=2)
    x = everything(rows[0])[0]
    centred = (x - x.mean(0)) / x.std()
    learner = Learner("sleeper", config, resolved(settings, config), Scales(), centre=None, device=torch.device("cpu"))
    with torch.no_grad():
        learner.coder.b_enc[0] = -1.5
    fired, dead = 0, 0
    for i in range(steps):
        batch = centred[torch.arange(i * 128, (i + 1) * 128) % len(centred)]
        _, outcome = learner.step(batch, batch)
        fired += int(outcome.latents.firings()[0])
        dead += bool(learner.dead[0])
    return fired, dead, learner


def test_a_dead_latent_comes_back_with_the_aux_term_and_not_without(rows):
    fired, dead, learner = learner_with_a_sleeper(1 / 32, rows)
    assert dead > 0
    assert fired > 100
    assert not bool(learner.dead[0])
    fired, dead, learner = learner_with_a_sleeper(0.0, rows)
    assert fired == 0
    assert bool(learner.dead[0])


def test_dead_is_counted_in_tokens_since_the_last_firing(rows):
    _, _, learner = learner_with_a_sleeper(0.0, rows, steps=5)
    assert int(learner.silent[0]) == 5 * 128
    assert learner.silent.tolist().count(0) > 6  # those that fired in the last batch
    assert set(learner.silent.tolist()) <= {0, 128, 256, 384, 512, 640}


# --- schedules and targets ----------------------------------------------------------------------------------------------


def test_schedules_by_hand():
    settings = TrainingSettings(steps=10, lr=1.0, lr_warmup=0.2, lr_decay=0.4, k_start=9, k_anneal=0.5)
    assert [round(learning_rate(settings, t), 9) for t in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [rise(0.4, 10, t) for t in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert rise(0.0, 10, 0) == 1
    assert [active_k(settings, 4, t) for t in range(7)] == [9, 8, 7, 6, 5, 4, 4]
    assert active_k(settings, None, 0) is None


def test_default_learning_rate_falls_with_the_square_root_of_the_width():
    config = CoderConfig("topk", 8, 2**12, k=2)
    assert resolved(TrainingSettings(steps=5), config).lr == pytest.approx(4e-4)
    assert resolved(TrainingSettings(steps=5, lr=1.0), config).lr == 1.0


def test_k_is_annealed(rows):
    (found,) = train([(PLANS["topk"][0], SHORT.with_(k_start=8, k_anneal=0.5, log_every=1))], *rows)
    assert [found.history[t]["k"] for t in (0, 5, 14, 29)] == [8, 6, 2, 2]
    assert found.history[0]["l0"] > 4


def test_a_penalty_is_warmed_up(rows):
    (found,) = train([(PLANS["relu"][0], SHORT.with_(l1=0.4, sparsity_warmup=0.5, log_every=1))], *rows)
    assert [found.history[t]["coefficient"] for t in (0, 6, 14, 29)] == pytest.approx(
        [0.4 / 15, 0.4 * 7 / 15, 0.4, 0.4]
    )


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_a_target_of_l0_is_met_within_a_tenth(rows, kind):
    """Architectures can be compared at the same L0; compared at whatever L0 a coefficient gave them, the densest wins."""
    settings = TrainingSettings(steps=600, batch_size=96, lr=1e-2, l0_target=3.0, bandwidth=0.02)
    (found,) = train([(CoderConfig(kind, 8, 16), settings)], *rows)
    assert found.held_out["l0"] == pytest.approx(3.0, rel=0.1)
    assert found.held_out["ev"] > 0.5


def test_the_controller_pushes_the_right_way_and_stops():
    # a hundred steps of clipped error 1 at a learning rate of 0.01: the slow part has moved by e^(100 * 5 * 0.01), the direct one adds e
    dense, empty, right = (L0Control(10.0, 1.0) for _ in range(3))
    for _ in range(100):
        dense.update(30.0, 0.01)
        empty.update(0.0, 0.01)
        right.update(10.0, 0.01)
    assert dense.coefficient == pytest.approx(math.exp(6))
    assert empty.coefficient == pytest.approx(math.exp(-6))
    assert right.coefficient == 1.0


# --- what can go wrong --------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_says_whose_and_when(rows, tmp_path):
    config, settings = PLANS["topk"]
    with pytest.raises(
        TrainingError, match=r"topk-m16-k2-seed0-\w+: at step \d+ the loss is .*mse not finite; a smaller lr"
    ):
        train([(config, settings.with_(lr=1e30, decoder_norm="free"))], *rows, folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "training.json").read_text())["finished"] is False
    assert not (folder / "cfg.json").exists()
    assert not (folder / "sae_weights.safetensors").exists()


def test_weights_that_are_not_finite_after_the_last_step_are_not_given_back(rows):
    config, settings = PLANS["topk"]
    with pytest.raises(TrainingError, match=r"after step 1 the weights \w+ are not all finite"):
        train([(config, settings.with_(steps=1, lr=1e39, decoder_norm="free"))], *rows)


def test_rows_that_are_not_finite_are_named_as_the_cause(planted, rows):
    bad = from_tensor(torch.from_numpy(planted.x), name="x")
    bad.inputs.values[:, 0] = torch.inf  # as a file would bring it that nobody has looked through
    with pytest.raises(TrainingError, match="themselves not finite"):
        train([(PLANS["topk"][0], SHORT.with_(scale="none", centre="zeros"))], bad, rows[1])


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        (CoderConfig("gated", 8, 16), SHORT, "read and judged, not trained"),
        (CoderConfig("relu", 8, 16), SHORT, "nothing would make this relu coder sparse: give l1"),
        (CoderConfig("jumprelu", 8, 16), SHORT, "give l0, or l0_target"),
        (CoderConfig("topk", 8, 16, k=2), SHORT.with_(l1=1.0), "l1=1.0 means nothing for this topk"),
        (CoderConfig("relu", 8, 16), SHORT.with_(l1=1.0, aux=0.1), "aux=0.1 means nothing"),
        (CoderConfig("relu", 8, 16), SHORT.with_(l1=1.0, backend="sparse"), "backend='sparse' means nothing"),
        (CoderConfig("topk", 8, 16, k=2), SHORT.with_(k_start=1), "2 <= k_start <= 16"),
        (CoderConfig("relu", 8, 16), SHORT.with_(l0_target=16.0), "below the 16 latents"),
        (CoderConfig("routed", 8, 16, k=2, n_experts=2, prefixes=(4,)), SHORT, "whole experts only"),
        (CoderConfig("topk", 9, 16, k=2), SHORT, "9 to 9 channels cannot be trained on rows of 8 and 8"),
        (CoderConfig("topk", 8, 16, k=2, site_in="a", site_out="b", centre_input=False), SHORT, "from a to b"),
        (CoderConfig("topk", 8, 16, k=2, skip=True, centre_input=False), SHORT, "rows of both"),
    ],
)
def test_plans_that_cannot_be_are_refused(rows, config, settings, said):
    with pytest.raises(TrainingError, match=said):
        train([(config, settings)], *rows)


def test_a_transcoder_that_centres_its_input_is_refused(rows):
    x, _ = everything(rows[0])
    pair = split(from_tensor(x, 2 * x, name="pair"), 0.2, seed=0)
    with pytest.raises(TrainingError, match="centre_input=False"):
        train([PLANS["topk"]], *pair)


def test_held_out_rows_that_are_trained_on_are_refused(rows):
    with pytest.raises(TrainingError, match="among those that are trained on"):
        train([PLANS["topk"]], rows[0], rows[0])
    with pytest.raises(TrainingError, match="among those that are trained on"):
        train([PLANS["topk"]], rows[0].whole, rows[1])


def test_no_plan_and_one_plan_twice_are_refused(rows):
    with pytest.raises(TrainingError, match="no coder was asked for"):
        train([], *rows)
    with pytest.raises(TrainingError, match="plans 0 and 1 are the same"):
        train([PLANS["topk"], PLANS["topk"]], *rows)
    with pytest.raises(TrainingError, match="at least 1 step, got checkpoint_every=0"):
        train([PLANS["topk"]], *rows, checkpoint_every=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"lr": math.nan},
        {"lr_warmup": 1.5},
        {"l1": -1.0},
        {"scale": "rns"},
        {"init_seed": -1},
        {"aux": math.inf},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(TrainingError, match=f"wanted {next(iter(wrong))} to be"):
        TrainingSettings(**{"steps": 5} | wrong)


# --- what is written ----------------------------------------------------------------------------------------------------


def test_a_folder_holds_the_coder_its_curves_and_what_it_is_worth(rows, tmp_path):
    for found in train(list(PLANS.values()), *rows, folder=tmp_path, checkpoint_every=10):
        assert found.folder == tmp_path / found.name
        names = {path.name for path in found.folder.iterdir()}
        assert names == {"cfg.json", "sae_weights.safetensors", "metrics.ndjson", "training.json", "state.safetensors"}
        lines = [json.loads(line) for line in (found.folder / "metrics.ndjson").read_text().splitlines()]
        assert lines == found.history
        assert [line["step"] for line in lines] == [10, 20, 30]
        assert lines[-1]["tokens"] == 30 * 64
        said = json.loads((found.folder / "training.json").read_text())
        assert said["finished"] is True
        assert said["held_out"] == found.held_out
        assert said["settings"]["backend"] == found.settings.backend
        assert said["order"]["seed"] == 0
        read, (x, _) = saelens.read(found.folder), everything(rows[1])
        assert torch.equal(read.encode(x).dense(), found.coder.encode(x).dense())


def test_coders_at_checkpoints_read_raw_rows_too(rows, tmp_path):
    """Weights that were trained on scaled rows and written down as they are compute something else."""
    config, settings = PLANS["topk"]
    seen = []

    def look(progress):
        if progress.step == 20:
            coder = saelens.read(tmp_path / progress.coder / "unfinished")
            x, y = everything(rows[1])
            seen.append(explained_variance(y, coder(x)))

    (found,) = train([(config, settings)], *rows, folder=tmp_path, checkpoint_every=20, after=look)
    assert abs(seen[0] - found.history[1]["ev"]) < 0.2
    assert not (found.folder / "unfinished").exists()


def test_a_coder_is_never_trained_over_another(rows, tmp_path):
    train([PLANS["topk"]], *rows, folder=tmp_path)
    with pytest.raises(TrainingError, match="never trained over another"):
        train([PLANS["topk"]], *rows, folder=tmp_path)


def test_curves_have_every_part(rows):
    found = train(list(PLANS.values()), *rows)
    parts = [{name for name in one.history[-1] if name.startswith("loss_")} for one in found]
    aux = {"loss_mse", "loss_aux"}
    assert parts == [
        {"loss_mse", "loss_l1"},
        aux,
        aux,
        aux | {"loss_prefix"},
        aux | {"loss_l0"},
        aux | {"loss_balance"},
    ]
    usual = {"step", "tokens", "loss", "mse", "ev", "l0", "dead_frac", "lr", "coefficient", "k"}
    assert all(usual <= one.history[-1].keys() for one in found)


def test_progress_is_drawn_on_request(rows, capsys):
    with rich_progress() as after:
        train([PLANS["topk"]], *rows, after=after)
    assert "topk-m16-k2-seed0" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["topk", "matryoshka"])
def test_backends_agree(rows, kind):
    config, settings = PLANS[kind]
    plans = [(config, settings.with_(multi=0.125, backend=backend)) for backend in ("sparse", "autograd")]
    fast, plain = train(plans, *rows)
    assert [fast.settings.backend, plain.settings.backend] == ["sparse", "autograd"]
    assert fast.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=1e-3)
    torch.testing.assert_close(fast.coder.W_dec, plain.coder.W_dec, rtol=1e-2, atol=1e-3)
