"""Try to refute the book: change a cell as an author might slip, and see its claim fall.

    python -m experiments.refute          every chapter that has refutations
    python -m experiments.refute 04 08    these two

A file tests/refutations/NN.py lists, as data, changes of chapter NN (REFUTATIONS) and the
assertion that each of them must bring down, and changes that must leave it standing (NEUTRAL).
The chapter runs once. Before a cell that a change is about, the process forks: the child goes on
with the changed cell, up to the cell of the assertion. What came of it is written to
vaebook/results/refutations.json, and the command fails if an assertion survived its refutation.
"""

import argparse
import ast
import json
import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

from experiments.records import RESULTS, write_text

BOOK = Path(__file__).resolve().parent.parent / "book"
LISTS = BOOK.parent / "tests" / "refutations"
RESULT = RESULTS / "refutations.json"
SECONDS = 900  # a changed chapter that takes longer than this has not been refuted

sys.path.insert(0, str(BOOK))

from make_notebooks import read_chapter  # noqa: E402


def changes_of(listed):
    """Return every change that a file lists, refutations first, as dicts with one set of keys."""
    refutations = [dict(r, refutes=True, where=r["falls"]) for r in listed["REFUTATIONS"]]
    neutral = [dict(n, refutes=False, where=n["holds"]) for n in listed.get("NEUTRAL", [])]
    return refutations + neutral


def code_of(path):
    """Return the code cells of a chapter, and for each the heading under which it stands."""
    cells, headings, heading = [], [], ""
    for cell in read_chapter(path).cells:
        if cell.cell_type == "code":
            cells.append(cell.source)
            headings.append(heading)
        else:
            found = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)
            heading = found[-1] if found else heading
    return cells, headings


def only(cells, text):
    """Return the number of the one cell in which a text stands once."""
    counts = [source.count(text) for source in cells]
    if sum(counts) != 1:
        raise ValueError(f"expected a text that the code cells hold once, got {counts}: {text!r}")
    return counts.index(1)


def placed(cells, change):
    """Return a change with the numbers of its own cell and of the assertion's."""
    old, new = change["change"]
    cell, last = only(cells, old), only(cells, change["where"])
    if old == new:
        raise ValueError(f"expected a change, got {old!r} twice")
    source = cells[last]
    place = source.index(change["where"])
    # A change of the assertion itself, or of its threshold, refutes nothing.
    asserted = statement(source, source[:place].count("\n") + 1)
    if change["refutes"] and last == cell and old in asserted:
        raise ValueError(f"expected a change outside the assertion, got {old!r}")
    if last < cell or (last == cell and place < source.index(old)):
        raise ValueError(f"expected an assertion after the change, got {change['where']!r}")
    return dict(change, cell=cell, last=last)


def statement(source, line):
    """Return the smallest statement of a cell that covers a line."""
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno
    ]
    shortest = min(around, key=lambda n: n.end_lineno - n.lineno, default=None)
    return ast.get_source_segment(source, shortest) if shortest else ""


def run(source, number, names):
    """Run a cell in the names that the cells before it have left."""
    try:
        exec(compile(source, f"<cell {number}>", "exec"), names)
    finally:
        if "matplotlib.pyplot" in sys.modules:  # as in a notebook, where a cell shows its figures
            sys.modules["matplotlib.pyplot"].close("all")


def outcome(cells, first, last, where, names):
    """Run cells from `first` to `last`; return whether the assertion `where` fell, and how."""
    for number in range(first, last + 1):
        try:
            run(cells[number], number, names)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f.lineno for f in frames if f.filename == f"<cell {number}>"]
            raised = [statement(cells[number], line) for line in lines]
            fell = isinstance(error, AssertionError) and number == last
            fell = fell and any(where in text for text in raised)
            said = " ".join(f"{type(error).__name__} in: {raised[-1] if raised else ''}".split())
            return fell, said[:200]
    return False, "ran through"


def in_a_fork(function):
    """Return what a function returns, run in a copy of this process that is then gone."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(SECONDS)
            with os.fdopen(writing, "w") as pipe:
                json.dump(function(), pipe)
        finally:  # whatever was raised: the copy must never go on as if it were this process
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else (False, "the process died or took too long")


def row_of(chapter, change):
    """Return what identifies a change in the file of results."""
    return {
        "chapter": chapter,
        "claim": change.get("claim", ""),
        "says": change["says"],
        "change": list(change["change"]),
        "assertion": change["where"],
        "refutes": change["refutes"],
    }


def refute(path, listed):
    """Return a row for each change of a chapter: what was claimed, changed, and came of it."""
    cells, headings = code_of(path)
    changes = [placed(cells, change) for change in changes_of(listed)]
    names, rows = {"__name__": "__main__"}, {}
    os.chdir(path.parent)
    for number in range(max(change["last"] for change in changes) + 1):
        for place, change in enumerate(changes):
            if change["cell"] != number:
                continue
            changed = list(cells)
            changed[number] = changed[number].replace(*change["change"])
            begun = time.perf_counter()
            fell, came = in_a_fork(
                lambda: outcome(changed, number, change["last"], change["where"], names)  # noqa: B023
            )
            as_expected = fell if change["refutes"] else came == "ran through"
            rows[place] = row_of(path.stem, change) | {
                "section": headings[change["last"]],
                "as_expected": as_expected,
                "came": came,
                "seconds": round(time.perf_counter() - begun, 1),
            }
            sign = "as expected" if as_expected else "NOT AS EXPECTED"
            print(f"{path.stem[:2]} {sign}: {change['says']} -> {came}", flush=True)
        if all(place in rows for place in range(len(changes))):
            break
        run(cells[number], number, names)
    return [rows[place] for place in range(len(changes))]


def refute_chapter(number):
    """Return the number of a chapter, its rows, and what went wrong, if it could not be refuted."""
    path = next(BOOK.glob(f"{number}-*.md"))
    try:
        return number, refute(path, runpy.run_path(str(LISTS / f"{number}.py"))), ""
    except Exception:
        return number, [], traceback.format_exc(limit=-2)


def write(number, rows):
    """Put the rows of a chapter into the file of results, in place of those it had."""
    known = {path.stem for path in LISTS.glob("[0-9][0-9].py")} - {number}
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    kept = [row for row in before if row["chapter"][:2] in known]
    rows = sorted(kept + rows, key=lambda row: row["chapter"])
    write_text(RESULT, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def main():
    """Refute chapters, write what came of it, and tell by the exit status whether all fell."""
    known = sorted(path.stem for path in LISTS.glob("[0-9][0-9].py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", metavar="NN", help="two digits; all unless told")
    chapters = parser.parse_args().chapters or known
    if unknown := set(chapters) - set(known):
        parser.error(f"expected some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    # One thread each: two chapters share two cores, and a fork of several threads may hang.
    # So it may with the thread of a progress bar.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["TQDM_DISABLE"] = "1"
    os.environ["MPLBACKEND"] = "Agg"
    begun, total, bad = time.perf_counter(), 0, 0
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        for number, rows, failure in pool.imap_unordered(refute_chapter, chapters):
            if failure:
                print(f"{number} FAILED before it was refuted:\n{failure}", flush=True)
                bad += 1
                continue
            write(number, rows)
            total += len(rows)
            bad += sum(not row["as_expected"] for row in rows)
    seconds = time.perf_counter() - begun
    print(f"{total} changes of {len(chapters)} chapters in {seconds:.0f} s; {bad} not as expected.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
