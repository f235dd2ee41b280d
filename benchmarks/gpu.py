"""All that waits for a GPU, one after the other, in at most ten minutes: make gpu

The tests marked `cuda`; the benchmark's sections, the one by the GPU's own clock first; chapters
1, 2 and 14, executed. What ends late is ended, and what does not begin in time is left out.

    python benchmarks/gpu.py --output FOLDER --minutes 10

The folder, _build/gpu by default, gets the chapters as notebooks and speed-cuda.json with its
picture. The measurements go to vaebook/results/, too, if they are all that chapter 18 shows.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
CHAPTERS = ("1", "2", "15")
KEPT = {"speed", "test_pass"}  # a report without these stays where it was written
MOST = 180  # seconds that a part may take


def parts(output):
    """Return the commands to be run by name, the most wanted first."""
    measure = [sys.executable, "benchmarks/run.py", "--output", str(output), "--sections"]
    commands = {
        "tests": [sys.executable, "-m", "pytest", "-m", "cuda"],
        "ceiling and cuda": [*measure, "ceiling", "cuda"],
    }
    for number in CHAPTERS:
        job = f"from benchmarks import gpu; gpu.execute({number!r}, {str(output)!r})"
        commands[f"chapter {number}"] = [sys.executable, "-c", job]
    for section in ("speed", "test_pass"):
        commands[section] = [*measure, section]
    return commands


def execute(number, output):
    """Run a chapter as a notebook, and keep it with its outputs."""
    sys.path.insert(0, str(ROOT / "book"))
    import make_notebooks
    import nbformat
    from nbclient import NotebookClient

    book = make_notebooks.chapters()
    (chapter,) = (each for each in book.values() if each.number == number)
    notebook = make_notebooks.notebook(chapter, book)
    where = {"metadata": {"path": str(ROOT / "book")}}
    NotebookClient(notebook, timeout=MOST, kernel_name="python3", resources=where).execute()
    nbformat.write(notebook, Path(output) / f"{chapter.name}.ipynb")


def finished(command, seconds):
    """Run a command for so long at most; say in a word how it ended."""
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            return "failed" if process.wait(seconds) else "passed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it has started
            return "ended late"


def main(argv=None):
    """Run all parts; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "_build" / "gpu")
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("make gpu: expected a GPU with CUDA, got none that PyTorch can use", file=sys.stderr)
        return 1
    output, end = given.output.resolve(), time.monotonic() + 60 * given.minutes
    output.mkdir(parents=True, exist_ok=True)
    report = output / "speed-cuda.json"
    report.unlink(missing_ok=True)  # it may be of another GPU
    ends = {}
    for name, command in parts(output).items():
        started = time.monotonic()
        left = min(MOST, end - started)
        ends[name] = finished(command, left) if left > 0 else "left out"
        print(f"\n=== {name}: {ends[name]}, {time.monotonic() - started:.0f} s\n", flush=True)
    print(*(f"{name}: {how}" for name, how in ends.items()), sep="\n")
    if report.exists() and json.loads(report.read_text("utf-8")).keys() >= KEPT:
        shutil.copy(report, ROOT / "vaebook" / "results")
        print(f"copied to vaebook/results: {report.name}")
    return int(set(ends.values()) != {"passed"})


if __name__ == "__main__":
    raise SystemExit(main())
