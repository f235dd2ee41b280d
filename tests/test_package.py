"""The house: its layers, its size, and what importing it costs."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

import vaebook

PACKAGE = Path(vaebook.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# From DESIGN.md: a room uses only the rooms above it.
ROOMS = [
    "likelihoods", "networks", "layers", "vae", "objectives", "optimizers", "devices",
    "distributed", "data", "conditional", "engine", "training", "sampling", "evaluation",
    "fidelity", "hierarchical", "from_scratch", "plot", "__main__",
]  # fmt: skip


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


TREES = {module_name(path): ast.parse(path.read_text("utf-8")) for path in FILES}
INITS = {module_name(path) for path in FILES if path.name == "__init__.py"}


def imported(name):
    """Yield the modules of the package that a module imports when it is itself imported."""
    for node in TREES[name].body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in TREES)
        elif isinstance(node, ast.ImportFrom) and node.module in TREES:
            assert node.level == 0
            for alias in node.names:
                yield origin(node.module, alias.name)


def origin(module, name):
    """Return where a name imported from `module` is defined, through a package's re-exports."""
    if f"{module}.{name}" in TREES:
        return f"{module}.{name}"
    if module in INITS:
        for node in TREES[module].body:
            if isinstance(node, ast.ImportFrom) and name in [a.name for a in node.names]:
                return origin(node.module, name)
    return module


GRAPH = {name: set(imported(name)) - INITS for name in TREES if name not in INITS}


def test_there_is_no_import_circle():
    assert GRAPH["vaebook.training"] >= {"vaebook.vae", "vaebook.objectives"}
    order = list(TopologicalSorter(GRAPH).static_order())  # raises where there is a circle
    assert order.index("vaebook.networks") < order.index("vaebook.vae")


def test_a_room_uses_only_the_rooms_above_it():
    def room(name):
        return name.split(".")[1]

    for name, others in GRAPH.items():
        for other in others:
            if room(name) in ROOMS and room(other) in ROOMS and room(name) != room(other):
                assert ROOMS.index(room(other)) < ROOMS.index(room(name)), f"{name} uses {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


def test_the_package_has_at_most_4100_lines_that_are_not_blank():
    lines = [line for path in FILES for line in path.read_text("utf-8").splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 4100


def test_every_public_name_is_there():
    assert sorted(vaebook.__all__) == sorted(set(vaebook.__all__))
    for name in vaebook.__all__:
        thing = getattr(vaebook, name)
        assert thing.__doc__, f"{name} has no docstring"
    assert vaebook.__version__ == version("vaebook")
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'"):
        vaebook.nonsense  # noqa: B018


def test_importing_the_package_is_light():
    heavy = ["matplotlib", "seaborn", "sklearn", "torchvision", "pandas", "PIL", "IPython"]
    code = f"import sys, vaebook; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
