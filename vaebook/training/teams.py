"""Several processes that train one model: each takes its share of every batch.

``torchrun`` starts them; `vaebook.fit` notices and goes along. What they exchange are gradients,
the statistics of batch norm and the losses of an epoch, so that the model is trained as one
process would train it on the whole batches.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vaebook.models.likelihoods import means_by
from vaebook.training.devices import pick_device

RESTARTS = "TORCHELASTIC_RESTART_COUNT"


@contextmanager
def _with_others() -> Iterator[None]:
    """Raise a ConnectionError in a block when another process of the team is gone."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        text = "processes: expected all of them to go on, but one has ended or is out of reach"
        raise ConnectionError(text) from error


class Team(NamedTuple):
    """The processes that train together: this one's rank, from 0, and how many there are."""

    rank: int = 0
    size: int = 1

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size > 1:
            with _with_others():
                dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is true for any of the processes."""
        return self.total(torch.tensor(int(flag))).item() > 0


ALONE = Team()


def join(device: str | torch.device = "auto") -> Team:
    """Return the team of this process; meet the others if torchrun has started it.

    Where the training is to run on CUDA, each process of a machine takes a GPU of its own. Tensors
    there are exchanged by NCCL, those of the CPU by Gloo. A process without torchrun is a team of
    one.
    """
    if not dist.is_available():
        return ALONE
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        if pick_device(device).type == "cuda":
            torch.cuda.set_device(_local_rank())
        store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # This store outlives a restart, and with it the addresses of those who are gone.
            prefix = f"start {os.environ[RESTARTS]}"
            store = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]
        dist.init_process_group(store=store, rank=rank, world_size=size)
        atexit.register(dist.destroy_process_group)
    return Team(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


@contextmanager
def one_first(team: Team) -> Iterator[None]:
    """Let one process of each machine run a block, such as a download, before the others do."""
    with _with_others():
        try:
            if team.size > 1 and _local_rank() > 0:
                dist.barrier()
            yield
        finally:
            if team.size > 1 and _local_rank() == 0:
                dist.barrier()


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def restarted(team: Team) -> bool:
    """Tell whether torchrun has started a team anew, after one of its processes was lost."""
    # Each machine counts its own restarts, so that these may differ.
    return team.any(int(os.environ.get(RESTARTS, 0)) > 0)


class Loss(nn.Module):
    """An objective as a module of the model's parameters: what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: Any, model: Any, x: Tensor) -> Any:
        """Return the objective's terms."""
        return objective(model, x)


@contextmanager
def shared_loss(model: nn.Module, team: Team) -> Iterator[nn.Module]:
    """Yield a `Loss` whose gradients are the mean over a team, as is all that a batch says."""
    loss: nn.Module = Loss(model)
    if team.size == 1:
        yield loss
        return
    kind = nn.modules.batchnorm._BatchNorm
    norms = [module for module in model.modules() if isinstance(module, kind)]
    for norm in norms:
        norm.forward = partial(_batch_norm, norm)  # type: ignore[method-assign]
    try:
        # Of the convolutions before batch norm the biases take no gradient.
        with means_by(_team_mean), _with_others():
            yield DistributedDataParallel(loss, find_unused_parameters=True)
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which gradients flow back to each."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def _team_mean(values: Tensor, *dim: Any) -> Tensor:
    """Return what ``torch.mean`` does, over the values of all processes."""
    total = values.sum(*dim)
    count = total.new_tensor(values.numel() // total.numel())
    return _Sum.apply(total) / _Sum.apply(count)


def _batch_norm(norm: Any, x: Tensor) -> Tensor:
    """Return what batch norm does, in training by the mean and variance of all processes."""
    # PyTorch's SyncBatchNorm is for GPUs alone.
    if not norm.training:
        return type(norm).forward(norm, x)
    axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
    centred = x.float() - (mean := _team_mean(x.float(), axes)).view(shape)
    variance = _team_mean(centred.square(), axes)
    with torch.no_grad():
        count = _Sum.apply(mean.new_tensor(x.numel() // x.shape[1]))
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return (centred * scale.view(shape) + norm.bias.view(shape)).to(x.dtype)
