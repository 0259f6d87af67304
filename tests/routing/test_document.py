"""What is written: the document with its published keys, the comparison of two, the folder that appears whole, the picture."""

import json
import struct

import pytest
import torch

from trialplate.figures.paris_margin import paris_margin_png
from trialplate.routing import folder
from trialplate.routing.errors import ProbeError
from trialplate.routing.folder import json_bytes, refuse_existing, write_folder
from trialplate.routing.heads import align_heads, inertia, mean_weights
from trialplate.routing.prompts import EMBEDDED
from trialplate.routing.results import before_and_after
from trialplate.routing.trajectories import trajectory_bundle


def test_published_keys_and_values(toy, toy_document):
    golden = toy.golden["margin"]
    assert toy_document["margins"] == pytest.approx(golden, abs=1e-4)
    assert toy_document["mean_margin"] == pytest.approx(sum(golden) / 17, abs=1e-4)
    assert toy_document["min_margin"] == pytest.approx(min(golden), abs=1e-4)
    assert toy_document["tag"] == "a tag"
    assert set(toy_document["routing_stats"]) == {"routing_entropy", "routing_top1freq", "slotspace_delta_norm"}
    assert [len(tokens) for tokens in toy_document["top10_tokens"]] == [10] * 17
    best = toy.model(toy.prompts.ids, toy.prompts.mask)[0, int(toy.prompts.mask[0].sum()) - 1].argmax()
    assert toy_document["top10_tokens"][0][0] == f"<{int(best)}>"


def test_controls_are_kept_apart(toy, toy_document):
    estimates = toy_document["estimates"]
    assert (estimates["target"]["n"], estimates["control"]["n"]) == (14, 3)
    assert estimates["target"]["value"] == pytest.approx(sum(toy.golden["margin"][:14]) / 14, abs=1e-4)
    assert estimates["contrast"]["value"] == pytest.approx(estimates["target"]["value"] - estimates["control"]["value"])
    assert [prompt["role"] for prompt in toy_document["prompts"]] == ["target"] * 14 + ["control"] * 3
    assert [prompt["n_tokens"] for prompt in toy_document["prompts"]] == toy.prompts.mask.sum(1).tolist()


def test_every_layer_has_both_experiments_and_its_null(toy, toy_document):
    assert [layer["layer"] for layer in toy_document["layers"]] == [0, 1, 2, 3]
    golden = toy.golden["parity"]["2"]
    layer = toy_document["layers"][2]
    assert layer["raw"]["slope_routing"] == pytest.approx(golden["slope_routing"], abs=2e-2)
    assert layer["raw"]["slope_routing_from_forced"] == pytest.approx(0.01, abs=2e-3)
    assert layer["evr"][0] == pytest.approx(toy.golden["layer_sweep"][2]["evr_pc1"], abs=1e-4)
    assert layer["jacobian"]["n_points"] == 75
    assert layer["corrected"]["residual"]["ci"][0] > 0
    assert len(layer["corrected"]["arms"]["routing"]["slopes"]) == 17
    assert len(layer["logit_lens_margin"]) == 17
    null = toy_document["null"]
    assert null["seeds"] == [1, 2]
    assert set(null["bands"]) == {"0", "1", "2", "3"}
    band = null["bands"]["2"]["residual"]
    assert band["low"] <= band["mean"] <= band["high"] < layer["corrected"]["residual"]["value"]
    assert [len(rows) for rows in null["statistics"].values()] == [2] * 4
    assert toy_document["published"]["frozen"]["3"]["slope0"] == pytest.approx(
        toy.golden["frozen"]["3"]["slope0"], abs=2e-2
    )
    assert toy_document["energy_basin"]["axes_layer"] == 2


def test_the_document_is_json_that_others_can_read(toy_document):
    assert json.loads(json_bytes(toy_document)) == json.loads(json.dumps(toy_document))
    with pytest.raises(ValueError):
        json_bytes({"margin": float("nan")})


