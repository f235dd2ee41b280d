"""The files of the experiments: rows of a CSV file and texts, never left half written."""

import argparse
import csv
import io
import json
import os
from pathlib import Path

import vaebook as vb

RESULTS = Path(__file__).parents[1] / "vaebook" / "results"
RUNS = RESULTS.parents[1] / "runs"  # checkpoints, which are not committed


def fit(*given, **options):
    """Train as `vaebook.fit` does, but end by Ctrl-C: half a training is nobody's result."""
    history = vb.fit(*given, **options)
    if history.interrupted:
        raise KeyboardInterrupt
    return history


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


def run_parts(name, description, parts, about, argv=None):
    """Run an experiment, or say how far it is; return the exit status.

    A part is a function that measures a cell, and its cells, whose rows go to NAME_PART.csv.
    NAME.json has what `about` returns, and is written only when something was measured: else it
    would tell of a run that was none.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--part", choices=parts, help="run one part only")
    parser.add_argument("--list", action="store_true", help="run nothing, say what is missing")
    arguments = parser.parse_args(argv)
    RUNS.mkdir(exist_ok=True)
    measured = 0
    for part in [arguments.part] if arguments.part else list(parts):
        measure, cells = parts[part]
        path = RESULTS / f"{name}_{part}.csv"
        if arguments.list:
            print(f"{part}: {len(read_rows(path))} of {len(cells)} runs done")
        else:
            measured += run_missing(path, cells, measure)
    if measured:
        write_text(RESULTS / f"{name}.json", json.dumps(about(), indent=1) + "\n")
    return 0
