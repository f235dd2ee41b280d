"""A learning rate that is halved when the validation loss stalls, with clipped gradients."""

import math

import torch

import vaebook as vb


class HalveOnPlateau(vb.Listener):
    """The learning rate, as `fit` asks for it, and what listens to the epochs to change it."""

    def __init__(self, rate: float, patience: int = 1) -> None:
        self.rate, self.patience = rate, patience
        self.best, self.waited = math.inf, 0

    def __call__(self, done: float) -> float:
        return self.rate

    def on_epoch(self, run: vb.Run) -> None:
        loss = run.history.last("validation")["loss"]
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(loss, self.best)
        print(f"epoch {run.epoch}: validation loss {loss:.3f} at rate {self.rate}")
        if self.waited >= self.patience:
            self.rate, self.waited = self.rate / 2, 0


def main() -> None:
    data = vb.load("digits")
    plateau = HalveOnPlateau(rate=0.1)
    torch.manual_seed(0)
    model = vb.dense_vae(data.image_shape, latent_dim=2, hidden=(64,))
    vb.fit(
        model, data.train, epochs=20, validation=data.test, progress=False,
        lr=plateau, callbacks=[plateau], clip=100.0,
    )  # fmt: skip
    print(f"rate at the end: {plateau.rate}")


if __name__ == "__main__":
    main()
