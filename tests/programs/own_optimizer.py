"""Optimizers of one's own: AdamW, SGD with momentum, a scheduler of PyTorch's, a warm-up."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.utils import parameters_to_vector
from torch.optim.lr_scheduler import CosineAnnealingLR

import vaebook as vb


class Cosine:
    """SGD with momentum, whose rate falls along a cosine: a step of the scheduler per epoch."""

    def optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        sgd = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
        self.scheduler = CosineAnnealingLR(sgd, T_max=3)
        return sgd

    def after_epoch(self, model: vb.VAE, rows: list[dict[str, Any]]) -> None:
        self.scheduler.step()
        print(f"rate after epoch {rows[0]['epoch']}: {self.scheduler.get_last_lr()[0]:.6f}")


def warm_up(done: float) -> float:
    """Start at 0, and reach the full rate after a tenth of the training."""
    return 2e-3 * min(done / 0.1, 1.0)


def new_model() -> vb.VAE:
    torch.manual_seed(0)
    return vb.dense_vae((1, 28, 28), latent_dim=2, hidden=(64,))


def tell(name: str, model: vb.VAE, history: vb.History) -> None:
    before, after = (parameters_to_vector(m.parameters()) for m in (new_model(), model.cpu()))
    moved = (after - before).norm().item()
    losses = " ".join(f"{loss:.2f}" for loss in history.frame["loss"])
    print(f"{name}: {losses}, weights moved by {moved:.4f}")


def main() -> None:
    images = vb.load("digits").train
    history = vb.fit(
        model := new_model(), images, epochs=3, progress=False,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.1),
    )  # fmt: skip
    tell("AdamW", model, history)

    cosine = Cosine()
    history = vb.fit(
        model := new_model(), images, epochs=3, progress=False,
        optimizer=cosine.optimizer, callbacks=[cosine.after_epoch],
    )  # fmt: skip
    tell("SGD with momentum", model, history)

    # A step of SGD is as long as the gradient times the rate: with `clip`, at most the rate.
    history = vb.fit(
        model := new_model(), images, epochs=3, progress=False, lr=warm_up, clip=1.0,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
    )  # fmt: skip
    tell("SGD, warmed up and clipped", model, history)


if __name__ == "__main__":
    main()
