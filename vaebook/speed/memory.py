"""What keeps the memory of one step for the next."""

import ctypes
import os
import platform
from functools import cache


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
