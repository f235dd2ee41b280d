"""What takes the steps of a training: Adam, Muon and Adam, or an optimizer of the user's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer

from vaebook.checks import choose, wrong

NAMES = {"adam": (Adam,), "muon": (Muon, Adam)}
RATE = 1e-3  # of Adam and of Muon where none is given
Maker = Callable[[Iterable[nn.Parameter]], Optimizer]


class Optimizers:
    """One or two of PyTorch's optimizers, which share a model's parameters and a learning rate.

    ``"muon"`` is Muon (Jordan et al. 2024) for the weights of dense layers, which are matrices,
    and Adam for all else. A function of the parameters returns an optimizer of your own, which
    keeps its own rate while `lr` is None. Where steps of Adam are `recorded`, the rate lies in
    memory.
    """

    def __init__(
        self, kind: str | Maker, model: nn.Module, lr: float | None, device: torch.device,
        recorded: bool = False,
    ) -> None:  # fmt: skip
        self.parts: dict[str, Optimizer]
        if callable(kind):
            own = kind(model.parameters())
            if not isinstance(own, Optimizer):
                wanted = "a function from parameters to a torch.optim.Optimizer"
                raise wrong("optimizer", wanted, f"one that returned {own!r:.80}")
            self.parts = {type(own).__name__.lower(): own}
            return
        lr = RATE if lr is None else lr
        kinds = choose("optimizer", kind, NAMES)
        groups: dict[Any, list[nn.Parameter]] = {each: [] for each in kinds}
        for parameter in model.parameters():
            groups[Muon if Muon in groups and parameter.ndim == 2 else Adam].append(parameter)
        precise = torch.float64 if device.type == "cpu" else torch.float32  # as Adam reads it
        rate: Any = torch.tensor(lr, dtype=precise, device=device) if recorded else lr
        options: dict[Any, dict[str, Any]] = {
            Adam: dict(fused=device.type != "mps", capturable=recorded),
            Muon: dict(weight_decay=0),
        }
        self.parts = {
            each.__name__.lower(): each(given, lr=rate, **options[each])
            for each, given in groups.items() if given
        }  # fmt: skip

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad()

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for part in self.parts.values():
            part.step()

    @property
    def groups(self) -> list[dict[str, Any]]:
        """PyTorch's groups of parameters, each with its learning rate."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def set_rate(self, lr: float | None) -> None:
        """Set the learning rate of the next steps; with None it stays."""
        if lr is not None:
            for group in self.groups:
                _set(group, lr)

    def state(self) -> dict[str, Tensor]:
        """Return what the optimizers have gathered, as tensors such as ``adam.0.exp_avg``."""
        return {
            f"optimizer.{name}.{i}.{key}": torch.as_tensor(value)
            for name, part in self.parts.items()
            for i, slot in part.state_dict()["state"].items()
            for key, value in slot.items() if value is not None
        }  # fmt: skip

    def restore(self, tensors: dict[str, Tensor], names: list[str], rates: list[float]) -> None:
        """Go on from a `state`; a ValueError if it is that of other optimizers."""
        if names != [*self.parts] or len(rates) != len(self.groups):
            wanted, found = (" and ".join(each) for each in (self.parts, names))
            raise wrong("checkpoint", f"the state of {wanted}", f"that of {found}")
        states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in names}
        for place, value in tensors.items():
            kind, *rest = place.split(".")
            if kind == "optimizer":
                name, i, key = rest
                states[name].setdefault(int(i), {})[key] = value
        for name, part in self.parts.items():
            part.load_state_dict(part.state_dict() | {"state": states[name]})
        for group, rate in zip(self.groups, rates, strict=True):
            _set(group, rate)


def _set(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)  # where a recorded step will read it
    else:
        group["lr"] = rate
