"""Classes that are defined more than once: where, in how many versions, and how the versions differ."""

import pytest

pytestmark = pytest.mark.fast

FIRST = '''
class Net(Base):
    """Some words."""

    size: int = 3

    def __init__(self, n):
        self.n = n

    def gone(self):
        pass
'''
# other words, comments and layout; the same code
SAME = 'class Net( Base ):\n  "Other words."\n  size: int = 3 # three\n  def __init__(self, n):\n    self.n=n\n  def gone(self): pass\n'
SECOND = """
@dataclass
class Net(Base, Mixin):
    size: int = 4
    name = "x"

    def __init__(self, n, m=1):
        self.n = n
        self.m = m

    def forward(self, x):
        return x
"""
THIRD = SECOND.replace("return x", "return -x")


def test_equal_definitions_are_one_version(scanned):
    (net,) = scanned({"a.py": FIRST, "b/c.py": SAME}).repeated
    assert net.name == "Net"
    assert [v.places for v in net.versions] == [("a.py:2", "b/c.py:1")]
    assert net.versions[0].differences == ()


def test_differences_are_told(scanned):
    (net,) = scanned({"a.py": FIRST, "b.py": SECOND}).repeated
    assert net.versions[1].base == "a.py:2"
    assert net.versions[1].differences == (
        "bases: Base -> Base, Mixin",
        "decorators: none -> dataclass",
        "methods added: forward",
        "methods removed: gone",
        "method __init__ changed: +2 -1 lines, __init__(self, n) -> __init__(self, n, m=1)",
        "attributes added: name",
        "attribute size changed: +1 -1 lines",
    )


def test_a_version_is_compared_with_the_nearest_before_it(scanned):
    (net,) = scanned({"a.py": FIRST, "b.py": SECOND, "c.py": THIRD}).repeated
    assert (net.versions[2].base, net.versions[2].differences) == ("b.py:3", ("method forward changed: +1 -1 lines",))


def test_twice_in_one_notebook(scanned, notebook):
    (net,) = scanned({"a.ipynb": notebook("import x", "class Net: pass", "\nclass Net:\n    y = 1")}).repeated
    assert [v.places for v in net.versions] == [("a.ipynb cell 2:1",), ("a.ipynb cell 3:2",)]


def test_a_property_and_its_setter_are_two_methods(scanned):
    code = "class A:\n    @property\n    def x(self): pass\n    @x.setter\n    def x(self, v): {}\n"
    (a,) = scanned({"a.py": code.format("pass"), "b.py": code.format("y = v")}).repeated
    assert a.versions[1].differences == ("method x (2) changed: +1 -1 lines",)


def test_a_class_that_is_defined_once_is_not_told(scanned):
    assert scanned({"a.py": FIRST, "b.py": "class Other: pass\nclass Outer:\n    class Net: pass\n"}).repeated == ()


def test_a_twin_is_no_second_definition_unless_it_differs(scanned, notebook):
    assert scanned({"a.py": FIRST, "a.ipynb": notebook(SAME.replace("Other", "Some"))}).repeated == ()
    (net,) = scanned({"a.ipynb": notebook(SECOND)}).repeated
    assert len(net.versions) == 2


def test_a_notebook_and_its_script(scanned, notebook):
    script = "def f(x):\n    return x\n\n\ndef g(): pass\n"
    files = {"a.py": script, "a.ipynb": notebook("def f(x): return x  # same", "def g(): pass\ndef example(): pass")}
    twin = scanned(files).entries[0]
    assert (twin.twin, twin.twin_differs, twin.twin_adds) == ("a.py", (), ("example",))
    twin = scanned({"a.ipynb": notebook("def f(x): return -x")}).entries[0]
    assert (twin.twin, twin.twin_differs, twin.twin_adds) == ("a.py", ("f", "g"), ())
