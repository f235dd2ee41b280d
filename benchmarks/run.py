"""The speed of training: vaebook against its peers, side by side in one run.

    make bench                                          everything
    python benchmarks/run.py --sections speed tried     some of it; the rest of the file stays
    python benchmarks/run.py --quick --output /tmp      tiny sizes, to see whether it works

Contenders train the same network, in turn and several times over, so that a machine whose speed
drifts treats them alike. Each has a process of its own and is timed as its user calls it, from an
untrained model and data in memory to the end. What counts are the ratios.

* vaebook: `vaebook.fit` with its defaults; float32: the same without mixed precision;
* loop: a hand-written loop over float32 pixels that are on the device beforehand;
* recipe: torchvision's MNIST items (PIL, ToTensor), a DataLoader with the number of workers that
  is fastest, a loop that reads the loss at each step;
* pythae: pythae's `BaseTrainer.train`.

Two networks: conv, the convolutional VAE with 128 latent dimensions, and dense, 784-400-20-400-784.

Sections: ceiling (operations per image, and the machine's matrix products), speed (all contenders,
5 repeats), batches (over batch sizes, 2 repeats), image_sizes (2 repeats), test_pass, growth (time
and memory, on random pixels, the faster of 2 runs), precision, tried (other formulations of the
step), import, cuda (only on a GPU). All of them take about twenty minutes on two CPU cores.

It prints a table and writes vaebook/results/speed-{cpu,cuda}.json and
benchmarks/speed-{cpu,cuda}.png.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script sees only its own folder

import vaebook as vb
from benchmarks import report as reports
from benchmarks.sections import FULL, QUICK, SECTIONS, about_a_run

ROOT = Path(__file__).parents[1]


def provenance():
    """Say what this run runs on."""
    about = about_a_run()
    keys = ("device", "precision", "threads", "vaebook", "torch", "python")
    return {"processor": processor()} | {key: about[key] for key in keys}


def processor():
    """Return the processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main(argv=None):
    """Measure, print, write; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sections", choices=SECTIONS, nargs="+", default=[*SECTIONS], metavar="SECTION"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes; needs --output")
    parser.add_argument("--output", type=Path, help="a folder for both files")
    given = parser.parse_args(argv)
    if given.quick and not given.output:
        parser.error("--quick: expected --output, so that no real measurement is replaced")

    sizes = QUICK if given.quick else FULL
    data = vb.load(sizes.data, offline="textures")
    name = f"speed-{vb.pick_device().type}"
    path = (given.output or ROOT / "vaebook" / "results") / f"{name}.json"
    picture = (given.output or ROOT / "benchmarks") / f"{name}.png"
    about = {"provenance": provenance(), "data": data.source}
    report = json.loads(path.read_text("utf-8")) if path.exists() else about
    if any(report[key] != value for key, value in about.items()):
        if set(given.sections) != set(SECTIONS):
            parser.error(f"--sections: expected all of them, since {path.name} is of another run")
        report = about
    for section in given.sections:
        print(f"{section} ...", flush=True)
        started = time.perf_counter()
        report = reports.merged(report, SECTIONS[section](sizes, data))
        print(f"{section}: {time.perf_counter() - started:.0f} s", flush=True)
    report = reports.finished(report)
    reports.keep(report, path)
    reports.show(report)
    print(f"\nwritten to {path.name}")
    if "flop_per_image" in report and "speed" in report:
        reports.draw(report, picture)
        print(f"drawn in {picture.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
