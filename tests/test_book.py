"""The chapters' sources, their notebooks and their R halves."""

import re
import shutil
import statistics
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from tests.browser import BOOK, load

ROOT = BOOK.parent
# The first page and the last two have no lesson to sum up and nothing to exercise.
NO_LESSON = {"00-welcome", "85-what-this-book-claims", "90-references"}


make_notebooks = load("make_notebooks")
CHAPTERS = make_notebooks.chapters()
LESSONS = [name for name in CHAPTERS if name not in NO_LESSON]
R_FILES = sorted((BOOK / "r").glob("*.R"))

each_chapter = pytest.mark.parametrize("name", CHAPTERS)
each_lesson = pytest.mark.parametrize("name", LESSONS)


def source(name):
    return (BOOK / f"{name}.md").read_text(encoding="utf-8")


def test_contents_name_every_chapter():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    entries = [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]
    paths = [*BOOK.glob("[0-9]*.md"), *BOOK.glob("reference/*.md")]
    names = [path.relative_to(ROOT).with_suffix("").as_posix() for path in paths]
    assert sorted(entries) == sorted(names)


def test_files_are_numbered_as_the_pages_are():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    numbered = [c["file"] for p in toc["parts"] if p.get("numbered") for c in p["chapters"]]
    numbers = [int(Path(entry).name[:2]) for entry in numbered]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_chapter_has_a_notebook_and_every_notebook_a_chapter():
    notebooks = {path.stem for path in BOOK.glob("*.ipynb")}
    assert notebooks == set(CHAPTERS), "run `make book notebooks`"


@each_chapter
def test_notebook_agrees_with_its_chapter(name):
    made = make_notebooks.notebook(CHAPTERS[name], CHAPTERS)
    path = BOOK / f"{name}.ipynb"
    assert make_notebooks.agree(made, path), f"{name}: run `make book notebooks`"


@each_chapter
def test_notebook_is_small_and_holds_no_failure(name):
    path = BOOK / f"{name}.ipynb"
    assert path.stat().st_size < make_notebooks.MAX_BYTES
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    kinds = {(o.output_type, o.get("name")) for cell in code for o in cell.outputs}
    assert not kinds & {("error", None), ("stream", "stderr")}


@each_chapter
def test_code_cells_are_small(name):
    lengths = [
        len(cell.source.splitlines()) for cell in CHAPTERS[name].cells if cell.cell_type == "code"
    ]
    assert max(lengths, default=0) <= 25
    assert not lengths or statistics.median(lengths) < 8


@pytest.mark.parametrize("name", [name for name in LESSONS if name < "80"])
def test_chapter_begins_with_a_picture(name):
    beginning = re.split(r"^## ", source(name), maxsplit=1, flags=re.MULTILINE)[0]
    drawn = re.findall(r"^ +name: (fig-\S+)$", source(name), re.MULTILINE)
    shown = re.findall(r"^```\{opening\} (\S+)$", beginning, re.MULTILINE)
    assert set(shown) <= set(drawn)
    assert shown or any(f"name: {figure}\n" in beginning for figure in drawn)


@each_lesson
def test_lesson_ends_with_takeaways(name):
    assert re.search(r"^## .*takeaways", source(name), re.MULTILINE | re.IGNORECASE)


@each_lesson
def test_lesson_has_exercises_each_with_a_hidden_solution(name):
    text = source(name)
    labels = re.findall(r"\{exercise(?:-start)?\}.*\n(?::.*\n)*?:label: *(\S+)", text)
    solved = re.findall(r"\{solution(?:-start)?\} *(\S+)\n((?::.*\n)*)", text)
    assert len(labels) >= 2
    assert sorted(labels) == sorted(label for label, _ in solved)
    assert all("dropdown" in options for _, options in solved), "a solution opens on a click"


def test_every_r_half_is_shown_by_a_chapter():
    text = "\n".join(source(name) for name in CHAPTERS)
    shown = set(re.findall(r"\{literalinclude\} *r/(\S+)", text))
    assert shown == {path.name for path in R_FILES}


def test_every_r_half_parses_in_r():
    if not R_FILES:
        pytest.skip("no R halves yet")
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed here (on Debian: apt-get install r-base-core)")
    each = 'for (f in commandArgs(TRUE)) tryCatch(parse(f, encoding = "UTF-8"), error = function(e)'
    program = f"{each} {{ message(f, ': ', conditionMessage(e)); failed <<- TRUE }})"
    program = f"failed <- FALSE; {program}; quit(status = failed)"
    done = subprocess.run(
        ["Rscript", "--vanilla", "-e", program, *map(str, R_FILES)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_tracked_file_names_a_place_on_one_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    place = re.compile(r"(?<![\w.~>)}/-])/(?:work|home|root|Users)/[\w.]")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{name}: {line[:120]}" for line in text.splitlines() if place.search(line)]
    assert not found, "\n".join(found)


def test_chapters_run_side_by_side_are_found_by_the_build_and_failures_are_not(tmp_path, capsys):
    execute = load("execute")
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# Title\n\n"
    cells = {"good": "6 * 7", "bad": "1 / 0", "after": "open('good.txt').read()"}
    cells["good"] += "\nopen('good.txt', 'w').write('42')"
    paths = {name: tmp_path / f"{name}.md" for name in cells}
    for name, path in paths.items():
        text = f"{head}```{{code-cell}} python\n{cells[name]}\n```\n"
        path.write_text(text, encoding="utf-8")
    cache = execute.get_cache(tmp_path / "cache")
    execute.execute_all([[paths["good"], paths["after"]], [paths["bad"]]], cache, 60, at_once=2)
    assert "bad: CellExecutionError, left to the build" in capsys.readouterr().out
    found = {name: execute.read(path) for name, path in paths.items()}
    assert cache.merge_match_into_notebook(found["good"])[1].cells[-1].outputs[0].data
    text = cache.merge_match_into_notebook(found["after"])[1].cells[-1].outputs[0].data
    assert text["text/plain"] == "'42'"
    with pytest.raises(KeyError):
        cache.match_cache_notebook(found["bad"])
