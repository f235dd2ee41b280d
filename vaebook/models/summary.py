"""A model's layers as a table: what leaves each of them, and how many parameters it has."""

from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaebook.models.networks import eval_mode


class Layer(NamedTuple):
    """One layer: its part of the model, its kind, the shape of its output, its parameters."""

    part: str
    kind: str
    output: tuple[int, ...]  # without the batch
    parameters: int


class Summary(NamedTuple):
    """The layers of a model in the order in which an image meets them; prints as a table."""

    layers: list[Layer]
    parameters: int

    def __repr__(self) -> str:
        rows = [("part", "layer", "output", "parameters")]
        for part, kind, output, parameters in self.layers:
            rows.append((part, kind, "×".join(map(str, output)), f"{parameters:,}"))
        rows.append(("", "", "all", f"{self.parameters:,}"))
        w = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (f"{a:<{w[0]}}  {b:<{w[1]}}  {c:>{w[2]}}  {d:>{w[3]}}" for a, b, c, d in rows)
        return "\n".join(lines)


@torch.no_grad()
def summary(model: Any) -> Summary:
    """Return what each layer of a VAE gives out and how many parameters it has.

    A black image and the code 0 are sent through the networks, so that the shapes are what
    the layers do, not what they were meant to. ``print(model)`` shows the same.

    >>> import vaebook as vb
    >>> summary(vb.dense_vae((1, 28, 28), 20, hidden=(400,), activation="relu"))
    part     layer       output  parameters
    encoder  Flatten        784           0
    encoder  Linear         400     314,000
    encoder  ReLU           400           0
    encoder  Linear          20       8,020
    encoder  Linear          20       8,020
    decoder  Linear         400       8,400
    decoder  ReLU           400           0
    decoder  Linear         784     314,384
    decoder  Unflatten  1×28×28           0
                            all     652,824
    """
    model = model.given(0)  # a conditional model has the same layers whatever the label
    layers: list[Layer] = []

    def note(part: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        layers.append(Layer(part, type(module).__name__, tuple(output.shape[1:]), count(module)))

    for part, shape in {"encoder": model.image_shape, "decoder": (model.latent_dim,)}.items():
        network = getattr(model, part)
        with eval_mode(model), ExitStack() as hooks:
            for module in network.modules():
                if not any(module.children()):
                    hooks.enter_context(module.register_forward_hook(partial(note, part)))
            network(torch.zeros(1, *shape, device=model.device))
    if own := count(model.likelihood):
        layers.append(Layer("likelihood", type(model.likelihood).__name__, (), own))
    return Summary(layers, count(model))


def count(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
