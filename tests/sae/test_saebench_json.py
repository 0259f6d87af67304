"""Result files in SAEBench's form: complete, flat, finite, under the right name, and refused with the path of what is wrong."""

import copy
import json
import math
import uuid

import numpy as np
import pytest
from tests.activations.families import tiny
from tests.sae.coders import drawn, identity, random_coder
from tests.sae.spoken import spoken

from trialplate.activations.sites import resolve
from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.evaluate import core_scores
from trialplate.sae.latent_table import latent_table
from trialplate.sae.preservation import preservation
from trialplate.sae.saebench_core import DEFINITIONS, core_details, core_metrics
from trialplate.sae.saebench_fields import CATEGORIES, DETAILS, Kind
from trialplate.sae.saebench_json import check, file_name, saebench_result, write

CODER = CoderConfig("topk", 8, 24, k=4, site_in="L1.resid_post", site_out="L1.resid_post", model="tiny")
EXAMPLES = {Kind.NUMBER: 0.5, Kind.OPTIONAL: None, Kind.COUNT: 3, Kind.TEXT: "ag_news", Kind.LETTER: "q"}


def example(eval_type, **more):
    metrics = {
        name: {f: EXAMPLES[kind] for f, kind in fields.items()} for name, fields in CATEGORIES[eval_type].items()
    }
    details = [{f: EXAMPLES[kind] for f, kind in DETAILS[eval_type].items()}]
    given = {"coder": CODER, "release": "trialplate", "sae_id": "tiny/L1", **more}
    return saebench_result(eval_type, {"n_documents": 4, "ks": [1, 2, 5]}, metrics, details, **given)


@pytest.mark.parametrize("eval_type", CATEGORIES)
def test_a_result_has_every_field(eval_type):
    found = example(eval_type)
    check(json.loads(json.dumps(found, allow_nan=False)))
    assert set(found) == {
        *(
            "eval_type_id",
            "eval_config",
            "eval_id",
            "datetime_epoch_millis",
            "eval_result_metrics",
            "eval_result_details",
        ),
        *("sae_bench_commit_hash", "sae_lens_id", "sae_lens_release_id", "sae_lens_version", "sae_cfg_dict"),
        "eval_result_unstructured",
    }
    uuid.UUID(found["eval_id"])
    assert 1.7e12 < found["datetime_epoch_millis"] < 1e13
    assert found["sae_cfg_dict"]["d_sae"] == 24
    assert found["sae_cfg_dict"]["hook_name"] == "L1.resid_post"


def test_optional_metrics_are_null_where_nothing_was_measured():
    metrics = {
        "llm": {"llm_test_accuracy": 0.9, "llm_top_1_test_accuracy": 0.6},
        "sae": {"sae_top_5_test_accuracy": 0.8},
    }
    found = saebench_result("sparse_probing", {}, metrics, coder=CODER, release="r", sae_id="s")
    assert found["eval_result_metrics"]["sae"]["sae_top_5_test_accuracy"] == 0.8
    assert found["eval_result_metrics"]["sae"]["sae_top_1_test_accuracy"] is None
    assert found["eval_result_details"] is None


