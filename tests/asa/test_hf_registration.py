"""`import asa` makes transformers know ASMs, in either order, and imports nothing of transformers itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.asa.tiny_models import tiny

from asa.hf import from_language_model
from asa.registration import _AfterImport

LOADS = """
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
assert type(model).__name__ == "ASMForCausalLM", type(model)
assert AutoConfig.from_pretrained(sys.argv[1]).hidden_size == 32
"""
ORDERS = {
    "asa first": "import asa\nassert not any(name.startswith('transformers') for name in sys.modules)\nfrom transformers import AutoConfig, AutoModelForCausalLM\n",
    "transformers first": "from transformers import AutoConfig, AutoModelForCausalLM\nimport asa\n",
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_auto_classes_take_a_saved_folder_in_a_fresh_process(order, tmp_path):
    from_language_model(tiny()).save_pretrained(str(tmp_path))
    script = "import sys\n" + order + LOADS
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_action_follows_the_import_of_its_module_only(tmp_path, monkeypatch):
    for name in ("made_up_one", "made_up_two"):
        (tmp_path / f"{name}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = []
    finder = _AfterImport({"made_up_one": lambda: seen.append(sys.modules["made_up_one"].value)})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    import made_up_two

    assert (made_up_two.value, seen) == (1, [])
    import made_up_one

    assert seen == [1]  # the module was complete
    assert type(made_up_one.__loader__).__name__ == "SourceFileLoader"
    assert made_up_one.__spec__.loader is made_up_one.__loader__
    for name in ("made_up_one", "made_up_two"):
        monkeypatch.delitem(sys.modules, name)
    assert finder.find_spec("made_up_gone", None) is None
