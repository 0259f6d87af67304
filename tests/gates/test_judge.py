"""The seven verdicts, each by hand; the order of severity; intervals and the least number of items."""

import math

import pytest

from trialplate.gates.judge import interval, judge, least_n_for

pytestmark = pytest.mark.fast

NAN = math.nan


def test_pass_keeps_the_bound_and_says_nothing_else(make):
    found = make.verdict(make.gate(min=0.9, why="so"), make.measurement(0.9))
    assert (found.status, found.reason, found.value, found.n, found.matched, found.why) == (
        "PASS",
        "",
        0.9,
        100,
        1,
        "so",
    )


def test_fail_is_outside_the_bound_on_either_side(make):
    low, high = make.gate(min=0.9), make.gate(max=0.1)
    assert make.verdict(low, make.measurement(0.8999)).reason == "0.8999 does not keep value >= 0.9"
    assert make.verdict(high, make.measurement(0.2)).status == "FAIL"
    assert make.verdict(make.gate(min=0.4, max=0.6), make.measurement(0.7)).status == "FAIL"
    assert make.verdict(make.gate(min=0.4, max=0.6), make.measurement(0.5)).status == "PASS"


def test_missing_says_what_there_is_none_of(make):
    gate = make.gate(where={"task": "ioi"})
    assert make.verdict(gate).reason == "no measurement of accuracy where task=ioi"
    other = make.measurement(params={"task": "sums"})
    assert make.verdict(gate, other).reason == "no measurement of accuracy where task=ioi (1 with other parameters)"
    elsewhere = make.measurement(params={"task": "ioi"}, subject="other|cpu|float32")
    assert make.verdict(gate, elsewhere).status == "MISSING"


def test_missing_names_the_selection_the_cases_that_did_not_pass_and_what_was_not_collected(make):
    failed = make.case(id="b", subject=make.KEY, outcome="failed")
    found = make.verdict(
        make.gate(), cases=[failed], filters=["-k 'x'", "--task y"], absent={make.KEY: ["needs years", "needs names"]}
    )
    assert found.status == "MISSING"
    assert found.reason == (
        "no measurement of accuracy; deselected by -k 'x', --task y; 1 cases of this subject did not pass; "
        "2 cases of this subject were not collected (needs years; needs names)"
    )


def test_covers_wants_every_value(make):
    gate = make.gate(covers={"k": [1, 5], "task": ["a"]})
    one = make.measurement(params={"k": 1, "task": "a"})
    assert make.verdict(gate, one).reason == "no measurement of accuracy for k=5"
    assert make.verdict(gate, one, make.measurement(params={"k": 5, "task": "a"})).status == "PASS"


@pytest.mark.parametrize("other", [1.0, True, "1"], ids=repr)
def test_one_as_a_number_a_truth_and_a_text_are_different_values(make, other):
    measured = make.measurement(params={"k": other})
    assert make.verdict(make.gate(where={"k": 1}), measured).status == "MISSING"
    assert make.verdict(make.gate(covers={"k": [1]}), measured).status == "MISSING"


def test_all_matching_measurements_must_keep_the_bound(make):
    good, bad = make.measurement(0.9, params={"k": 1}), make.measurement(0.1, params={"k": 5})
    found = make.verdict(make.gate(), good, bad)
    assert (found.status, found.value, found.matched) == ("FAIL", 0.1, 2)
    assert found.reason == "0.1 does not keep value >= 0.5 [k=5]"


def test_thin_rests_on_too_few(make):
    gate = make.gate(min_n=200)
    assert make.verdict(gate, make.measurement()).reason == "n=100, the gate wants at least 200"
    found = make.verdict(gate, make.measurement(), filters=["--limit 100"])
    assert found.reason == "n=100, the gate wants at least 200; cut by --limit 100"
    assert make.verdict(gate, make.measurement(0.1)).status == "FAIL"  # too few, and not even close


@pytest.mark.parametrize("outcome", ["failed", "error", "skipped", "xfailed", "xpassed", "crashed", "not run"])
def test_a_number_of_a_case_that_did_not_pass_is_invalid(make, outcome):
    found = make.verdict(make.gate(), make.measurement(), outcome=outcome)
    assert (found.status, found.reason) == ("INVALID", f"its case a ended as {outcome}, so the number is not valid")


def test_a_number_of_an_unknown_case_is_invalid(make):
    assert make.verdict(make.gate(), make.measurement(), cases=[]).reason == "its case a is unknown"