def test_core_scores_become_a_result():
    model = tiny("gpt_neox", initializer_range=0.25)
    point = resolve(model, "L1.resid_post")
    coder = identity(32)
    documents = spoken(model, 4)
    x = drawn(60, 32)
    x[:, 3] = x[:, 3].abs()  # the negative part of channel 3 is a dead latent
    scores, table = (
        core_scores(coder, x, clusters=np.arange(60) // 10),
        latent_table(coder, x, clusters=np.arange(60) // 10),
    )
    preserved = preservation(model, point, coder, documents)
    metrics, details = core_metrics(scores, preserved, table), core_details(table)
    found = saebench_result(
        "core", {}, metrics, details, coder=coder.config, release="r", sae_id="s", unstructured=dict(DEFINITIONS)
    )
    told = found["eval_result_metrics"]
    assert told["reconstruction_quality"]["explained_variance"] == 1
    assert told["model_performance_preservation"]["ce_loss_score"] == 1
    assert told["sparsity"]["l0"] == 32
    assert told["token_stats"] == {"total_tokens_eval_reconstruction": 54, "total_tokens_eval_sparsity_variance": 60}
    assert told["misc_metrics"]["frac_alive"] == 63 / 64
    assert len(details) == 64
    assert details[35]["feature_density"] == 0
    # 0 / 0: the form wants a number there
    assert details[35]["consistent_activation_heuristic"] == -1
    assert details[3]["consistent_activation_heuristic"] == 10
    assert details[3]["encoder_decoder_cosine_sim"] == pytest.approx(1)
    # what is undefined has no place to hide: a coder that writes nothing
    silent = Coder(CoderConfig("relu", 32, 4))
    silent.encoder.requires_grad_(False)[:2] = drawn(2, 32)
    silent.b_enc.requires_grad_(False).fill_(-1e6)
    silent.W_dec.requires_grad_(False)[:2] = drawn(2, 32)
    of_silent = core_metrics(core_scores(silent, x), preserved, latent_table(silent, x, clusters=np.arange(60)))
    assert of_silent["shrinkage"]["relative_reconstruction_bias"] == -1
    assert of_silent["misc_metrics"]["normalized_freq_over_1_percent"] == -1
    saebench_result("core", {}, of_silent, coder=silent.config, release="r", sae_id="s")


def test_the_file_has_its_name_and_is_never_written_over(tmp_path):
    found = example("core", release="my/release", sae_id="blocks.1/width_64")
    path = write(tmp_path / "core", found)
    assert path.name == "my_release_blocks.1_width_64_eval_results.json"
    text = path.read_text(encoding="utf-8")
    check(json.loads(text))
    assert "NaN" not in text
    with pytest.raises(FileExistsError):
        write(tmp_path / "core", found)


@pytest.mark.parametrize(("release", "sae_id"), [("", "a"), ("a", ""), ("a\\b", "c")])
def test_names_that_make_no_file(release, sae_id):
    with pytest.raises(ValueError, match="that can name a file"):
        file_name(release, sae_id)


# --- what is refused, and where it is --------------------------------------------------------------------------------


def changed(result, path, value):
    result = copy.deepcopy(result)
    *before, last = path
    place = result
    for step in before:
        place = place[step]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return result


QUALITY = ("eval_result_metrics", "reconstruction_quality")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            (*QUALITY, "mse"),
            math.nan,
            r"eval_result_metrics\.reconstruction_quality\.mse: wanted a finite number, got nan",
        ),
        ((*QUALITY, "mse"), math.inf, r"mse: wanted a finite number, got inf"),
        ((*QUALITY, "mse"), None, r"mse: wanted a finite number, got None"),
        ((*QUALITY, "mse"), True, r"mse: wanted a finite number, got True"),
        ((*QUALITY, "mse"), {"mean": 1.0}, r"mse: wanted a finite number, got \{'mean': 1.0\}"),
        ((*QUALITY, "mse"), KeyError, r"eval_result_metrics\.reconstruction_quality: missing or unknown: mse"),
        ((*QUALITY, "r2"), 0.5, r"eval_result_metrics\.reconstruction_quality: missing or unknown: r2"),
        (
            QUALITY,
            KeyError,
            r"eval_result_metrics: core has the categories .*; missing or unknown: reconstruction_quality",
        ),
        (QUALITY, 0.5, r"eval_result_metrics\.reconstruction_quality: wanted an object, got float"),
        (
            ("eval_result_metrics", "token_stats", "total_tokens_eval_reconstruction"),
            1.5,
            "wanted a whole number, got 1.5",
        ),
        (
            ("eval_result_details", 0, "encoder_norm"),
            math.nan,
            r"eval_result_details\[0\]\.encoder_norm: wanted a finite number",
        ),
        (("eval_result_details",), {}, "eval_result_details: wanted a list of objects or null, got dict"),
        (("eval_config", "seeds"), {"a": 1}, r"eval_config\.seeds: wanted a number, a text or a list of them"),
        (("eval_config", "cut"), math.nan, r"eval_config\.cut: wanted plain data with finite numbers, got nan"),
        (("eval_id",), "run 7", "eval_id: wanted a UUID, got 'run 7'"),
        (("eval_id",), 7, "eval_id: wanted a UUID, got 7"),
        (("datetime_epoch_millis",), 10**13, "whole milliseconds since 1970, below 1e13"),
        (("datetime_epoch_millis",), 1.7e12, "whole milliseconds since 1970"),
        (("sae_bench_commit_hash",), None, "sae_bench_commit_hash: wanted a text"),
        (("sae_lens_version",), 6, "sae_lens_version: wanted a text or null, got 6"),
        (("sae_cfg_dict", "about"), {"scale": math.inf}, r"sae_cfg_dict\.about\.scale: wanted plain data"),
        (("sae_cfg_dict",), [], "sae_cfg_dict: wanted an object, got list"),
        (("eval_result_unstructured",), {"x": [1, math.nan]}, r"eval_result_unstructured\.x\[1\]: wanted plain data"),
        (("eval_result_unstructured",), {1: 2}, "wanted texts as names, got 1"),
        (
            ("eval_type_id",),
            "meta",
            "eval_type_id: wanted one of core, sparse_probing, absorption_first_letter, scr, tpp",
        ),
        (("eval_type_id",), KeyError, "missing or unknown: eval_type_id"),
        (("score",), 1, "missing or unknown: score"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(path, value, words, tmp_path):
    broken = changed(example("core"), path, value)
    with pytest.raises(ValueError, match=words):
        check(broken)
    with pytest.raises(ValueError, match=words):
        write(tmp_path, broken)
    assert not list(tmp_path.iterdir())


def test_letters_and_names_of_the_details():
    with pytest.raises(ValueError, match=r"eval_result_details\[0\]\.first_letter: wanted a single letter, got 'ab'"):
        check(changed(example("absorption_first_letter"), ("eval_result_details", 0, "first_letter"), "ab"))
    with pytest.raises(ValueError, match=r"dataset_name: wanted a text, got ''"):
        check(changed(example("tpp"), ("eval_result_details", 0, "dataset_name"), ""))
    with pytest.raises(ValueError, match="wanted one of core"):
        saebench_result("ravel", {}, {}, coder=CODER, release="r", sae_id="s")


def test_a_score_that_is_undefined_makes_no_file():
    model = tiny("gpt_neox")
    model.module.gpt_neox.layers[1].mlp.dense_4h_to_h.weight.zero_()
    coder, x = random_coder("topk", 32, 64), drawn(20, 32)
    preserved = preservation(model, resolve(model, "L1.mlp_out"), coder, [[1, 2, 3], [4, 5]])
    with pytest.raises(ValueError, match="score is undefined"):
        core_metrics(core_scores(coder, x), preserved, latent_table(coder, x, clusters=range(20)))
