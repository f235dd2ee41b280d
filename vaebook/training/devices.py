"""Where the numbers are computed, in what precision, and from which seed."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

import torch

from vaebook.checks import as_seed, wrong
from vaebook.models.networks import TURN, eval_mode


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the `device` of a name; ``"auto"`` is CUDA, then MPS, then the CPU.

    Raises a ValueError where there is no such device.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise wrong("device", "one that is here", f"{device!r} ({reason})") from None


def fastest(device: torch.device) -> torch.dtype:
    """Return bfloat16 for what computes in it, which is faster, and float32 for the rest."""
    native = False
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        ask: Any = getattr(torch.cpu, "get_capabilities", dict)  # newer than PyTorch 2.8
        native = ask().get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


def provenance(device: torch.device, dtype: torch.dtype, seed: int) -> dict[str, Any]:
    """Say what a run ran on: the `device`, a precision by its `dtype`, threads, seed, versions.

    >>> provenance(torch.device("cpu"), torch.float32, seed=0)["precision"]
    'float32'
    """
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    tf32 = gpu and dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    return {
        "device": gpu or f"{device} {platform.machine()}",
        "precision": str(dtype).removeprefix("torch."),
        **({"convolutions": "TF32"} if tf32 else {}),  # PyTorch's default, of 10 bits for 23
        "threads": torch.get_num_threads(), "seed": seed, "vaebook": version("vaebook"),
        "torch": str(torch.__version__), "python": platform.python_version(),
    }  # fmt: skip


@contextmanager
def seeded(
    device: torch.device, seed: int, stream: int, rank: int = 0
) -> Iterator[torch.Generator]:
    """Random numbers of a run's own inside a block; the caller's go on untouched after it.

    The generator, for the order of the images, is the same at any rank; the noise is not. Of the
    devices only the CPU and the one of the run are seeded. Other threads wait for the block's end.
    """
    start = (as_seed(seed) * 1_000_003 + stream) % 2**63
    noise = (start + rank * 998_244_353) % 2**63
    there: Any = getattr(torch, device.type) if device.type in ("cuda", "mps") else None
    where = [device] if device.type == "cuda" else []
    with TURN:
        cpu, other = torch.get_rng_state(), there and there.get_rng_state(*where)
        try:
            generator = torch.default_generator.manual_seed(noise)
            if there:
                with torch.cuda.device(device) if where else nullcontext():
                    there.manual_seed(noise)
            yield torch.Generator().manual_seed(start) if rank else generator
        finally:
            torch.set_rng_state(cpu)
            if there:
                there.set_rng_state(other, *where)


@contextmanager
def measuring(model: Any, seed: int = 0, rank: int = 0) -> Iterator[None]:
    """Run a block in eval mode, without gradients, seeded, and in float32 whatever is around."""
    if model.dtype != torch.float32:
        raise wrong("model", "weights in float32", f"{model.dtype}; model.float() makes them so")
    plainly, seeds = torch.autocast(model.device.type, enabled=False), (model.device, seed, 0, rank)
    with torch.no_grad(), plainly, eval_mode(model), seeded(*seeds):
        yield
