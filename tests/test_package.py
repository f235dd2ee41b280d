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
# A room uses only the rooms above it; within one, nothing but that there is no circle.
ROOMS = [
    "checks", "data", "models", "objectives", "speed", "training", "priors", "sampling",
    "evaluation", "plot", "export", "zoo", "records", "from_scratch", "__main__",
]  # fmt: skip


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


sources = {module_name(path): path.read_text("utf-8") for path in FILES}
TREES = {name: ast.parse(source) for name, source in sources.items()}
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


def room(name):
    return name.split(".")[1]


def not_blank(paths):
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
    return sum(bool(line.strip()) for line in lines)


def functions(name):
    """Yield each function of a module, and its lines that are not blank without its docstring."""
    source = sources[name].splitlines()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            numbers = set(range(node.lineno, node.end_lineno + 1))
            if ast.get_docstring(node):
                numbers -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
            yield node.name, sum(bool(source[n - 1].strip()) for n in numbers)


def test_there_is_no_import_circle():
    assert GRAPH["vaebook.training.loop"] >= {"vaebook.models.vae", "vaebook.objectives"}
    order = list(TopologicalSorter(GRAPH).static_order())  # raises where there is a circle
    assert order.index("vaebook.models.networks") < order.index("vaebook.models.vae")


def test_every_file_belongs_to_a_room():
    assert {room(name) for name in GRAPH} == set(ROOMS)


def test_a_room_uses_only_the_rooms_above_it():
    for name, others in GRAPH.items():
        for other in others:
            if room(name) != room(other):
                assert ROOMS.index(room(other)) < ROOMS.index(room(name)), f"{name} uses {other}"


def test_a_model_knows_nothing_of_training_devices_or_speed():
    for name, tree in TREES.items():
        if name.startswith("vaebook.models"):
            modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            modules |= {
                a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
            }
            ours = {m for m in modules if m.startswith("vaebook")}
            assert all(m.startswith(("vaebook.checks", "vaebook.models")) for m in ours), name
            assert not modules & {"torch.optim", "torch.distributed", "torch.cuda"}, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_300_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("name", TREES)
def test_no_function_is_longer_than_60_lines_without_its_docstring(name):
    assert not [f"{f}: {n}" for f, n in functions(name) if n > 60]


def test_the_loop_is_at_most_50_lines():
    (length,) = (n for f, n in functions("vaebook.training.loop") if f == "train")
    assert length <= 50


def test_the_package_has_at_most_6163_lines_that_are_not_blank():
    assert not_blank(FILES) <= 6163


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
