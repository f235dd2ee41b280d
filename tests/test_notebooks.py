"""Each notebook alone: in an empty folder, with the wheel and what its extra `book` brings."""

import asyncio
import base64
import importlib.util
import json
import re
import shutil
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.browser import BOOK, load

NOTEBOOKS = {path.stem: path for path in sorted(BOOK.glob("*.ipynb"))}
QUICK = ["00-welcome", "80-from-r-torch-to-pytorch", "85-what-this-book-claims"]
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
    said = re.search("run `(pip install .*)` once", notebook.cells[0].source)
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


# --- the translation, on a chapter of a few lines -------------------------------------------

CHAPTER = """---
file_format: mystnb
kernelspec:
  name: python3
---

# A title

See {cite:t}`sonderby2016`, {cite:p}`theis2016`, and the picture:

```{figure} dot.png
:alt: a dot
:name: fig-dot
A dot.
```

```{exercise} Count
:label: ex-count
How many?
```

```{solution-start} ex-count
:class: dropdown
```

One more than none.

```{code-cell} python
---
mystnb:
  image:
    alt: >-
      A line
      that rises.
  figure:
    caption: "It rises."
---
import numpy.linalg
from math import pi
```

So it is one.

```{solution-end}
```

The end.
"""


@pytest.fixture
def translated(tmp_path, monkeypatch):
    """Return a function from an address of the repository to the notebook of the chapter above."""
    make_notebooks = load("make_notebooks")
    folder = tmp_path / "book"
    folder.mkdir()
    shutil.copy(BOOK / "references.bib", folder)
    (folder / "dot.png").write_bytes(b"a picture")
    path = folder / "01-small.md"
    path.write_text(CHAPTER, encoding="utf-8")
    monkeypatch.setattr(make_notebooks, "BOOK", folder)

    def translate(url=""):
        (tmp_path / "_config.yml").write_text(f"repository:\n  url: '{url}'\n")
        chapter = make_notebooks.read_chapter(path)
        return make_notebooks.notebook(chapter, {"01-small": chapter})

    return translate


def test_the_command_to_install_is_that_of_the_address_if_there_is_one(translated):
    sources = [[cell.source for cell in translated(url).cells[:2]] for url in ("", "https://a.b/c")]
    here, there = 'pip install -e ".[book]"', 'pip install "vaebook[book] @ git+https://a.b/c"'
    assert all(here in source and "root of the repository" in source for source in sources[0])
    assert all(there in source and "root" not in source for source in sources[1])
    assert 'needed = "numpy".split()' in sources[0][1]


def test_pictures_lie_in_their_cell_and_keep_their_text_number_and_caption(translated):
    with_picture, *others = (c for c in translated().cells if c.get("attachments"))
    assert not others
    assert "![a dot](attachment:dot.png)" in with_picture.source
    assert "*Fig. 1.1: A dot.*" in with_picture.source
    content = with_picture.attachments["dot.png"]["image/png"]
    assert base64.b64decode(content) == b"a picture"
    assert "A line that rises." in text(translated())


def test_names_are_names_and_the_works_are_listed(translated):
    whole, _, listed = text(translated()).partition("## Works cited")
    assert "See Sønderby et al. (2016), (Theis et al., 2016)" in whole
    assert [line.split(",")[0] for line in listed.strip().split("\n")] == [
        "- Casper Kaae Sønderby", "- Lucas Theis",
    ]  # fmt: skip
    assert "Aäron van den Oord" in listed


def test_a_solution_is_folded_piece_by_piece_and_its_code_too(translated):
    _, solution = code(translated())
    assert solution.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
    whole = text(translated())
    folded = re.findall(r"<summary>(.*)</summary>\n\n(.*)\n\n</details>", whole)
    heading = "Solution to Exercise 1.1"
    assert folded == [
        (heading, "One more than none."),
        (f"{heading}, continued", "It rises."),
        ("The picture in words", "A line that rises."),
        (f"{heading}, continued", "So it is one."),
    ]
    assert "</details>\n\nThe end." in whole
