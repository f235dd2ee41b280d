"""Run the chapters side by side, for a build that then finds them in its cache.

Few chapters gain much from a second core, so a core for each of two chapters at once is the better
use. A chapter that fails here is not cached: the build runs it again, and fails as it should.

    python book/execute.py
"""

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from make_notebooks import BOOK, CACHE, chapters, read
from nbclient import NotebookClient

ONE_AFTER_THE_OTHER = ["01-a-first-vae", "02-inside-the-latent-space"]  # the second reads models
# These want the machine for themselves: the build's.
MEASURE_SPEED = ["18-from-minutes-to-a-second", "81-how-fast-a-step-can-be"]
MOST_AT_ONCE = 4  # for the sake of memory

# Figures have twice the pixels of the page, for screens that have them, too. Every kernel of
# `make book` reads this, and nothing from the user's own profile.
KERNELS = BOOK.parent / "_build" / "ipython" / "profile_default" / "ipython_kernel_config.py"
SHARPER = 'c.InlineBackend.figure_formats = {"retina"}\n'

_one_writer = Lock()  # because the cache is a database


def execute(path, cache, timeout):
    """Run a chapter and put it into the cache; say in a line how that went."""
    notebook, began = read(path), time.perf_counter()
    resources = {"metadata": {"path": str(path.parent)}}
    try:  # without timings, which would stand in the cells' options, by which the build looks
        run = NotebookClient(notebook, timeout=timeout, resources=resources, record_timing=False)
        asyncio.run(run.async_execute())
    except Exception as error:  # of a cell or of its kernel: the build is to tell of it in full
        print(f"{path.stem}: {type(error).__name__}, left to the build", flush=True)
        return
    seconds = time.perf_counter() - began
    bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
    with _one_writer:
        cache.cache_notebook_bundle(bundle, overwrite=True, check_validity=False)
    print(f"{path.stem}: {seconds:.0f} s", flush=True)


def execute_all(jobs, cache, timeout, at_once):
    """Run lists of chapters, each list in its order, so many lists at once."""
    # What is to be a kernel's environment is that of this process.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // at_once))

    def run(paths):
        for path in paths:
            execute(path, cache, timeout)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, jobs))


def main():
    """Run the chapters of the book, those first that take long."""
    KERNELS.parent.mkdir(parents=True, exist_ok=True)
    KERNELS.write_text(SHARPER, encoding="utf-8")
    config = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
    others = [n for n in reversed(chapters()) if n not in ONE_AFTER_THE_OTHER + MEASURE_SPEED]
    jobs = [ONE_AFTER_THE_OTHER, *([name] for name in others)]
    paths = [[BOOK / f"{name}.md" for name in job] for job in jobs]
    at_once = min(MOST_AT_ONCE, os.cpu_count() or 1)
    execute_all(paths, get_cache(CACHE), config["execute"]["timeout"], at_once)


if __name__ == "__main__":
    sys.exit(main())
