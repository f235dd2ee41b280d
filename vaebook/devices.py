"""Where the numbers are computed, in what precision, and from which seed."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

import torch


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device of a name, or raise a ValueError; "auto" is CUDA, then MPS, then CPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: expected one that is here, got {device!r} ({reason})") from None


def fastest(device: torch.device) -> torch.dtype:
    """Return bfloat16 for what computes in it, which is faster, and float32 for the rest."""
    native = False
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        ask: Any = getattr(torch.cpu, "get_capabilities", dict)  # newer than PyTorch 2.8
        native = ask().get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


@cache
def keep_memory() -> None:
    """Have glibc, Linux's C library, keep the memory of large tensors for the next ones.

    By default it gives much of it back to the system, which clears it page by page before it lends
    it again: in every step of a training, for as long as some steps take to compute. The process
    then holds on to what it used at its peak. Settings made in the environment stay.
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if platform.libc_ver()[0] == "glibc" and not chosen:
        trim_threshold, mmap_max = -1, -4  # names of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_max, 0)


def provenance(device: torch.device, dtype: torch.dtype, seed: int) -> dict[str, Any]:
    """Say what a run ran on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or f"{device} {platform.machine()}",
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(), "seed": seed, "vaebook": version("vaebook"),
        "torch": str(torch.__version__), "python": platform.python_version(),
    }  # fmt: skip


@contextmanager
def seeded(
    device: torch.device, seed: int, stream: int, rank: int = 0
) -> Iterator[torch.Generator]:
    """Random numbers of a run's own inside a block; the caller's go on untouched after it.

    The generator, for the order of the images, is the same at any rank; the noise is not.
    """
    start = (seed * 1_000_003 + stream) % 2**63
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        generator = torch.manual_seed(start)
        if rank:
            generator = torch.Generator().manual_seed(start)
            torch.manual_seed((start + rank * 998_244_353) % 2**63)
        yield generator
