"""What takes the steps of a training: Adam, Muon and Adam, or an optimizer of the user's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer

from vaebook.checks import at_least_0, choose, wrong

# What each gathers for a parameter, beside a number of steps always of the parameter's shape.
GATHERED = {Adam: {"step", "exp_avg", "exp_avg_sq"}, Muon: {"momentum_buffer"}}
NAMES = {"adam": (Adam,), "muon": (Muon, Adam)}
LARGEST = 1e6  # learning rate with which a training can go on
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
        at_least_0(**{f"rates[{i}]": rate for i, rate in enumerate(rates)})
        if max(rates) > LARGEST:
            raise wrong("rates", f"learning rates of at most {LARGEST:g}", max(rates))
        states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in names}
        for place, value in tensors.items():
            kind, *rest = place.split(".")
            if kind == "optimizer":
                name, i, key = rest
                states[name].setdefault(int(i), {})[key] = value
        for name, part in self.parts.items():
            _check_state(name, part, states[name])
            part.load_state_dict(part.state_dict() | {"state": states[name]})
        for group, rate in zip(self.groups, rates, strict=True):
            _set(group, rate)


def _check_state(name: str, part: Optimizer, slots: dict[int, dict[str, Tensor]]) -> None:
    """Raise a ValueError for a state that the optimizer could not go on from."""
    own = [parameter for group in part.param_groups for parameter in group["params"]]
    for i, slot in slots.items():
        place = f"optimizer.{name}.{i}"
        if not 0 <= i < len(own):
            raise wrong("checkpoint", f"{place} to be one of {len(own)}", "another")
        keys = GATHERED.get(type(part))
        if keys and not part.defaults.get("amsgrad") and slot.keys() != keys:
            raise wrong("checkpoint", f"{', '.join(sorted(keys))} in {place}", ", ".join(slot))
        for key, value in slot.items():
            shape = torch.Size() if key == "step" else own[i].shape
            fits = value.is_floating_point() and bool(value.isfinite().all())
            if keys and not (fits and value.shape == shape):
                got = f"{value.dtype} of shape {[*value.shape]}, or not finite"
                raise wrong("checkpoint", f"floats of shape {[*shape]} in {place}.{key}", got)


def _set(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)  # where a recorded step will read it
    else:
        group["lr"] = rate
