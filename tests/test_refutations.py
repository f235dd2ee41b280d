"""The changes that must bring down the book's claims: do they fit, and did each claim fall?"""

import json
import runpy
from pathlib import Path

import pytest

from experiments import refute

LISTS = Path(__file__).parent / "refutations"
NUMBERS = sorted(path.stem for path in LISTS.glob("[0-9][0-9].py"))
AGAIN = "run `make refute`"

each_chapter = pytest.mark.parametrize("number", NUMBERS)


def listed(number):
    """Return the chapter of a number, and the changes that are listed for it."""
    (path,) = refute.BOOK.glob(f"{number}-*.md")
    changes = refute.changes_of(runpy.run_path(str(LISTS / f"{number}.py")))
    assert all(len(change["change"]) == 2 for change in changes)
    return path, changes


def identity(row):
    """Return what tells one change from another, as a file of results has it."""
    return tuple(
        str(row[k]) for k in ("chapter", "claim", "says", "change", "assertion", "refutes")
    )


def test_most_chapters_have_a_list():
    chapters = {path.stem[:2] for path in refute.BOOK.glob("[0-2][0-9]-*.md")} - {"00"}
    assert set(NUMBERS) <= chapters
    assert len(NUMBERS) > len(chapters) / 2


@each_chapter
def test_every_change_fits_its_chapter(number):
    path, changes = listed(number)
    cells, _ = refute.code_of(path)
    for change in changes:
        refute.placed(cells, change)  # a ValueError says what does not fit


@each_chapter
def test_every_chapter_has_claims_to_refute_and_changes_that_must_not(number):
    _, changes = listed(number)
    refutations = [change for change in changes if change["refutes"]]
    assert len(refutations) >= 3
    assert len(changes) > len(refutations)
    assert all(change["claim"].endswith(".") for change in refutations)
    assert all(change["says"].endswith(".") for change in changes)


@each_chapter
def test_every_change_was_tried_and_came_out_as_expected(number):
    assert refute.RESULT.exists(), AGAIN
    rows = json.loads(refute.RESULT.read_text(encoding="utf-8"))
    tried = {identity(row): row for row in rows}
    path, changes = listed(number)
    for change in changes:
        row = tried.get(identity(refute.row_of(path.stem, change)))
        assert row is not None, f"{AGAIN} {number}: not tried yet: {change['says']}"
        assert row["as_expected"], f"{change['says']} -> {row['came']}"


def test_the_page_of_claims_shows_every_chapter_that_has_changes():
    page = (refute.BOOK / "85-what-this-book-claims.md").read_text(encoding="utf-8")
    for path in LISTS.glob("[0-9][0-9].py"):
        chapter, _ = listed(path.stem)
        assert f"({chapter.name})" in page
        assert f'claims("{path.stem}")' in page


def test_no_result_is_left_of_a_change_that_is_gone():
    rows = json.loads(refute.RESULT.read_text(encoding="utf-8"))
    known = set()
    for path in LISTS.glob("[0-9][0-9].py"):
        chapter, changes = listed(path.stem)
        known |= {identity(refute.row_of(chapter.stem, change)) for change in changes}
    assert {identity(row) for row in rows} <= known, AGAIN


# --- the runner itself, on a chapter of three cells -----------------------------------------

TOY = """---
file_format: mystnb
---

# A toy

## Numbers

```{code-cell} python
numbers = [1.0, 2.0, 3.0]
```

## A mean

```{code-cell} python
total = sum(numbers)
mean = total / len(numbers)
print(mean)
```

## What is claimed

```{code-cell} python
assert len(numbers) == 3  # says nothing of the mean
```

```{code-cell} python
def holds():
    assert mean == 2


holds()
```
"""


def tried(tmp_path, monkeypatch, change, where, refutes=True):
    """Return the one row that the runner writes for a change of the toy chapter."""
    chapter = tmp_path / "03-a-toy.md"
    chapter.write_text(TOY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    says = {"says": "A change.", "change": change}
    refutations = [says | {"claim": "A claim.", "falls": where}] if refutes else []
    neutral = [] if refutes else [says | {"holds": where}]
    (row,) = refute.refute(chapter, {"REFUTATIONS": refutations, "NEUTRAL": neutral})
    return row


def test_a_true_refutation_falls(tmp_path, monkeypatch):
    row = tried(tmp_path, monkeypatch, ("len(numbers)\nprint", "2\nprint"), "assert mean == 2")
    assert row["as_expected"]
    assert row["came"].startswith("AssertionError in: ")
    assert row["section"] == "What is claimed"


def test_a_vacuous_assertion_survives_and_is_reported(tmp_path, monkeypatch, capfd):
    row = tried(tmp_path, monkeypatch, ("sum(numbers)", "9.0"), "assert len(numbers) == 3")
    assert not row["as_expected"]
    assert row["came"] == "ran through"
    assert "NOT AS EXPECTED" in capfd.readouterr().out


def test_a_neutral_change_holds(tmp_path, monkeypatch):
    change = ("sum(numbers)", "sum(reversed(numbers))")
    assert tried(tmp_path, monkeypatch, change, "assert mean == 2", refutes=False)["as_expected"]


def test_a_neutral_change_that_is_none_is_reported(tmp_path, monkeypatch):
    change = ("sum(numbers)", "max(numbers)")
    row = tried(tmp_path, monkeypatch, change, "assert mean == 2", refutes=False)
    assert not row["as_expected"]


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (("sum(numbers)", "some(numbers)"), "NameError"),  # a crash
        (("total / len(numbers)", "("), "SyntaxError"),
        (("[1.0, 2.0, 3.0]", "[1.0]"), "AssertionError"),  # another assertion falls before
        (("total / len(numbers)", "exit()"), "the process died"),
    ],
)
def test_a_fall_for_another_reason_does_not_count(tmp_path, monkeypatch, change, came):
    row = tried(tmp_path, monkeypatch, change, "assert mean == 2")
    assert not row["as_expected"]
    assert row["came"].startswith(came)


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (("median", "mean"), "assert mean == 2", "hold once"),
        (("numbers", "n"), "assert mean == 2", "hold once"),
        (("mean == 2", "mean == 3"), "assert mean", "outside the assertion"),
        (("holds()\n", ""), "sum(numbers)", "hold once"),
        (("def holds", "def stands"), "assert len(numbers)", "after the change"),
        (("sum(numbers)", "sum(numbers)"), "assert mean == 2", "twice"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(tmp_path, monkeypatch, change, where, says):
    with pytest.raises(ValueError, match=says):
        tried(tmp_path, monkeypatch, change, where)


def test_a_chapters_rows_replace_those_it_had_and_leave_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(refute, "RESULT", tmp_path / "refutations.json")
    monkeypatch.setattr(refute, "LISTS", tmp_path)
    for number in ("03", "04"):
        (tmp_path / f"{number}.py").write_text("REFUTATIONS = []\n")
    rows = {name: {"chapter": name, "says": name} for name in ("03-a", "04-b", "05-gone")}
    refute.RESULT.write_text(json.dumps([rows["05-gone"]]), encoding="utf-8")
    refute.write("04", [rows["04-b"]])
    refute.write("03", [rows["03-a"]])
    refute.write("04", [rows["04-b"] | {"says": "σ once more"}])
    text = refute.RESULT.read_text(encoding="utf-8")
    assert [row["says"] for row in json.loads(text)] == ["03-a", "σ once more"]
    assert "σ" in text
