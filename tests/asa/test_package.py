"""The package: its public names, and that importing it alone is cheap."""

import subprocess
import sys

import pytest

import asa


@pytest.mark.fast
def test_public_names_are_there():
    assert all(getattr(asa, name) is not None for name in asa.__all__)
    assert set(asa.__all__) <= set(dir(asa))
    assert {name for names in asa._HOMES.values() for name in names} == set(asa.__all__)
    with pytest.raises(AttributeError, match="no attribute 'AddressedStateAtention'"):
        _ = asa.AddressedStateAtention


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = "import sys, asa; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules))); asa.ASMBlock; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["[]", "True"]