@pytest.mark.parametrize(
    "broken",
    [
        {"value": NAN}, {"value": math.inf}, {"stderr": NAN}, {"ci": (0.1, NAN)}, {"ci": (-math.inf, 1.0)}, {"level": NAN},
        {"value": 1.5}, {"value": -0.1}, {"stderr": -0.1}, {"ci": (0.9, 0.1)}, {"level": 0.0}, {"level": 1.0},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("basis", ["point", "lcb"])
def test_numbers_that_are_none_are_invalid(make, broken, basis):
    measured = make.measurement(**{"value": 0.9, "stderr": 0.01, **broken})
    found = make.verdict(make.gate(basis=basis), measured)
    assert found.status == "INVALID"
    assert found.value is None or math.isfinite(found.value)


def test_a_basis_without_an_interval_is_invalid(make):
    found = make.verdict(make.gate(basis="lcb"), make.measurement())
    assert found.status == "INVALID"
    assert found.reason == "basis lcb needs an interval, and accuracy was recorded without stderr or ci"


def test_a_case_with_a_gap_makes_every_gate_of_its_subject_invalid(make):
    gap = make.case(id="b", subject=make.KEY, outcome="passed", measured=2)
    there = make.case(id="a", subject=make.KEY, outcome="passed", measured=1)
    found = make.verdict(make.gate(), make.measurement(), cases=[there, gap])
    assert (found.status, found.reason) == ("INVALID", "case b recorded 2 measurements, 0 are here")
    foreign = make.case(id="b", subject="other|cpu|float32", outcome="passed", measured=2)
    assert make.verdict(make.gate(), make.measurement(), cases=[there, foreign]).status == "PASS"


def test_stale_measured_something_else(make):
    found = make.verdict(make.gate(), make.measurement(), stale={"a": "m has other weights by now"})
    assert (found.status, found.reason) == ("STALE", "m has other weights by now")


def test_undecided_straddles_the_bound(make):
    gate = make.gate(min=0.8, basis="lcb")
    assert make.verdict(gate, make.measurement(0.9, ci=(0.81, 0.95))).status == "PASS"
    assert make.verdict(gate, make.measurement(0.7, ci=(0.6, 0.79))).status == "FAIL"
    found = make.verdict(gate, make.measurement(0.9, ci=(0.75, 0.95)))
    assert (found.status, found.reason) == ("UNDECIDED", "0.9 [0.75, 0.95] straddles lcb95 >= 0.8")
    upper = make.gate(max=0.2, basis="ucb")
    assert make.verdict(upper, make.measurement(0.1, ci=(0.05, 0.19))).status == "PASS"
    assert make.verdict(upper, make.measurement(0.1, ci=(0.05, 0.21))).status == "UNDECIDED"
    assert make.verdict(upper, make.measurement(0.3, ci=(0.25, 0.4))).status == "FAIL"


def test_undecided_says_how_many_items_even_a_perfect_score_would_need(make):
    gate = make.gate(min=0.99, basis="lcb")
    found = make.verdict(gate, make.measurement(1.0, ci=(0.96, 1.0)))
    assert found.reason == "1 [0.96, 1] straddles lcb95 >= 0.99; even a perfect score needs n >= 381"


def test_the_worst_of_several_answers_is_the_verdict(make):
    gate = make.gate(min=0.8, basis="lcb", min_n=50)
    answers = [
        ("PASS", {"ci": (0.85, 0.95)}), ("UNDECIDED", {"ci": (0.7, 0.95)}), ("THIN", {"ci": (0.85, 0.95), "n": 10}),
        ("FAIL", {"value": 0.5, "ci": (0.4, 0.6)}), ("INVALID", {"value": NAN, "ci": (0.4, 0.6)}),
    ]  # fmt: skip
    for k in range(1, len(answers) + 1):
        measured = [make.measurement(**{**more, "params": {"i": i}}) for i, (_, more) in enumerate(answers[:k])]
        assert make.verdict(gate, *measured).status == answers[k - 1][0]


def test_a_gate_that_is_not_required_says_so(make):
    found = make.verdict(make.gate(required=False), make.measurement(0.1))
    assert (found.status, found.required, found.passed, found.acceptable) == ("FAIL", False, False, True)


def test_explain_is_the_verdict_in_one_sentence_with_the_reason_for_the_gate(make):
    found = make.verdict(make.gate(min=0.9, why="a coin must not be bent"), make.measurement(0.5))
    assert found.explain() == (
        "g: FAIL: accuracy value >= 0.9 (value 0.5, n=100): 0.5 does not keep value >= 0.9\n"
        "  why this gate: a coin must not be bent"
    )


def test_one_verdict_a_binding_in_their_order(make):
    bindings = [
        make.bind(make.gate(name=n, min=b), s)
        for n, b, s in (("b", 0.5, make.KEY), ("a", 0.95, make.KEY), ("c", 0.5, "x"))
    ]
    found = judge(bindings, make.evidence(make.measurement()))
    assert [(v.gate, v.subject, v.status) for v in found] == [
        ("b", make.KEY, "PASS"), ("a", make.KEY, "FAIL"), ("c", "x", "MISSING"),
    ]  # fmt: skip


def test_the_interval_is_the_measurement_s_own_at_its_level(make):
    assert interval(make.measurement(0.9, ci=(0.8, 0.97), stderr=0.2), 0.95) == (0.8, 0.97)


def test_an_interval_at_another_level_stretches_both_arms_by_the_ratio_of_the_quantiles(make):
    low, high = interval(nats(make, ci=(0.8, 0.97)), 0.99)
    ratio = 2.5758293 / 1.9599640
    assert low == pytest.approx(0.9 - 0.1 * ratio)
    assert high == pytest.approx(0.9 + 0.07 * ratio)
    narrow = interval(nats(make, ci=(0.8, 0.97)), 0.9)
    assert narrow[0] == pytest.approx(0.9 - 0.1 * 1.6448536 / 1.9599640)


def test_an_interval_from_a_standard_error(make):
    low, high = interval(nats(make, stderr=0.01), 0.95)
    assert low == pytest.approx(0.9 - 0.0195996)
    assert high == pytest.approx(0.9 + 0.0195996)
    assert interval(nats(make), 0.95) is None
    assert interval(nats(make, stderr=0.0), 0.95) is None  # a few equal items are no certainty


def test_the_interval_of_a_share_at_another_level_is_wilson_s(make):
    """n = 4, p = 0.75, z = 2.5758293 (z^2 = 6.6348966): middle (0.75 + z^2/8) / (1 + z^2/4), half z/(1 + z^2/4) sqrt(0.1875/4 + z^2/64)."""
    measured = make.measurement(0.75, n=4, stderr=0.2165064, ci=(0.3006, 0.9544))
    assert interval(measured, 0.99) == (pytest.approx(0.2181, abs=1e-4), pytest.approx(0.9699, abs=1e-4))


def test_a_perfect_score_of_five_items_is_not_certain_at_any_level(make):
    """Its standard error is 0; Wilson's limit n / (n + z^2) is 0.566 at 95 % and 0.430 at 99 %."""
    measured = make.measurement(1.0, n=5, stderr=0.0, ci=(0.5655, 1.0))
    assert interval(measured, 0.99) == (pytest.approx(0.42975, abs=1e-4), pytest.approx(1.0))
    assert make.verdict(make.gate(min=0.6, basis="lcb", level=0.99), measured).status == "UNDECIDED"


@pytest.mark.parametrize("stderr", [None, 0.0, 0.001])
def test_nothing_at_a_higher_level_lies_inside_the_measurement_s_own_interval(make, stderr):
    """A biased bootstrap may leave its value outside; equal items in few clusters show no spread."""
    low, high = interval(make.measurement(0.7, ci=(0.65, 0.69), stderr=stderr), 0.99)
    assert low <= 0.65
    assert high >= 0.69


def nats(make, **more):
    return make.measurement(0.9, metric="loss", unit="nat", range=(0.0, None), **more)


@pytest.mark.parametrize(
    # n / (n + z^2) >= bound, z = 1.959964 at 95 % and 2.575829 at 99 %: z^2 = 3.841459 and 6.634897
    ("bound", "level", "n"),
    [(0.5, 0.95, 4), (0.9, 0.95, 35), (0.95, 0.95, 73), (0.99, 0.95, 381), (0.9, 0.99, 60), (0.0, 0.95, 1)],
)
def test_least_n_by_hand(bound, level, n):
    assert least_n_for(bound, level) == n


@pytest.mark.parametrize("bound", [1.0, 1.5, -0.1, NAN])
def test_no_number_of_items_is_enough_for_certainty(bound):
    with pytest.raises(ValueError, match="no number of items gives a Wilson lower limit"):
        least_n_for(bound, 0.95)
