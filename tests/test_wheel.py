"""The wheel: what it carries, and that it works alone where there is no network."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALONE = """
import socket

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refuse
import vaebook as vb

print(vb.__file__)
for name in ("mnist-2d", "mnist-32d"):
    model = vb.pretrained(name)
    images = vb.decode(model, vb.sample_prior(model, 3))
    print(name, tuple(images.shape), bool(0 <= images.min() and images.max() <= 1))
"""


@pytest.fixture(scope="module")
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


def test_the_wheel_carries_the_package_and_nothing_of_the_book(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"vaebook", next(top for top in tops if top.endswith(".dist-info"))}
    package = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "vaebook").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip
    assert {name for name in names if name.startswith("vaebook/")} == package
    assert {"vaebook/weights/cards.json", "vaebook/py.typed", "vaebook/plot/book.mplstyle"} <= names
    assert not any(name.endswith((".ipynb", ".csv", ".bib")) for name in names)
    assert wheel.stat().st_size < 5e6


@pytest.mark.slow
def test_the_wheel_alone_has_its_pretrained_models_without_a_network(wheel, tmp_path):
    """The dependencies are those of the tests; the package itself comes from the wheel."""
    venv.create(tmp_path / "env")
    python = str(tmp_path / "env" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    scheme = {"base": str(tmp_path / "env"), "platbase": str(tmp_path / "env")}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    # A folder named in a .pth file is searched, but the .pth files inside it are not read, so
    # that the development install of the package stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run = subprocess.run(
        [python, "-I", "-c", ALONE], cwd=tmp_path, check=True, capture_output=True, text=True
    )  # fmt: skip
    where, *models = run.stdout.splitlines()
    assert Path(where).is_relative_to(site)
    assert models == ["mnist-2d (3, 1, 28, 28) True", "mnist-32d (3, 1, 28, 28) True"]
