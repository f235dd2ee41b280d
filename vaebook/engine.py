"""What small steps gain from: one of them recorded and then repeated, with no autograd in between.

A GPU records a CUDA graph. On a CPU a tape holds the operations, below autograd and autocast.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vaebook.conditional import ConditionalVAE
from vaebook.data.images import Images
from vaebook.objectives import ImportanceWeighted, NegativeELBO
from vaebook.vae import VAE

WARM_UP = 3  # steps in which libraries choose their algorithms and Adam makes its state
SMALL = 2**17  # pixels in a batch; beyond it a tape gains little or nothing, and takes memory
SETTLED = {"dtype", "layout", "device", "pin_memory"}  # by the memory in which a result is left

Step = Callable[[Any, Any, Tensor, int], Tensor]


def can_record(
    model: VAE, images: Any, batch_size: int, objective: Any, optimizer: str,
    device: torch.device, dtype: torch.dtype,
) -> bool:  # fmt: skip
    """Tell whether nothing in a step changes but the images, and repeating it is faster."""
    if dtype == torch.float32 or optimizer != "adam" or not isinstance(images, Images):
        return False
    if device.type == "cuda":
        one = not isinstance(model, ConditionalVAE)  # not a model for each batch's labels
        return one and isinstance(objective, NegativeELBO | ImportanceWeighted)
    small = batch_size * math.prod(model.image_shape) <= SMALL and type(objective) is NegativeELBO
    built = type(model) is VAE and model.config is not None
    return device.type == "cpu" and small and built and all(map(_is_silent, model.modules()))


def _is_silent(module: nn.Module) -> bool:
    """Tell whether a module does nothing that a tape cannot hear."""
    known = type(module).__module__.startswith(("torch.", "vaebook."))
    hooks: list[Any] = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks]
    hooks += [parameter._backward_hooks for parameter in module.parameters(recurse=False)]
    return known and not any(hooks)


class Recorded:
    """A training step that is recorded, as a CUDA graph or on a tape, and then repeated.

    A step takes an objective, a model, its input and the images in the batch; it returns sums.
    The first few of a kind are run as they are. Those of another kind, such as the smaller last
    batch of an epoch, stay so until they come in a row.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self.kind: Any = None  # objective and shape of the steps that are recorded
        self.last: Any = None  # ... of those that come in a row, so many by now
        self.in_a_row = 0
        self.x, self.sums = torch.empty(0), torch.empty(0)
        self.replay: Callable[[], None] = lambda: None

    def __call__(self, objective: Any, model: Any, x: Tensor, count: int) -> Tensor:
        """Take a step; return its sums, which the next step may overwrite."""
        kind = objective, x.shape
        if kind == self.kind:
            self.x.copy_(x)
            self.replay()
            return self.sums
        self.in_a_row = self.in_a_row + 1 if kind == self.last else 1
        self.last = kind
        if self.in_a_row <= WARM_UP:
            return self.step(objective, model, x, count)
        self.x = x.clone()
        self.replay, self.sums = record(lambda: self.step(objective, model, self.x, count), x)
        self.kind = kind
        return self.sums


def record(work: Callable[[], Tensor], x: Tensor) -> tuple[Callable[[], None], Tensor]:
    """Do some work where `x` is; return how to do it again, and where that leaves results."""
    if x.device.type == "cpu":
        with Tape() as tape:
            result = work()
        return tape.replay, result
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # which computes nothing yet
        result = work()
    graph.replay()
    return graph.replay, result


class Tape(TorchDispatchMode):
    """The operations of a piece of work, each of which can be repeated into the same memory.

    They are what is left of a step below autograd and autocast: products, sums, copies, and the
    optimizer's. Views need no repeating, since the memory that they look at stays.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        known = {_place(tensor) for tensor in _tensors([*args, *kwargs.values()])}
        results = _tensors(result)
        made = [tensor for tensor in results if _place(tensor) not in known]
        changes = func._schema.is_mutable
        if made and len(made) == len(results) and not changes:
            # Aliases, since autograd copies a gradient that somebody else holds.
            self.calls.append(_into([tensor.detach() for tensor in made], func, args, kwargs))
        elif changes and not made:
            self.calls.append(partial(func, *args, **kwargs))
        elif made or (not results and func.namespace != "profiler"):
            raise TypeError(f"step: expected operations that a tape can repeat, got {func}")
        return result

    def replay(self) -> None:
        """Do all of it again."""
        with torch.no_grad():
            for call in self.calls:
                call()


def _into(kept: list[Tensor], func: Any, args: Any, kwargs: Any) -> Callable[[], Any]:
    """Return a call of an operator that leaves its results in the memory of `kept`."""
    if func is torch.ops.aten._to_copy.default:  # whose own form for that copies twice
        return partial(kept[0].copy_, args[0])
    wanted = {argument.name: str(argument.type) for argument in func._schema.arguments}
    for name in func.overloadpacket.overloads():
        other = getattr(func.overloadpacket, name)
        outs = [argument.name for argument in other._schema.arguments if argument.is_out]
        taken = {a.name: str(a.type) for a in other._schema.arguments if not a.is_out}
        absent = wanted.keys() - taken.keys()
        same = taken.items() <= wanted.items() and absent in (set(), SETTLED)
        if same and len(outs) == len(kept):
            kwargs = {key: value for key, value in kwargs.items() if key in taken}
            return partial(other, *args, **kwargs, **dict(zip(outs, kept, strict=True)))

    def copied() -> None:
        for old, new in zip(kept, _tensors(func(*args, **kwargs)), strict=True):
            old.copy_(new)

    return copied


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return [values] if isinstance(values, Tensor) else []


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
