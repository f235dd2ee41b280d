"""On a GPU small steps gain from being recorded: one CUDA graph, replayed, with no Python between.

No GPU has run this yet; the tests have a stand-in for the graph.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaebook.data.images import Images
from vaebook.models.conditional import ConditionalVAE
from vaebook.objectives import ImportanceWeighted, NegativeELBO

WARM_UP = 3  # steps in which libraries choose their algorithms and Adam makes its state
Step = Callable[[Any, Any, Tensor, int], Tensor]


def can_record(
    model: Any, images: Any, objective: Any, optimizer: Any, device: torch.device,
    dtype: torch.dtype,
) -> bool:  # fmt: skip
    """Tell whether nothing in a step changes but its images and the weight of the KL."""
    mixed = device.type == "cuda" and dtype != torch.float32 and isinstance(images, Images)
    known = type(objective) in (NegativeELBO, ImportanceWeighted) and optimizer == "adam"
    built = model.config is not None and not isinstance(model, ConditionalVAE)
    return mixed and known and built and all(map(_is_silent, model.modules()))


def _is_silent(module: nn.Module) -> bool:
    """Tell whether a module does nothing that a graph would leave out."""
    parameters = [*module.parameters(recurse=False)]
    heard = [vars(module), vars(nn.modules.module)]
    hooks = [value for names in heard for name, value in names.items() if name.endswith("hooks")]
    hooks += [p._backward_hooks for p in parameters]
    hooks += [p._post_accumulate_grad_hooks for p in parameters]
    return type(module).__module__.startswith(("torch.", "vaebook.")) and not any(hooks)


class Recorded:
    """A training step that is recorded as a CUDA graph and then replayed.

    A step takes an objective, a model, its input and the images in the batch; it returns sums.
    The first few of a kind are run as they are. Those of another kind, such as the smaller last
    batch of an epoch, stay so until they come in a row. The KL's weight may change at every step:
    the graph reads it from memory.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self.kind: Any = None  # objective and shape of the steps that are recorded
        self.last: Any = None  # ... of the steps that come in a row, so many by now
        self.in_a_row = 0
        self.x: Any = None  # where a replay reads, and where it leaves its result
        self.sums: Any = None
        self.graph: Any = None

    def __call__(self, objective: Any, model: Any, x: Tensor, count: int) -> Tensor:
        """Take a step; return its sums, which the next step may overwrite."""
        if self.graph is None:
            self.graph, self.beta = Graph(x.device), torch.empty((), device=x.device)
        unweighted = with_beta = objective
        if isinstance(objective, NegativeELBO):
            self.beta.fill_(objective.beta)
            unweighted, with_beta = dataclasses.replace(objective, beta=0), copy.copy(objective)
            object.__setattr__(with_beta, "beta", self.beta)
        kind = unweighted, x.shape
        self.in_a_row = self.in_a_row + 1 if kind == self.last else 1
        self.last = kind
        if kind == self.kind:
            self.x.copy_(x)
            self.graph.replay()
            return self.sums
        if self.in_a_row <= WARM_UP:
            return self.graph.aside(lambda: self.step(with_beta, model, x, count))
        self.x, self.kind = x.clone(), kind
        self.sums = self.graph.record(lambda: self.step(with_beta, model, self.x, count))
        return self.sums


class Graph:
    """A piece of work as a CUDA graph, on the device where its tensors are."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def aside(self, work: Callable[[], Tensor]) -> Tensor:
        """Do some work on the stream that is recorded later, as PyTorch asks of a warm-up."""
        with torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = work()
            torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """Record the work, do it, and return where it leaves its results."""
        with torch.cuda.device(self.device):
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):  # which computes nothing yet
                result = work()
        self.replay()
        return result

    def replay(self) -> None:
        """Do the work again."""
        with torch.cuda.device(self.device):
            self.graph.replay()