def test_before_and_after_pairs_margins(toy_document):
    before = {**toy_document, "margins": [0.0] * 17, "mean_margin": 0.0, "routing_stats": {"routing_entropy": 1.0}}
    found = before_and_after(before, toy_document)
    assert found["margin_deltas"] == toy_document["margins"]
    assert (found["mean_margin_before"], found["mean_margin_after"]) == (0.0, toy_document["mean_margin"])
    assert found["routing_stats_before"] == {"routing_entropy": 1.0}
    assert found["routing_stats_after"] == toy_document["routing_stats"]
    published = {key: before[key] for key in ("tag", "margins", "mean_margin", "routing_stats")}
    assert before_and_after(published, toy_document) == found


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mode": "checkpoint"}, "mode was 'checkpoint' before and is 'notebook' now"),
        ({"prompts": [{"text": "x"}]}, "prompts before are not those of now"),
        ({"prompts": None, "margins": [1.0]}, None),
    ],
)
def test_other_probes_are_not_compared(toy_document, changes, text):
    before = {key: value for key, value in {**toy_document, **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=text or "1 margins before and 17 now"):
        before_and_after(before, toy_document)


def test_a_document_without_margins_is_refused(toy_document):
    with pytest.raises(ValueError, match="no 'margins'"):
        before_and_after({}, toy_document)


def test_a_folder_is_never_written_over_another(tmp_path):
    target = tmp_path / "a" / "probe"
    write_folder(target, {"x.json": b"1", "y.png": b"2"})
    assert sorted(file.name for file in target.iterdir()) == ["x.json", "y.png"]
    with pytest.raises(ProbeError, match="exists, and a probe is never written over another"):
        write_folder(target, {"x.json": b"3"})
    assert (target / "x.json").read_bytes() == b"1"
    assert [path.name for path in target.parent.iterdir()] == ["probe"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProbeError, match="--outdir"):
        refuse_existing(tmp_path / "empty")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder(tmp_path / "probe", {"x.json": b"1"})
    assert list(tmp_path.iterdir()) == []


def size_of(png):
    return struct.unpack(">II", png[16:24])


def inked(png):
    """Whether the picture holds anything: the compressed pixels of an empty one are short."""
    return len(png) > 20_000


def test_the_picture_is_the_same_for_the_same_document(toy_document):
    one, two = paris_margin_png(toy_document), paris_margin_png(toy_document)
    assert one == two
    assert one.startswith(b"\x89PNG")
    assert size_of(one)[0] == 1800
    assert inked(one)


def test_the_picture_says_the_finding_and_names_its_axes(toy_document, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self))
    paris_margin_png(toy_document)
    (figure,) = drawn
    assert figure.get_suptitle().replace("\n", " ") == toy_document["finding"]
    margins, slopes, share = figure.axes
    assert margins.get_xlabel() == "margin: logit of ' Paris' − logit of ' the'"
    assert slopes.get_ylabel() == "slope (logits per\nunit of relative norm)"
    assert (share.get_xlabel(), share.get_ylabel()) == ("layer", "routing / (routing + residual)")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "residual in random models, 95 %" in labels
    assert "residual, routing frozen from here on" in labels
    assert len(slopes.collections) >= 8  # a band of the null for each arm and layer


def test_a_picture_without_null_controls_or_shares(toy_document):
    bare = json.loads(json.dumps(toy_document))
    bare["null"] = bare["estimates"]["control"] = bare["estimates"]["contrast"] = None
    for layer in bare["layers"]:
        layer["corrected"]["routing_share"], layer["corrected"]["routing_share_by_match"] = None, {}
        layer["corrected"]["routing"]["ci"] = None
    assert inked(paris_margin_png(bare))


def test_trajectories_walk_through_valid_tokens(toy, seen):
    paths = trajectory_bundle(seen, 1)
    assert [tuple(path.shape) for path in paths] == [(int(n), 2) for n in toy.prompts.mask.sum(1)]
    on_sphere = torch.cat(trajectory_bundle(seen, 1, n_axes=3))
    torch.testing.assert_close(on_sphere.norm(dim=1), torch.ones(len(on_sphere)))
    with pytest.raises(ProbeError, match="2 or 3 axes"):
        trajectory_bundle(seen, 1, n_axes=4)


def test_heads_are_followed_from_the_first_layer(toy, seen):
    found = align_heads(seen)
    assert found.tracks[0] == (0, 1, 2, 3)
    assert all(sorted(track) == [0, 1, 2, 3] for track in found.tracks)
    assert all(best >= diag for best, diag in zip(found.best, found.diag, strict=True))
    mean = mean_weights(seen, 0)
    alone = toy.prompts.mask[:, 7].nonzero()[:, 0]  # the prompts that reach the last column
    torch.testing.assert_close(mean[:, 7], seen.read_weights[0][alone, :, 7].mean(0))
    curve, half = inertia(seen, 2, max_lag=3)
    assert len(curve) == 3
    assert half is None or half > 0


def test_the_embedded_definition_is_the_notebooks(toy_document):
    assert toy_document["definition"].startswith('log P(" Paris") - log P(" the") at the last token')
    assert EMBEDDED.definition.startswith('log P(" Paris") - log P(" the") at the last token')
