"""What a trained model is used for, and what a training needs of memory, beside pythae.

    make bench first, or pip install -e '.[bench]', for pythae; then
    python benchmarks/uses.py             five minutes on two CPU cores
    python benchmarks/uses.py --quick --output /tmp

The network is the convolutional one with 128 latent dimensions, trained for an epoch over a part of
MNIST and the same in both libraries. Each contender has a process of its own; they take turns. The
estimates of log p(x) are by importance sampling in float32, with as many codes decoded at once. The
peaks of memory are those of fresh processes that train for an epoch on random pixels. It writes
vaebook/results/uses-cpu.json, or uses-cuda.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script sees only its own folder

import torch
from torch.utils.data import DataLoader

import vaebook as vb
from benchmarks.contenders import NETWORKS, apart, since
from experiments.records import fit

ROOT = Path(__file__).parents[1]
AT_ONCE = 1000  # codes that are decoded in one go for log p(x)
USES = ("log p(x)", "embedding", "sampling", "saving", "loading")
WEIGHED = ("vaebook", "vaebook, DataLoader", "pythae")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    data: str = "mnist"
    images: int = 10_000
    judged: int = 20  # images whose log p(x) is estimated
    draws: int = 5000
    repeats: int = 5
    weighed: tuple[tuple[tuple[int, int, int], int], ...] = (
        ((1, 28, 28), 60_000), ((3, 64, 64), 10_000),
    )  # fmt: skip


QUICK = Sizes("digits", images=64, judged=2, draws=2, repeats=1, weighed=(((1, 16, 16), 16),))


def timed(sizes):
    """Time the uses in turn; return a row for each use and contender."""
    rows = []
    for what in USES:
        seconds, values = ({"vaebook": [], "pythae": []} for _ in range(2))
        for seed in range(-1, sizes.repeats):  # the first round warms up
            for name, runs in seconds.items():
                taken, value = apart(name, used, name, what, sizes, seed)
                if seed >= 0:
                    runs.append(taken)
                    values[name].append(value)
        for name, runs in seconds.items():
            pairs = zip(seconds["vaebook"], runs, strict=True)
            ratio = statistics.median(theirs / ours for ours, theirs in pairs)
            row = {"what": what, "contender": name, "seconds": runs, "vaebook_is": ratio}
            rows.append(row | ({"values": values[name]} if what == USES[0] else {}))
            print(f"{what}, {name}: {statistics.median(runs):.3f} s, {ratio:.2f} times")
    return rows


def used(contender, what, sizes, seed):
    """Do one thing with the model; return the seconds, and the value of log p(x)."""
    model, images, folder = trained(sizes)
    torch.manual_seed(seed + 1)
    jobs = {"vaebook": by_vaebook, "pythae": by_pythae}[contender]
    work = jobs(model, images, sizes, folder, seed + 1)[what]
    with torch.no_grad():
        began = time.perf_counter()
        value = work()
        return since(began), value if what == USES[0] else None


@cache
def trained(sizes):
    """Return a model that each process trains alike, images in black and white, and a folder."""
    data = vb.load(sizes.data, offline="textures")
    torch.manual_seed(0)
    model = NETWORKS["conv"](data.image_shape)
    fit(model, data.train[: sizes.images], epochs=1, precision="float32", progress=False)
    return model, data.test.binarized("static"), Path(tempfile.mkdtemp())


def by_vaebook(model, images, sizes, folder, seed):
    """Return what a user of vaebook calls."""
    few, many = images[: sizes.judged], images[: sizes.images]
    return {
        "log p(x)": lambda: (
            vb.log_likelihood(model, few, draws=sizes.draws, seed=seed, progress=False).mean
        ),
        "embedding": lambda: vb.embed(model, many),
        "sampling": lambda: model.sample(len(many)),
        "saving": lambda: vb.save(model, folder / "vaebook"),
        "loading": lambda: vb.load_model(folder / "vaebook"),
    }


def by_pythae(model, images, sizes, folder, seed):
    """Return what a user of pythae calls."""
    from pythae.models import AutoModel
    from pythae.samplers import NormalSampler

    from benchmarks.with_pythae import model_of

    theirs, path = model_of(model).eval(), str(folder / "pythae")
    pixels = vb.data.to_pixels(images[: sizes.images].pixels, model.device)
    return {
        "log p(x)": lambda: float(theirs.get_nll(pixels[: sizes.judged], sizes.draws, AT_ONCE)),
        "embedding": lambda: theirs.embed(pixels),
        "sampling": lambda: NormalSampler(theirs).sample(len(pixels)),
        "saving": lambda: theirs.save(path),
        "loading": lambda: AutoModel.load_from_folder(path),
    }


def weighed(sizes):
    """Weigh trainings; return a row for each."""
    rows = []
    for shape, count in sizes.weighed:
        for contender in WEIGHED:
            rows.append(fresh(f"uses.weigh({contender!r}, {shape}, {count})"))
            print("{contender}, {images:,} images: {peak_memory_mib:,} MiB".format(**rows[-1]))
    return rows


def fresh(call):
    """Return what a function of the benchmark prints as JSON in a fresh process."""
    job = f"from benchmarks import sections, uses; print({call})"
    answer = subprocess.run(
        [sys.executable, "-c", job], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


def weigh(contender, shape, count):
    """Train for an epoch; return what it took at most as a line of JSON."""
    images = vb.as_images(torch.randint(256, (count, *shape), dtype=torch.uint8))
    model = NETWORKS["conv"](shape)
    before = peak_memory()
    if contender == "pythae":
        from benchmarks.with_pythae import trainer_of

        trainer_of(model, images, 128).train()
    else:
        given = images if contender == "vaebook" else DataLoader(images, 128, shuffle=True)
        fit(model, given, epochs=1, progress=False)
    row = {"contender": contender, "image_shape": shape, "images": count}
    row |= {"before_mib": before, "peak_memory_mib": peak_memory()}
    return json.dumps(row)


def peak_memory():
    """Return the most memory of the device, or the resident set's, in MiB; None if unknown."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return None
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main(argv=None):
    """Measure, print, write; return the exit status."""
    from benchmarks.report import keep
    from benchmarks.run import provenance

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes; needs --output")
    parser.add_argument("--output", type=Path, help="a folder for the file")
    given = parser.parse_args(argv)
    if given.quick and not given.output:
        parser.error("--quick: expected --output, so that no real measurement is replaced")
    sizes = QUICK if given.quick else Sizes()
    data = vb.load(sizes.data, offline="textures").source
    report = {"provenance": provenance(), "data": data, "uses": timed(sizes)}
    report |= {"memory": weighed(sizes)}
    name = f"uses-{vb.pick_device().type}.json"
    keep(report, (given.output or ROOT / "vaebook" / "results") / name)
    print(f"written to {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
