"""This checkout against another one, in turn: has a change made training slower?

    git worktree add ../before HEAD~1
    python benchmarks/versions.py ../before

Each trains in a process of its own, for one epoch at a time, several times over; so does the usual
recipe, for the dense network. It prints the medians and writes vaebook/results/versions-cpu.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = [("conv", 128), ("conv", 512), ("dense", 128)]
WORKER = """
import sys, json
sys.path.insert(0, sys.argv[1])
import vaebook as vb
from benchmarks import contenders
assert vb.__file__.startswith(sys.argv[1])
images = vb.load("mnist", offline="textures").train
for line in sys.stdin:
    who, network, size, count = json.loads(line)
    given = (network, images[:count], size) + ((0,) if who == "recipe" else ())
    print(json.dumps(contenders.CONTENDERS[who](*given)), flush=True)
"""


def worker(root):
    """Start a process that trains by the package of a checkout when it is told to."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", WORKER, str(root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=root, env=environment, **pipes)


def ask(process, *job):
    """Have a process do a job; return its seconds."""
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main(argv=None):
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "vaebook/results/versions-cpu.json")
    given = parser.parse_args(argv)
    workers = {"before": worker(given.other.resolve()), "now": worker(ROOT)}
    workers["recipe"] = worker(ROOT)
    rows = []
    for network, size in SETTINGS:
        seconds = {who: [] for who in workers if who != "recipe" or network == "dense"}
        for repeat in range(-1, given.repeats):  # the first turn warms up
            for who, runs in seconds.items():
                name = "recipe" if who == "recipe" else "vaebook"
                count = given.images if repeat >= 0 else 4 * size
                taken = ask(workers[who], name, network, size, count)
                runs.extend([taken] if repeat >= 0 else [])
        pairs = {who: zip(runs, seconds["now"], strict=True) for who, runs in seconds.items()}
        ratios = {who: statistics.median(a / b for a, b in pair) for who, pair in pairs.items()}
        rows.append({"network": network, "batch_size": size, "images": given.images,
                     "seconds": seconds, "now_is": ratios})  # fmt: skip
        print(network, size, {who: round(ratio, 3) for who, ratio in ratios.items()}, flush=True)
    from benchmarks.run import provenance

    asked = ["git", "-C", str(given.other), "rev-parse", "--short", "HEAD"]
    before = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    report = {"before": before, "provenance": provenance(), "rows": rows}
    given.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
