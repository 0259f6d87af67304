"""A policy that could not mean what it says is refused when it is loaded, naming the gate, the field and what would be right."""

import hashlib

import pytest

from trialplate.gates.policy import PolicyError, load_policies, load_policy, parse_policy
from trialplate.report.catalogue import Metric

pytestmark = pytest.mark.fast

HEAD = 'name = "p"\nmodels = ["*"]\n'
GATE = '[[gate]]\nname = "g"\nmetric = "accuracy"\n'

# what follows the head -> what the message says
REFUSED = {
    "unknown key of a gate": (GATE + "mn = 0.5", "p.toml: gate 'g': Object contains unknown field `mn`; did you mean 'min'?"),
    "unknown key with a dash": (GATE + 'min = 0.5\n"min-n" = 3', "unknown field `min-n`; did you mean 'min_n'?"),
    "unknown key of the file": ("mdels = []\n" + GATE + "min = 0.5", "p.toml: Object contains unknown field `mdels`; did you mean 'models'?"),
    "nan": (GATE + "min = nan", "p.toml: gate 'g': min is nan; give a finite number"),
    "infinite": (GATE + "max = inf", "p.toml: gate 'g': max is inf; give a finite number"),
    "nan level": (GATE + "min = 0.5\nlevel = nan", "p.toml: gate 'g': level is nan; give a finite number"),
    "no bound": (GATE, "p.toml: gate 'g': has neither min nor max; a gate without a bound passes everything"),
    "two gates of one name": (GATE + "min = 0.5\n" + GATE + "min = 0.6", "p.toml: gate 'g': name is used twice; every gate needs its own"),
    "empty covers": (GATE + "min = 0.5\ncovers.k = []", "p.toml: gate 'g': covers.k is empty; list the values of k"),
    "a value covered twice": (GATE + "min = 0.5\ncovers.k = [1, 1]", "p.toml: gate 'g': covers.k lists a value twice"),
    "covers against where": (GATE + "min = 0.5\nwhere.k = 1\ncovers.k = [1, 2]", "covers.k asks for values that where.k leaves out"),
    "nan in where": (GATE + "min = 0.5\nwhere.k = nan", "p.toml: gate 'g': k is nan; give a finite number"),
    "a text for a number": (GATE + 'min = "high"', "p.toml: gate 'g': min: Expected `float | null`, got `str`"),
    "true for a number": (GATE + "min = true", "p.toml: gate 'g': min: Expected `float | null`, got `bool`"),
    "a list in where": (GATE + "min = 0.5\nwhere.k = [1]", "p.toml: gate 'g': where[...]: Expected"),
    "a number for covers": (GATE + "min = 0.5\ncovers.k = 1", "p.toml: gate 'g': covers[...]: Expected `array`, got `int`"),
    "an unknown basis": (GATE + 'min = 0.5\nbasis = "lower"', "basis: Invalid enum value 'lower'; give point, lcb or ucb"),
    "a gate without a name": ('[[gate]]\nmetric = "accuracy"\nmin = 1', "p.toml: gate 'number 1': Object missing required field `name`"),
    "gates that are no tables": ("gate = [1]", "p.toml: gate 'number 1': Expected `object`, got `int`"),
    "gate is no list": ("gate = 3", "p.toml: gate: Expected `array`, got `int`"),
    "another word for gate": ("[[gates]]\n", "p.toml holds no gate; [[gates]] is not read, did you mean [[gate]]?"),
    "no gate": ("", "p.toml holds no gate; a policy without gates would pass everything. Add a [[gate]] table"),
    "not TOML": ("gate = ", "p.toml is not TOML: "),
    "lcb with max": (GATE + 'max = 0.5\nbasis = "lcb"', "basis lcb bounds from below; give min alone"),
    "lcb with both": (GATE + 'min = 0.1\nmax = 0.5\nbasis = "lcb"', "basis lcb bounds from below; give min alone"),
    "ucb with min": (GATE + 'min = 0.5\nbasis = "ucb"', "basis ucb bounds from above; give max alone"),
    "min above max": (GATE + "min = 0.6\nmax = 0.5", "min 0.6 is above max 0.5; nothing can pass"),
    "level of a percentage": (GATE + "min = 0.5\nlevel = 95", "level must lie in [0.5, 1), got 95"),
    "min_n of nothing": (GATE + "min = 0.5\nmin_n = 0", "min_n must be at least 1, got 0"),
    "no models of a gate": (GATE + "min = 0.5\nmodels = []", "models is empty; leave it out to judge all models of the policy"),
    "unknown metric": ('[[gate]]\nname = "g"\nmetric = "acuracy"\nmin = 0.5', "metric 'acuracy' is not in the catalogue; did you mean 'accuracy'?"),
    "nothing like any metric": ('[[gate]]\nname = "g"\nmetric = "zzz"\nmin = 0.5', "metric 'zzz' is not in the catalogue; see docs/metrics.md"),
    "min out of reach": (GATE + "min = 1.1", "p.toml: gate 'g': min 1.1 can never be reached: accuracy lies in [0, 1]"),
    "max out of reach": (GATE + "max = -0.1", "p.toml: gate 'g': max -0.1 can never be kept: accuracy lies in [0, 1]"),
    "min that always holds": (GATE + "min = 0.0", "bound value >= 0 can never fail: accuracy lies in [0, 1]"),
    "max that always holds": (GATE + "max = 1", "bound value <= 1 can never fail"),
    "a range that always holds": (GATE + "min = -1\nmax = 1", "bound -1 <= value <= 1 can never fail"),
    "certainty from a sample": (GATE + 'min = 1\nbasis = "lcb"', "bound lcb95 >= 1 can never be reached: no finite number of items proves it"),
    "certainty of nothing": (GATE + 'max = 0\nbasis = "ucb"', "bound ucb95 <= 0 can never be reached"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_gate_and_field(case):
    text, said = REFUSED[case]
    with pytest.raises(PolicyError) as caught:
        parse_policy((HEAD + text).encode(), "p.toml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "p.toml holds no gate"),
        (b"\xff", "p.toml is not TOML"),
        (GATE.encode() + b"min = 0.5", "p.toml: Object missing required field `"),
        (b'name = "p"\nmodels = []\n' + GATE.encode() + b"min = 0.5", "p.toml: models is empty; name the subjects it judges"),
        (b'name = "p"\nmodels = [""]\n' + GATE.encode() + b"min = 0.5", "p.toml: models: Expected `str` of length >= 1"),
        (b'name = ""\nmodels = ["*"]\n' + GATE.encode() + b"min = 0.5", "p.toml: name: Expected `str` of length >= 1"),
    ],
    ids=["empty file", "not UTF-8", "no name", "no models", "empty glob", "empty name"],
)  # fmt: skip
def test_a_file_that_is_no_policy_is_refused(data, said):
    with pytest.raises(PolicyError) as caught:
        parse_policy(data, "p.toml")
    assert said in str(caught.value)


def test_a_policy_knows_its_bytes(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(HEAD + GATE + "min = 1\nwhere.task = 'ioi'\ncovers.k = [1, 5]\nbasis = 'point'\nwhy = 'because'")
    policy = load_policy(path)
    assert policy.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (gate,) = policy.gates
    assert (gate.min, gate.where, gate.covers, gate.required) == (1.0, {"task": "ioi"}, {"k": [1, 5]}, True)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("min = 0.5", "value >= 0.5"), ("max = 0.25", "value <= 0.25"), ("min = 0.1\nmax = 0.2", "0.1 <= value <= 0.2"),
        ("min = 0.9\nbasis = 'lcb'\nlevel = 0.99", "lcb99 >= 0.9"), ("max = 0.1\nbasis = 'ucb'\nlevel = 0.975", "ucb97.5 <= 0.1"),
    ],
)  # fmt: skip
def test_a_bound_reads_as_it_is_written(text, bound):
    assert parse_policy((HEAD + GATE + text).encode(), "p").gates[0].bound == bound


def test_a_suite_brings_its_own_metrics():
    text = (HEAD + '[[gate]]\nname = "g"\nmetric = "own"\nmin = 5').encode()
    assert parse_policy(text, "p", {"own": Metric("x", "higher", 0, 9, "")}).gates[0].metric == "own"
    with pytest.raises(PolicyError, match="min 5 can never be reached"):
        parse_policy(text, "p", {"own": Metric("x", "higher", 0, 4, "")})


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nmodels = ["*"]\n' + GATE + "min = 0.5")
    (tmp_path / "notes.md").write_text("no policy")
    assert [p.name for p in load_policies([tmp_path])] == ["a", "b"]
    with pytest.raises(PolicyError, match=r"a.toml and .*a.toml are both named 'a'; rename one"):
        load_policies([tmp_path, tmp_path / "a.toml"])


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        PolicyError, match=r"cannot read policy .*none.toml: No such file or directory; give a TOML file"
    ):
        load_policies([tmp_path / "none.toml"])
    with pytest.raises(PolicyError, match=r"holds no policy; put a \*.toml with gates there"):
        load_policies([tmp_path])
