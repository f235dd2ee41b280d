"""The wheel: what it carries, and that it works alone where there is no network."""

import subprocess
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
print(len(vb.results("table")), sorted(set(vb.results("digits_curves.csv").network)))
for name in ("mnist-2d", "mnist-32d"):
    model = vb.pretrained(name)
    images = vb.decode(model, vb.sample_prior(model, 3))
    print(name, tuple(images.shape), bool(0 <= images.min() and images.max() <= 1))
"""


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
    assert {"vaebook/results/digits_curves.csv", "vaebook/results/table/mnist-vae-0.json"} <= names
    assert not any(name.endswith((".ipynb", ".bib")) for name in names)
    assert wheel.stat().st_size < 5e6


@pytest.mark.slow
def test_the_wheel_alone_has_its_models_and_results_without_a_network(installed_wheel, tmp_path):
    run = subprocess.run(
        [installed_wheel, "-I", "-c", ALONE], cwd=tmp_path, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    where, results, *models = run.stdout.splitlines()
    assert Path(where).is_relative_to(installed_wheel.parents[1])
    runs = len([*(ROOT / "vaebook" / "results" / "table").iterdir()])
    assert results == f"{runs} ['conv', 'mlp']"
    assert models == ["mnist-2d (3, 1, 28, 28) True", "mnist-32d (3, 1, 28, 28) True"]
