"""What takes the steps of a training: Adam, or Muon for matrices and Adam for the rest."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer

NAMES = {"adam": (Adam,), "muon": (Muon, Adam)}


class Optimizers:
    """One or two of PyTorch's optimizers, which share a model's parameters and a learning rate.

    ``"muon"`` is Muon (Jordan et al. 2024) for the weights of dense layers, which are matrices,
    and Adam for all else. Where steps of Adam are `recorded`, the rate lies in memory.
    """

    def __init__(
        self, name: str, model: nn.Module, lr: float, device: torch.device, recorded: bool
    ) -> None:
        groups: dict[Any, list[nn.Parameter]] = {kind: [] for kind in NAMES[name]}
        for parameter in model.parameters():
            groups[Muon if Muon in groups and parameter.ndim == 2 else Adam].append(parameter)
        precise = torch.float64 if device.type == "cpu" else torch.float32  # as Adam reads it
        rate: Any = torch.tensor(lr, dtype=precise, device=device) if recorded else lr
        options: dict[Any, dict[str, Any]] = {
            Adam: dict(fused=device.type != "mps", capturable=recorded),
            Muon: dict(weight_decay=0),
        }
        self.parts: dict[str, Optimizer] = {
            kind.__name__.lower(): kind(given, lr=rate, **options[kind])
            for kind, given in groups.items() if given
        }  # fmt: skip

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad()

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for part in self.parts.values():
            part.step()

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        for part in self.parts.values():
            group = part.param_groups[0]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)  # where a recorded step will read it
            else:
                group["lr"] = lr

    def state(self) -> dict[str, Tensor]:
        """Return what the optimizers have gathered, as tensors such as ``adam.0.exp_avg``."""
        return {
            f"{name}.{i}.{key}": value
            for name, part in self.parts.items()
            for i, slot in part.state_dict()["state"].items()
            for key, value in slot.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a `state`; a ValueError if it is that of other optimizers."""
        states: dict[str, dict[int, dict[str, Tensor]]] = {}
        for place, value in tensors.items():
            name, *rest = place.split(".")
            if name in NAMES:
                states.setdefault(name, {}).setdefault(int(rest[0]), {})[rest[1]] = value
        if {*states} != {*self.parts}:
            wanted, found = (" and ".join(names) for names in (self.parts, states))
            raise ValueError(f"checkpoint: expected the state of {wanted}, got that of {found}")
        for name, part in self.parts.items():
            part.load_state_dict(part.state_dict() | {"state": states[name]})
