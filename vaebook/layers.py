"""A model's layers as a table: what leaves each of them, and how many parameters it has."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaebook.networks import eval_mode


@dataclass(frozen=True)
class Layer:
    """One layer: its part of the model, its kind, the shape of its output, its parameters."""

    part: str
    kind: str
    output: tuple[int, ...]  # without the batch
    parameters: int


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a model in the order in which an image meets them; prints as a table."""

    layers: list[Layer]
    parameters: int

    def __repr__(self) -> str:
        rows = [("part", "layer", "output", "parameters")]
        for layer in self.layers:
            output = "×".join(map(str, layer.output))
            rows.append((layer.part, layer.kind, output, f"{layer.parameters:,}"))
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
    if hasattr(model, "given"):  # a conditional model has the same layers whatever the label
        model = model.given(0)
    device = next(model.parameters()).device
    image = torch.zeros(1, *model.image_shape, device=device)
    code = torch.zeros(1, model.latent_dim, device=device)
    with eval_mode(model):
        layers = [
            *_layers("encoder", model.encoder, image),
            *_layers("decoder", model.decoder, code),
        ]
    if own := count(model.likelihood):
        layers.append(Layer("likelihood", type(model.likelihood).__name__, (), own))
    return Summary(layers, count(model))


def count(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(part: str, network: nn.Module, given: Tensor) -> list[Layer]:
    """Run a network and note each innermost module as it is used."""
    found: list[Layer] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        mro = [k for k in type(module).__mro__ if k.__module__.startswith("torch.nn.modules")]
        name = (mro[0] if mro[0] is not nn.Module else type(module)).__name__
        found.append(Layer(part, name, tuple(output.shape[1:]), count(module)))

    hooks = [m.register_forward_hook(note) for m in network.modules() if not any(m.children())]
    try:
        network(given)
    finally:
        for hook in hooks:
            hook.remove()
    return found
