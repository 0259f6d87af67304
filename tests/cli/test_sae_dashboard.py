"""`trialplate sae dashboard`: a page beside the coder, nothing written over, and errors in one line."""

import pytest
import typer
from tests.sae.coders import random_coder
from typer.testing import CliRunner

from trialplate.cli.sae_dashboard import dashboard
from trialplate.sae.formats import saelens

PROMPT = "The cat sat on the mat and looked at the dog in the garden."


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command()(dashboard)
    return lambda *args: CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def folder(tmp_path):
    coder = random_coder("topk", 128, 32, site_in="L1.resid_post", site_out="L1.resid_post", model="embedded:neox-tiny")
    saelens.write(coder, tmp_path / "coder")
    return tmp_path / "coder"


def test_a_page_and_the_activations_behind_it(invoke, folder, tmp_path):
    done = invoke("--checkpoint", folder, "--prompt", PROMPT, "--latents", 4, "--export", tmp_path / "out")
    assert done.exit_code == 0, done.output
    page = (folder / "dashboard.html").read_text()
    assert "<h1>topk coder of embedded:neox-tiny L1.resid_post</h1>" in page
    assert page.count("<details ") == 4
    assert [p.name for p in sorted((tmp_path / "out" / "L1.resid_post").iterdir())] == [
        "0_31.safetensors",
        "config.json",
    ]
    again = invoke("--checkpoint", folder, "--prompt", PROMPT)
    assert again.exit_code == 2
    assert "is not overwritten" in again.stderr


def test_a_coder_that_names_no_model_wants_one(invoke, tmp_path):
    saelens.write(random_coder("topk", 128, 32), tmp_path / "coder")
    done = invoke("--checkpoint", tmp_path / "coder", "--prompt", PROMPT)
    assert done.exit_code == 2
    assert "give --model-name and --hook-name" in done.stderr


def test_a_folder_may_be_named_in_place_of_a_file(invoke, folder, tmp_path):
    options = ("--checkpoint", folder, "--prompt", PROMPT, "--latents", 2, "--output-dir", tmp_path / "new" / "pages")
    done = invoke(*options)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "new" / "pages" / "dashboard-coder.html").is_file()
    both = invoke(*options, "--output", tmp_path / "page.html")
    assert both.exit_code == 2
    assert "--output and --output-dir both say where the page goes" in both.stderr


def test_a_page_is_not_made_with_another_model_than_the_coders(invoke, folder):
    done = invoke("--checkpoint", folder, "--prompt", PROMPT, "--model-name", "embedded:gpt2-tiny")
    assert done.exit_code == 2
    assert "made for the model embedded:neox-tiny" in done.stderr
