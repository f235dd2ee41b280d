"""What a GPU gains from: a training step recorded once and replayed, with no Python in between."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # steps in which libraries choose their algorithms and Adam makes its state

Step = Callable[[Any, Any, Tensor, int], Tensor]


class Recorded:
    """A training step that is recorded as a CUDA graph and then replayed.

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
        if kind != self.kind:
            self.in_a_row = self.in_a_row + 1 if kind == self.last else 1
            self.last = kind
            if self.in_a_row <= WARM_UP:
                return self.step(objective, model, x, count)
            self.x = x.clone()
            self.replay, self.sums = record(lambda: self.step(objective, model, self.x, count))
            self.kind = kind
        self.x.copy_(x)
        self.replay()
        return self.sums


def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record what `work` does on the GPU; return how to do it again, and where it leaves results.

    The recording itself computes nothing.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result
