"""Imports, definitions, metrics and artifacts of a file, by rule."""

import pytest

pytestmark = pytest.mark.fast

METRICS = {
    'record("accuracy", 1, n=1); self.log_metric("b", 2); writer.add_scalar("c", 3)': ('"accuracy"', '"b"', '"c"'),
    'log_metrics({"a": 1, name: 2}); import wandb; wandb.log({"b": 1})': ('"a"', '"b"'),
    "record(name, 1)": (),
    "from sklearn.metrics import f1_score as f1\nf1(a, b)": ("sklearn.metrics.f1_score",),
    "import sklearn.metrics as m\nm.roc_auc_score(a, b); m.unused": ("sklearn.metrics.roc_auc_score",),
    "from trialplate.metrics import statistics\nstatistics.mean(x)": ("trialplate.metrics.statistics.mean",),
    "import torch\ntorch.nn.functional.cross_entropy(a, b); torch.nn.functional.gelu(a)": (
        "torch.nn.functional.cross_entropy",
    ),
    "import torch.nn.functional as F\nF.mse_loss(a, b)": ("torch.nn.functional.mse_loss",),
    "from torch import nn\nnn.MSELoss()(a, b); nn.Linear(1, 2)": ("torch.nn.MSELoss",),
    "cross_entropy(a, b)": (),
}


@pytest.mark.parametrize("code", METRICS)
def test_metrics(code, entry):
    assert entry(code).metrics == METRICS[code]


ARTIFACTS = {
    'open("a.txt", "w"); open("b", mode="ab"); open("c"); open("d", "rb"); open(e, m)': ("a.txt", "b"),
    'import gzip\ngzip.open("a.gz", "wt")': ("a.gz",),
    'from pathlib import Path\nPath("d", "a.txt").write_text(x); (Path("d") / "b").open("wb")': ("d/a.txt", "d/b"),
    'import torch\ntorch.save(x, "m.pt"); torch.save(obj=x, f="n.pt")': ("m.pt", "n.pt"),
    'import numpy as np\nnp.savez("a.npz", x=x)': ("a.npz",),
    'df.to_csv("t.csv", index=False); df.to_csv(); plt.savefig(fname="f.png")': ("f.png", "t.csv"),
    'import json\njson.dump(x, open(f"{tag}/a.json", "w"))': ("{tag}/a.json",),
    'import os\nopen(os.path.join("d", run.name, "x"), "w"); open(path, "w")': ("d/{run.name}/x", "{path}"),
    'OUT = "runs"\nNAME = OUT + "/m.pt"\nimport torch\ntorch.save(x, NAME)': ("runs/m.pt",),
    'OUT = "a"\nOUT = "b"\nopen(OUT, "w")': ("{OUT}",),
    'OUT = "a"\ndef f(OUT):\n    open(OUT, "w")': ("{OUT}",),
    "OUT = args.out\nopen(OUT, 'w')": ("{OUT}",),
    'A = B\nB = A\nopen(A / "x", "w")': ("{A}/x",),
    'zip.open("member", "x.txt"); image.open("w.png")': (),
    'torch.save(*args); open(*args, "w")': (),
}


@pytest.mark.parametrize("code", ARTIFACTS)
def test_artifacts(code, entry):
    assert entry(code).artifacts == ARTIFACTS[code]


def test_a_path_that_is_nested_too_deeply_is_cut(entry):
    assert entry("open(" + "/".join(["a"] * 300) + ', "w")').artifacts[0].startswith("{…}/")
    assert entry("open(a" + ".b" * 950 + ', "w")').artifacts in (("{…}",), ("{a" + ".b" * 950 + "}",))


def test_imports_wherever_they_stand(entry):
    found = entry("import a.b as c, d\nfrom . import e\nfrom ..f import g\ndef h():\n    from i.j import k\n")
    assert found.imports == ("..f", ".e", "a.b", "d", "i.j")


def test_definitions_at_the_top_level_and_in_its_branches(entry):
    code = "try:\n    import x\nexcept ImportError:\n    def a(): pass\nelse:\n    async def b(): pass\nif x:\n    class C: pass\n"
    code += "match x:\n    case 1:\n        def d():\n            def inner(): pass\n"
    found = entry(code)
    assert (found.functions, found.classes) == (("a", "b", "d"), ("C",))


def test_modules_derive_from_a_module_of_this_folder_or_torch(scanned):
    found = scanned(
        {
            "a.py": "from torch import nn\nclass Base(nn.Module):\n    class Config: pass\nclass Plain: pass\nclass Generic(Base[int]): pass\n",
            "b.py": "from a import Base\nclass Child(Base): pass\nclass Plain(Child): pass\nclass Other(dict): pass\n",
        }
    )
    assert [(e.modules, e.classes) for e in found.entries] == [
        (("Base", "Generic"), ("Base.Config", "Plain")),
        (("Child", "Plain"), ("Other",)),
    ]
