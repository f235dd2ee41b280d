"""Three ways to end with the best epoch: a callback that says stop, patience, the best file."""

from typing import Any

import torch

import vaebook as vb

DATA = vb.load("digits")
TRAIN, VALIDATION = DATA.train[:300], DATA.test


def good_enough(model: vb.VAE, rows: list[dict[str, Any]]) -> bool:
    """End the training after the first epoch with a validation loss below 400 nats."""
    return bool(rows[-1]["loss"] < 400)


def new_model() -> vb.VAE:
    torch.manual_seed(0)
    return vb.dense_vae(DATA.image_shape, latent_dim=2, hidden=(64,))


def main() -> None:
    history = vb.fit(
        new_model(), TRAIN, epochs=50, validation=VALIDATION, progress=False,
        callbacks=[good_enough],
    )  # fmt: skip
    losses = [row["loss"] for row in history.rows if row["split"] == "validation"]
    print("good enough:", *(f"{loss:.3f}" for loss in losses))

    model = new_model()
    history = vb.fit(
        model, TRAIN, epochs=200, lr=1e-2, validation=VALIDATION, progress=False,
        callbacks=[vb.EarlyStopping(patience=2)], checkpoint="best.safetensors", keep="best",
    )  # fmt: skip
    losses = [row["loss"] for row in history.rows if row["split"] == "validation"]
    print("patience:", *(f"{loss:.3f}" for loss in losses))
    print(f"restored: {vb.evaluate(model, VALIDATION)['loss']:.3f}")
    kept = vb.load_model("best.safetensors", model.device)
    print(f"kept: {vb.evaluate(kept, VALIDATION)['loss']:.3f}")


if __name__ == "__main__":
    main()
