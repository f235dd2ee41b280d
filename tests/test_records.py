"""The results of long runs: what comes with the package is what its files hold."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

import vaebook as vb
from experiments import records as written
from vaebook import records
from vaebook.records import RESULTS

BOOK = Path(__file__).parents[1] / "book"
NAMES = sorted(path.name for path in RESULTS.iterdir())


def test_the_experiments_write_where_the_package_reads():
    assert written.RESULTS.resolve() == RESULTS.resolve()


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".csv")])
def test_a_table_has_the_columns_and_rows_of_its_file(name):
    with (RESULTS / name).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    frame = vb.results(name)
    assert list(frame.columns) == header
    assert len(frame) == len(rows)
    for column, *cells in zip(header, *rows, strict=True):
        if pd.api.types.is_numeric_dtype(frame[column]):
            expected = pd.Series([float(cell) if cell else float("nan") for cell in cells])
            pd.testing.assert_series_equal(
                frame[column], expected, check_dtype=False, check_names=False, rtol=0, atol=0
            )
        else:
            assert frame[column].fillna("").tolist() == cells


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".json")])
def test_a_json_file_is_returned_as_it_is(name):
    assert vb.results(name) == json.loads((RESULTS / name).read_text(encoding="utf-8"))


def test_a_folder_is_a_list_in_the_order_of_its_names(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    for name in ("b-2", "a-10", "b-10"):
        (tmp_path / "runs" / f"{name}.json").write_text(json.dumps({"name": name}))
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert vb.results("runs") == [{"name": "a-10"}, {"name": "b-10"}, {"name": "b-2"}]


@pytest.mark.parametrize("name", ["collapse", "table/", "../zoo.py", "table/mnist-vae-0.json", 3])
@pytest.mark.usefixtures("unchecked")
def test_an_unknown_name_is_answered_by_all_that_there_are(name):
    expected = f"name: expected one of {', '.join(NAMES)}, got {name!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        vb.results(name)


def test_the_chapters_ask_for_results_that_there_are():
    chapters = "\n".join(path.read_text("utf-8") for path in BOOK.glob("[0-9]*.md"))
    asked = set(re.findall(r'vb\.results\("([^"]+)"\)', chapters))
    assert {"table", "refutations.json"} <= asked <= set(NAMES)


def test_the_results_are_small():
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) < 500_000
