"""What the book's long runs have measured: files that come with the package."""

import json
from pathlib import Path
from typing import Any

from vaebook.checks import choose

__all__ = ["results"]
RESULTS = Path(__file__).with_name("results")


def results(name: str) -> Any:
    """Return what a long run of the book has measured, by the `name` of its file or folder.

    A ``.csv`` file is returned as a pandas DataFrame, a ``.json`` file as a dict or list, and a
    folder, such as ``"table"``, as a list of what its files hold, in the order of their names. The
    scripts in ``experiments/`` and ``benchmarks/`` of the repository write these files; nothing is
    fetched. Raises a ValueError that lists all names for one that is unknown.

    >>> sorted(results("digits_curves.csv").network.unique())
    ['conv', 'mlp']
    >>> results("table")[0]["dataset"]
    'kmnist'
    """
    return _read(choose("name", name, {path.name: path for path in sorted(RESULTS.iterdir())}))


def _read(path: Path) -> Any:
    if path.is_dir():
        return [_read(file) for file in sorted(path.iterdir())]
    if path.suffix == ".csv":
        from pandas import read_csv

        return read_csv(path)
    return json.loads(path.read_text(encoding="utf-8"))
