"""Look for a file that a reader of the package answers with anything but a sentence (atheris).

    python -m experiments.fuzz --seconds 600
    python -m experiments.fuzz archive --again build/fuzz/archive/crash-0123abc

Each reader gets, for so long, small real files, mutated on towards code that was not reached yet.
It must answer each as `experiments.fuzzed` tells, within 10 seconds of computing and 300 MB above
the memory of the start. A file that is answered otherwise is kept in build/fuzz/, and ends the
command with an error. What was found to reach new code is kept there, too, for the next time.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil

try:
    import atheris
except ImportError:  # it has no wheel for this system or this Python
    atheris = None
READERS = ["model", "run", "archive", "picture", "folder", "layers", "settings"]
WATCHED = ["vaebook", "PIL", "zipfile", "numpy.lib.format"]
KEPT = Path(__file__).resolve().parents[1] / "build" / "fuzz"
MEMORY, SECONDS = 300 * 2**20, 10


def ready(reader):
    """Return a function that reads a file's content, in a process that takes little memory."""
    import resource  # which Windows does not have

    with atheris.instrument_imports(WATCHED) if atheris else nullcontext():
        from experiments import fuzzed
        from vaebook import __main__ as command_line
        from vaebook.data import files
        from vaebook.training import loop

    read, _, whole = fuzzed.READERS[reader]
    folder, contents = Path(tempfile.mkdtemp()), whole()
    # What is allowed must fit into the memory, and a run that goes on must not train for long.
    files.MOST_PIXELS, files.INFLATED = 10**6, 2**24
    loop.train, command_line._draw = lambda run, listeners: run.history, lambda *args: None

    def look(content):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            (path := Path(place, "x.png")).write_bytes(content)
            began = time.process_time()
            read(path)
        if (took := time.process_time() - began) > SECONDS:
            raise fuzzed.Finding(f"{took:.0f} s")
        if peak() > limit:
            raise fuzzed.Finding(f"{peak() - start:,} bytes of memory more than at the start")

    def peak():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    limit = float("inf")
    for content in contents:
        look(content)
    start, limit = peak(), peak() + MEMORY
    # A layer may have any size: where there is no memory for it, that must be told.
    most = psutil.Process().memory_info().vms + (
        MEMORY if reader in ("layers", "settings") else 2**32
    )
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return look


def alone(reader, seconds):
    """Fuzz one reader in this process, which atheris ends."""
    look, kept = ready(reader), KEPT / reader
    from experiments import fuzzed

    _, how, whole = fuzzed.READERS[reader]

    def mutated(content, size, seed):
        rng = random.Random(seed)
        if how and rng.random() < 0.7:
            with suppress(Exception):  # the content is no longer of its kind
                changed = how(content, rng, lambda part: atheris.Mutate(part, size))
                if len(changed) <= size:
                    return changed
        return atheris.Mutate(content, size)

    (kept / "corpus").mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(whole()):
        (kept / "corpus" / f"seed-{i}").write_bytes(content)
    # A reader that waits computes nothing; so does one that other programs keep waiting.
    options = dict(max_total_time=seconds, timeout=6 * SECONDS, rss_limit_mb=0, max_len=2**16)
    options |= dict(artifact_prefix=f"{kept}/", print_final_stats=1, seed=random.randrange(2**31))
    given = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup(["fuzz", *given, f"{kept}/corpus"], look, custom_mutator=mutated)
    atheris.Fuzz()


def fuzz(reader, seconds):
    """Fuzz a reader in a process of its own; tell what came of it and whether all was well."""
    code = f"from experiments import fuzz; fuzz.alone({reader!r}, {seconds})"
    with tempfile.TemporaryDirectory() as work:
        settings = os.environ | {"TMPDIR": work, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=settings, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
    count = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    print(f"{reader}: {int(count[0] if count else 0):,} files", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], flush=True)
    return not done.returncode


def main(argv=None):
    """Fuzz readers side by side; return an exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)}; or else all")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader")
    parser.add_argument("--together", type=int, default=os.cpu_count(), help="readers at once")
    parser.add_argument("--again", type=Path, metavar="FILE", help="read a file that was kept")
    options = parser.parse_args(argv)
    readers = options.readers or READERS
    if unknown := {*readers} - {*READERS}:
        parser.error(f"expected some of {', '.join(READERS)}, got {', '.join(unknown)}")
    if options.again:
        ready(readers[0])(options.again.read_bytes())
        return 0
    if atheris is None:
        version = ".".join(map(str, sys.version_info[:2]))
        parser.error(f"atheris is not here: it may have no wheel for Python {version}")
    with ThreadPoolExecutor(options.together) as pool:
        return int(not all([*pool.map(lambda reader: fuzz(reader, options.seconds), readers)]))


if __name__ == "__main__":
    sys.exit(main())
