"""Pictures as files: two beside each other, the same bytes for the same numbers, without a display, and never over one that is there."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests.figures.examples import sparsity

from trialplate.figures.sparsity import heat_map
from trialplate.figures.style import (
    FigureError,
    Picture,
    between,
    blank,
    drawing,
    evenly,
    folded,
    legend_beside,
    named,
    shortened,
)


@pytest.fixture
def picture():
    with drawing():
        return Picture(blank(3, 2, "a title"), pd.DataFrame({"x": [0.1 + 0.2]}))


def test_the_numbers_lie_beside_the_picture(picture, tmp_path):
    png, csv = picture.write(tmp_path / "new" / "a.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert csv == tmp_path / "new" / "a.csv"
    assert csv.read_text() == "x\n0.30000000000000004\n"


@pytest.mark.parametrize("there", ["a.png", "a.csv"])
def test_nothing_is_overwritten_unless_told(picture, tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(FileExistsError, match=there):
        picture.write(tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == [there]
    picture.write(tmp_path / "a.png", force=True)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_another_ending_is_refused(picture, tmp_path):
    with pytest.raises(FigureError, match=r"end the name in \.png"):
        picture.write(tmp_path / "a.pdf")


@pytest.fixture(scope="module")
def plain():
    return heat_map(sparsity(), "gini").png()


def test_the_same_numbers_give_the_same_bytes(plain):
    assert heat_map(sparsity(), "gini").png() == plain
    assert heat_map(sparsity(scale=1.01), "gini").png() != plain


def test_the_readers_own_settings_change_nothing_and_come_back(plain):
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30, "axes.grid": True}):
        assert heat_map(sparsity(), "gini").png() == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_no_display_and_no_pyplot_is_needed(tmp_path):
    """In a process of its own, told to use a window system that is not there."""
    code = (
        "import sys; from pathlib import Path; from tests.figures.examples import sparsity;"
        "from trialplate.figures.sparsity import heat_map;"
        f"heat_map(sparsity(), 'gini').write(Path({str(tmp_path / 'a.png')!r}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    root = Path(__file__).parents[2]
    environment |= {"MPLBACKEND": "TkAgg", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert (tmp_path / "a.png").is_file()


def test_importing_the_pictures_is_light():
    code = (
        "import sys, trialplate.cli.app, trialplate.cli.plot;"
        "assert not {'matplotlib', 'pandas', 'numpy'} & set(sys.modules);"
        "import trialplate.figures.from_files; assert not {'matplotlib', 'pandas', 'pyarrow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_evenly_keeps_the_first_and_the_last():
    assert evenly(range(24), 6) == [0, 5, 9, 14, 18, 23]
    assert evenly([1, 2], 6) == [1, 2]


def test_names_break_at_their_seams():
    assert named("subject_verb_agreement", 13) == "subject_verb_\nagreement"
    assert named("short") == "short"
    assert named("x" * 20, 8) == "xxxxxxxx\nxxxxxxxx\nxxxx"
    assert shortened("a_very_long_name_of_a_task", 12) == "a_very…_task"


def test_titles_fold_to_the_width_and_keep_hyphens_together():
    assert folded("a title with pythia-70m-deduped", 2.0, 12) == "a title with\npythia-70m-deduped"


def test_a_title_ends_before_the_legend():
    from matplotlib.lines import Line2D

    with drawing():
        figure = blank(6, 3, "a title that is as long as the figure is wide, or longer")
        figure.add_subplot()
        legend_beside(figure, [Line2D([], [])], ["a name that takes some room"])
        figure.canvas.draw()
        (legend,) = figure.legends
        assert figure._suptitle.get_window_extent().x1 < legend.get_window_extent().x0


def test_ranges_are_said_once_where_both_ends_are_one():
    assert between(5, 5, "edge") == "5 edges"
    assert between(1, 1200, "edge") == "1–1,200 edges"
