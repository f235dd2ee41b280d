"""Each notebook alone: in an empty folder, with the wheel and what its extra `book` brings."""

import asyncio
import importlib.util
import json
import re
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BOOK = Path(__file__).parents[1] / "book"
NOTEBOOKS = {path.stem: path for path in sorted(BOOK.glob("*.ipynb"))}
QUICK = ["04-why-a-bound", "80-from-r-torch-to-pytorch", "85-what-this-book-claims"]
LONG = [pytest.param(name, marks=pytest.mark.alone) for name in NOTEBOOKS if name not in QUICK]
CELL_SECONDS = 1800

each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.fixture
def kernel(installed_wheel, tmp_path, monkeypatch):
    """The name of a kernel that knows nothing of this checkout, nor of the user's own packages."""
    folder = tmp_path / "kernels" / "alone"
    folder.mkdir(parents=True)
    argv = [str(installed_wheel), "-I", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "alone", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return folder.name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *LONG])
def test_a_notebook_runs_alone(name, kernel, installed_wheel, tmp_path):
    notebook = read(name)
    notebook.cells.append(nbformat.v4.new_code_cell("import vaebook; print(vaebook.__file__)"))
    folder = tmp_path / "empty"
    folder.mkdir()
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name=kernel, resources=where)
    asyncio.run(client.async_execute())
    *cells, last = code(notebook)
    assert Path(last.outputs[0].text.strip()).is_relative_to(installed_wheel.parents[1])
    assert not [o.text for cell in cells for o in cell.outputs if o.get("name") == "stderr"]


@each_notebook
def test_the_first_cells_say_what_installs_all_and_what_is_missing(name, monkeypatch):
    notebook = read(name)
    said = re.search("run once.*`(pip install .*)`", notebook.cells[0].source)
    check = notebook.cells[1].source
    exec(check, {})  # nothing is missing here
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "vaebook" else found(n))
    with pytest.raises(ImportError, match=r"^This notebook needs vaebook; .*\.$") as error:
        exec(check, {})
    assert said[1] in str(error.value)


def test_the_extra_brings_all_that_the_notebooks_import(wheel):
    """Walk from the wheel's requirements through those of the installed packages."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        own = message_from_bytes(archive.read(path)).get_all("Requires-Dist")

    def required(name, extras):
        listed = own if name == "vaebook" else distribution(name).requires
        for requirement in map(Requirement, listed or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ["", *extras]):
                yield canonicalize_name(requirement.name), frozenset(requirement.extras)

    brought, ahead = set(), [("vaebook", frozenset(["book"]))]
    while ahead:
        package = ahead.pop()
        if package not in brought:
            brought.add(package)
            ahead.extend(required(*package))
    brought = {name for name, _ in brought}
    assert "ipykernel" in brought
    owners = packages_distributions()
    names = {n for nb in NOTEBOOKS for n in re.findall('"(.*)".split', read(nb).cells[1].source)}
    modules = {module for listed in names for module in listed.split()} | {"onnx", "onnxscript"}
    assert {"onnxruntime", "vaebook", "torch"} <= modules
    unknown = [m for m in modules if not brought & set(map(canonicalize_name, owners[m]))]
    assert not unknown


@each_notebook
def test_a_notebook_reads_no_file_that_it_would_lack(name):
    source = "\n".join(cell.source for cell in code(read(name)))
    assert not re.findall(r"""["'](?:results|r|_static)/""", source)
    shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text(read(name)))
    assert all(link.startswith("attachment:") for link in shown)


@each_notebook
def test_what_a_notebook_cites_is_listed_at_its_end(name):
    whole, _, listed = text(read(name)).partition("## Works cited")
    assert not re.findall(r"\{\\\W", whole), "LaTeX's accents are decoded"
    years = re.findall(r"\b[A-Z][^\s()]+(?: et al\.)?[,]? \(?((?:19|20)\d\d)\)", whole)
    assert all(year in listed for year in years)
    if years:
        assert "## Works cited" in read(name).cells[-1].source


@each_notebook
def test_solutions_are_folded(name):
    """Outside of parts that open on a click, nothing of a solution stands there."""
    open_text = re.sub("<details>.*?</details>", "", text(read(name)), flags=re.DOTALL)
    for line in re.findall(r"^.*\bSolution to Exercise.*$", open_text, re.MULTILINE):
        assert line.endswith("see the folded code below.")
    assert not re.search(r"\b[Tt]abs?\b (?:show|hold|beside)", open_text)
