"""Set-up shared by all tests: shape checking, a quiet matplotlib, threads and data folders."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import hypothesis
import jaxtyping
import matplotlib
import pytest
import torch

# Check every annotated shape and type of the package while the tests run. The hook only sees
# modules imported after it.
assert "vaebook" not in sys.modules, "vaebook was imported before its shapes could be checked"
# A float may be given as an int, as PEP 484 has it.
jaxtyping.install_import_hook(
    "vaebook", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

matplotlib.use("Agg")

# No test fails for being slow, and in CI none for luck: there the same examples come every time.
# EXAMPLES=300 tries more of them.
hypothesis.settings.register_profile(
    "vaebook", deadline=None, derandomize="CI" in os.environ,
    max_examples=int(os.environ.get("EXAMPLES", 40)),
)  # fmt: skip
hypothesis.settings.load_profile("vaebook")

# The models of the tests are small: a second thread would only make the first wait.
torch.set_num_threads(1)

pytest_plugins = ["tests.browser"]

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
# A cell's options are a YAML block or lines that begin with a colon; its code follows.
OPTIONS = r"(?:---\n.*?\n---\n|(?::[^\n]*\n)*)"
CELL = re.compile(rf"^```\{{code-cell\}} python\n{OPTIONS}(.*?)^```$", re.S | re.M)


@pytest.fixture(scope="session")
def definitions():
    """Return a function from a chapter's name to its imports, functions and classes by name."""

    def read(name):
        (path,) = BOOK.glob(f"[0-9]*-{name}.md")
        tree = ast.parse("\n".join(CELL.findall(path.read_text("utf-8"))))
        kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
        tree.body = [node for node in tree.body if isinstance(node, kept)]
        names = {}
        exec(compile(tree, path.name, "exec"), names)
        return names

    return read


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The path of a wheel made from what the project commits."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vaebook", source / "vaebook", ignore=ignored)
    shutil.copytree(ROOT / "book", source / "book", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, str(source), "-w", str(folder)], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed_wheel(wheel, tmp_path_factory):
    """A Python that has the package from its wheel, and its dependencies from the tests'."""
    env = tmp_path_factory.mktemp("env")
    venv.create(env)
    python = env / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    scheme = {"base": str(env), "platbase": str(env)}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    # A folder named in a .pth file is searched, but the .pth files inside it are not read, so
    # that the development install of the package stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    """Give the test an empty data folder of its own, which `VAEBOOK_DATA` points to."""
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("VAEBOOK_DATA", str(root))
    return root


@pytest.fixture
def unchecked():
    """Meet the package's own errors, as a reader does, instead of the type checker's."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _forget_what_is_registered():
    """Take back what a test, or a doctest, has made known to files."""
    registry = sys.modules.get("vaebook.models.registry")
    if registry is None:
        yield
        return
    tables = registry.BUILDERS, registry.LIKELIHOODS
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture(autouse=True)
def _close_figures():
    """Close the figures a test has opened, before matplotlib warns that there are many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
