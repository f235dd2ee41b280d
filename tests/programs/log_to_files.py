"""Callbacks that write as the training goes on: a table, scalars for a dashboard, a picture."""

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import vaebook as vb

Rows = list[dict[str, Any]]


class Table:
    """Append each epoch's rows to a CSV file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def __call__(self, model: vb.VAE, rows: Rows) -> None:
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if is_new:
                writer.writeheader()
            writer.writerows(rows)


def scalars(model: vb.VAE, rows: Rows) -> None:
    """Append a line of JSON for each number; `SummaryWriter.add_scalar` takes the same three."""
    with Path("scalars.jsonl").open("a") as file:
        for row in rows:
            for name in ("loss", "reconstruction", "kl"):
                scalar = {"tag": f"{row['split']}/{name}", "value": row[name], "step": row["epoch"]}
                print(json.dumps(scalar), file=file)


class LatentPlane:
    """Save a scatter plot of held-out images' codes after each epoch."""

    def __init__(self, images: vb.Images, classes: tuple[str, ...]) -> None:
        self.images, self.classes = images, classes

    def __call__(self, model: vb.VAE, rows: Rows) -> None:
        figure, ax = plt.subplots()
        z = vb.embed(model, self.images)
        vb.plot.latent_scatter(z, self.images.labels, self.classes, ax=ax)
        figure.savefig(f"latent-{rows[0]['epoch']:02}.png")
        plt.close(figure)


def main() -> None:
    data = vb.load("digits")
    assert data.test is not None
    model = vb.dense_vae(data.image_shape, latent_dim=2, hidden=(64,))
    history = vb.fit(
        model, data.train, epochs=3, validation=data.test, progress=False,
        callbacks=[Table("log.csv"), scalars, LatentPlane(data.test, data.classes)],
    )  # fmt: skip
    print("history:", history.frame.to_json(orient="records"))


if __name__ == "__main__":
    main()
