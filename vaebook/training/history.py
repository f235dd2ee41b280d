"""What a training leaves behind, and how an epoch's losses are added up."""

import time
from array import array
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebook.checks import is_number, wrong
from vaebook.objectives import Terms
from vaebook.training.teams import ALONE, Team

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["epoch", "split", *Terms._fields, "beta", "seconds", "images_per_second"]
SPLITS = ["train", "validation"]
Row = dict[str, Any]
LARGEST = 1e15  # more was never measured in a training that still goes on


@dataclass
class History:
    """What `fit` measured.

    `rows` has a dict per epoch and split. Losses are in nats per image: for ``train`` averaged
    over the batches as the model learned from them, for ``validation`` after the epoch.
    `snapshots` are pairs of a step and what the model then made of 64 fixed draws from the
    prior, ``[64, channels, height, width]`` in [0, 1]; `posteriors`, taken at the same steps, are
    triples of a step and q(z|x)'s means and standard deviations, ``[128, latent]``, for the first
    128 validation images. `provenance` tells device, precision, threads, processes, seed and
    versions, `interrupted` whether Ctrl-C ended the run.
    """

    rows: list[Row] = field(default_factory=list)
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    posteriors: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=COLUMNS)

    def last(self, split: str = "validation") -> Row:
        """Return the newest row of a split; a ValueError where there is none."""
        rows = [row for row in self.rows if row["split"] == split]
        if not rows:
            raise wrong("split", "one that was measured", repr(split))
        return rows[-1]

    def __repr__(self) -> str:
        state = "interrupted" if self.interrupted else "complete"
        return "\n".join([f"History, {state}", *(line(row) for row in self.rows)])


class Table:
    """The rows of a history as a matrix of numbers for a file, to which each epoch adds its own."""

    def __init__(self) -> None:
        self.numbers = array("d")

    def of(self, rows: list[Row]) -> Tensor:
        """Return ``[rows, columns]`` in float64, where a split is its place in `SPLITS`."""
        for row in rows[len(self.numbers) // len(COLUMNS) :]:
            epoch, split, *others = (row[name] for name in COLUMNS)
            self.numbers.extend(map(float, (epoch, SPLITS.index(split), *others)))
        return torch.frombuffer(self.numbers, dtype=torch.float64).view(-1, len(COLUMNS)).clone()


def rows_in(header: dict[str, Any], tensors: dict[str, Tensor]) -> list[Row]:
    """Return the rows that a file holds: a `Table`, or a list in its header if it is an older one.

    Raises a ValueError unless these are the rows of a history from its first epoch on.
    """
    if (table := tensors.get("history")) is None:
        check_rows(header.get("rows"))
        return header["rows"]
    if table.dtype != torch.float64 or table.shape[1:] != (len(COLUMNS),) or not len(table):
        got = f"{table.dtype} of shape {[*table.shape]}"
        raise wrong("history", f"rows of {len(COLUMNS)} numbers in float64", got)
    if header.get("columns") != COLUMNS:
        raise wrong("columns", ", ".join(COLUMNS), f"{header.get('columns')!r:.80}")
    epochs, splits, losses = table.T[:3]
    known = (splits == 0) | (splits == 1)
    fits = known & (epochs == (splits == 0).cumsum(0)) & (epochs > 0) & losses.isfinite()
    fits &= (table.abs() <= LARGEST).logical_or(table.isnan()).all(1)
    if not fits.all():
        at = int(fits.int().argmin())
        got = f"{table[at].tolist()} in row {at + 1}"
        raise wrong("history", "each epoch once, from the first on, with finite losses", got)
    return [
        dict(zip(COLUMNS, (int(epoch), SPLITS[int(split)], *others), strict=True))
        for epoch, split, *others in table.tolist()
    ]


def check_rows(rows: Any) -> None:
    """Raise a ValueError unless these are the rows of a history from its first epoch on."""
    epoch = 0
    for row in rows if isinstance(rows, list) else []:
        fits = isinstance(row, dict) and row.keys() >= set(COLUMNS)
        fits = fits and all(isinstance(row[name], Real) for name in COLUMNS if name != "split")
        fits = fits and is_number(row["loss"]) and row["split"] in SPLITS
        fits = fits and not any(abs(row[name]) > LARGEST for name in COLUMNS if name != "split")
        if not fits or row["epoch"] != epoch + (row["split"] == "train"):
            raise wrong("rows", f"numbers for {', '.join(COLUMNS)}", f"{row!r:.80}")
        epoch = row["epoch"]
    if not epoch:
        raise wrong("rows", "those of an epoch or more", "none")


def line(row: Row) -> str:
    """Return a row of a history in words."""
    return (
        f"epoch {row['epoch']:3} {row['split']:<10} {row['loss']:8.2f} nats per image"
        f" = {row['reconstruction']:7.2f} + KL {row['kl']:6.2f}"
        f"  at {row['images_per_second']:6,.0f} images/s"
    )


@torch.no_grad()
def sums(terms: Terms) -> Tensor:
    """Return the sum of each of the terms over the batch."""
    # float32 loses digits over 60,000 images; MPS has nothing else.
    dtype = torch.float32 if terms.loss.device.type == "mps" else torch.float64
    return torch.stack(tuple(terms)).sum(1, dtype=dtype)


class Score:
    """Sums of the terms, kept on their device so that no batch makes the CPU wait."""

    def __init__(self) -> None:
        self.beta, self.images, self.started = 1.0, 0, time.perf_counter()
        self.sums: Any = 0

    def add(self, sums: Tensor, count: int, objective: Any) -> None:
        """Add the sums over `count` images."""
        self.beta = float(getattr(objective, "beta", 1.0))
        self.sums = self.sums + sums
        self.images += count

    def row(self, epoch: int, split: str, team: Team = ALONE) -> Row:
        """Return the means over all images of a team as a row of a history."""
        if not self.images:
            raise wrong("images", "at least one batch", "none")
        *totals, images = team.total(F.pad(self.sums, (0, 1), value=self.images)).tolist()
        means = [total / images for total in totals]
        seconds = time.perf_counter() - self.started  # after .tolist(), which waits for the device
        measured = [*means, self.beta, seconds, images / seconds]
        return dict(zip(COLUMNS, [epoch, split, *measured], strict=True))
