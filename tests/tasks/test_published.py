"""The golden file of published values, and the reader's refusals."""

import json
from pathlib import Path

import pytest

from trialplate.tasks.published import PublishedError, load_published

GOLDEN = Path(__file__).parents[2] / "golden" / "published.json"


@pytest.fixture(scope="module")
def published():
    return load_published(GOLDEN)


def test_bounds_are_value_and_drift(published):
    assert published.bounds("pythia-70m", "lambada_openai", "acc") == pytest.approx((0.18255, 0.18655))
    low, high = published.bounds("pythia-70m", "lambada_openai", "perplexity")
    assert (low, high) == pytest.approx((142.429 * 0.985, 142.429 * 1.015))
    sciq = published.find("pythia-70m", "sciq", "acc")
    assert sciq.bounds == pytest.approx((0.601 - 2 * 0.01549, 0.601 + 2 * 0.01549))


def test_rounding_widens_the_bounds(published):
    result = published.find("pythia-70m-deduped", "lambada_openai", "acc", revision="step13000")
    assert result.margin == pytest.approx(0.002 + 0.0005)


def test_bounds_stay_in_the_range_of_the_metric(published):
    assert published.bounds("pythia-70m-deduped", "lambada_openai", "acc", revision="step0")[0] == 0.0


def test_both_models_have_all_four_tasks(published):
    for model in ("pythia-70m", "pythia-70m-deduped"):
        for task in ("lambada_openai", "piqa", "arc_easy", "sciq"):
            low, high = published.bounds(model, task, "acc")
            assert 0 < low < high < 1


def test_the_rewrite_of_the_harness_lies_within_the_drift(published):
    low, high = published.bounds("pythia-70m", "lambada_openai", "acc")
    assert low <= 0.1842 <= high
    low, high = published.bounds("pythia-70m", "lambada_openai", "perplexity")
    assert low <= 141.2759 <= high


def test_an_untrained_model_and_a_later_step_lie_outside(published):
    low, high = published.bounds("pythia-70m-deduped", "lambada_openai", "acc")
    for revision in ("step0", "step1000", "step13000", "step133000"):
        other = published.find("pythia-70m-deduped", "lambada_openai", "acc", revision=revision).value
        assert not low <= other <= high


def test_standard_errors_are_those_of_the_counts(published):
    for result in published.results:
        if result.metric.startswith("acc") and result.stderr:
            binomial = (result.value * (1 - result.value) / (result.n - 1)) ** 0.5
            assert result.stderr == pytest.approx(binomial, abs=2e-4), result


def test_pins(published):
    assert [pin.values for pin in published.pins_of("pythia-70m", "loss")] == [(4.659345,)]
    assert len(published.pins_of("pythia-70m", "rolling")[0].values) == 10
    assert published.pins_of("pythia-70m", "choices")[0].values[:2] == (-41.90244, -42.93931)
    ids = {pin.of: pin.values for pin in published.pins_of("pythia-70m", "token_ids")}
    assert ids["foo bar"] == (12110, 2534)
    assert published.pins_of("embedded:neox-tiny") == ()


def test_an_unknown_coordinate_names_the_nearest(published):
    with pytest.raises(
        KeyError, match=r"no published value for pythia-70m@step143000 sciqq acc 0-shot; did you mean .*sciq acc"
    ):
        published.find("pythia-70m", "sciqq", "acc")


def damaged(change):
    data = json.loads(GOLDEN.read_text())
    data["results"], data["pins"] = data["results"][:2], data["pins"][:1]
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data.update(schema=9), "`schema`: wanted 1, got 9"),
        (lambda data: data.update(result=[]), "`result`: unknown key; did you mean `results`"),
        (lambda data: data["results"][0].update(vlaue=1), r"`results\[0\].vlaue`: unknown key; did you mean `value`"),
        (
            lambda data: data["results"][0].update(value=None),
            r"`results\[0\].value`: wanted a number that is not negative",
        ),
        (lambda data: data["results"][0].update(value="high"), r"`results\[0\].value`: wanted a number, got string"),
        (
            lambda data: data["results"][0].update(drift={}),
            r"`results\[0\].drift`: wanted one of absolute, relative, stderrs",
        ),
        (
            lambda data: data["results"][0].update(drift={"stderrs": 2}, stderr=None),
            r"`results\[0\].stderr`: .* got none",
        ),
        (lambda data: data["results"].append(data["results"][0]), r"`results\[2\]`: .* was published twice"),
        (
            lambda data: data["pins"][0].update(values=[True]),
            r"`pins\[0\].values`: wanted a list of at least one number",
        ),
        (lambda data: data["pins"][0].update(kind="mood"), r"`pins\[0\].kind`: wanted one of loss"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, text):
    path = tmp_path / "published.json"
    path.write_text(json.dumps(damaged(change)))
    with pytest.raises(PublishedError, match=rf"published\.json: .*{text}"):
        load_published(path)


def test_a_file_that_is_not_json_or_absent_is_told(tmp_path):
    path = tmp_path / "published.json"
    path.write_text('{\n "schema": \n}')
    with pytest.raises(PublishedError, match=r"not JSON: .* at line 3 column 1"):
        load_published(path)
    with pytest.raises(PublishedError, match="cannot be read"):
        load_published(tmp_path / "absent.json")
