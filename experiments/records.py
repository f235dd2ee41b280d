"""The files of the experiments: rows of a CSV file and texts, never left half written."""

import csv
import io
import os
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "vaebook" / "results"


def write_text(path, text):
    """Write a file beside its place and then put it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8", newline="")
    os.replace(part, path)


def write_rows(path, rows, columns=None):
    """Write dicts as a CSV file with these columns, those of the first row unless told."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns or rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, file.getvalue())


def read_rows(path):
    """Return the rows of a CSV file, or none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_missing(path, cells, measure):
    """Measure those cells that have no row yet, rewriting the file after each; return how many.

    A cell is a dict of what identifies a run; its row adds what `measure` returns.
    """
    rows = read_rows(path)
    done = {tuple(row[key] for key in cells[0]) for row in rows}
    missing = [cell for cell in cells if tuple(map(str, cell.values())) not in done]
    for number, cell in enumerate(missing, 1):
        row = cell | measure(**cell)
        rows.append(row)
        write_rows(path, rows)
        print(f"{path.name} {number}/{len(missing)}:", *(f"{k}={v}" for k, v in row.items()))
    return len(missing)
