"""Programs run in forks of a process that has loaded PyTorch and the package: seconds sooner.

Each gets a folder, an environment and standard streams of its own. What happens while the package
is imported, or at the very end of an interpreter, is not seen: tests of the command line see it.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

LONGEST = 600  # seconds in which a program ends
LOADED = ["torch", "torch._dynamo", "sklearn.datasets", "vaebook"]


def run(*words, folder, environment):
    """Run a program with its arguments; return the exit code, what it printed and its errors."""
    ((code, printed, errors),) = run_together([words], folder, [environment])
    return code, printed, errors


def run_together(programs, folder, environments):
    """Run several programs at once; return for each what `run` does."""
    with TemporaryDirectory() as kept:
        started = [
            start([str(word) for word in words], folder, environment, Path(kept, str(i)))
            for i, (words, environment) in enumerate(zip(programs, environments, strict=True))
        ]
        codes = [wait() for wait in started]
        texts = [
            [Path(kept, f"{i}.{number}").read_text("utf-8") for number in (1, 2)]
            for i in range(len(codes))
        ]
    return [(code, *text) for code, text in zip(codes, texts, strict=True)]


def start(words, folder, environment, kept):
    """Start a program; return a function that waits for its end and returns the exit code."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        command, env = [sys.executable, *words], os.environ | environment
        with open(f"{kept}.1", "w") as printed, open(f"{kept}.2", "w") as errors:
            program = subprocess.Popen(command, cwd=folder, env=env, stdout=printed, stderr=errors)
            return lambda: program.wait(LONGEST)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    environment = os.environ | environment  # the fork has that of its server's first day
    process = context.Process(target=become, args=(words, folder, environment, kept))
    process.start()

    def wait():
        process.join(LONGEST)
        process.kill()  # which finds it ended, unless it hangs
        process.join()
        return process.exitcode

    return wait


def become(words, folder, environment, kept):
    """Turn a fork into the program."""
    for number in (1, 2):
        stream = os.open(f"{kept}.{number}", os.O_WRONLY | os.O_CREAT)
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    try:
        runpy.run_path(words[0], run_name="__main__")
    except Exception:
        traceback.print_exc()
        sys.exit(1)
