"""What is measured, section by section. Each returns entries of the report."""

import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import vaebook as vb
from benchmarks import steps
from benchmarks.contenders import (
    CONTENDERS,
    NETWORKS,
    apart,
    best_workers,
    recipe,
    since,
    timed,
    with_test_pass,
)
from benchmarks.uses import fresh, peak_memory
from experiments.records import fit


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are for two CPU cores and a quarter of an hour."""

    data: str = "mnist"
    images: int = 12_800
    headline: tuple[int, ...] = (128, 512)
    batches: tuple[int, ...] = (64, 128, 512, 1024, 4096)
    sides: tuple[tuple[int, int], ...] = ((64, 3200), (128, 1024))  # and images
    repeats: int = 5
    few: int = 2  # repeats where an epoch is long or the setting is not a headline
    test_pass: int = 60_000
    epochs: int = 10
    growth: tuple[int, ...] = (1000, 3000, 10_000, 30_000, 60_000)
    growth_epochs: tuple[int, ...] = (1, 2, 4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 2560  # images that a formulation sees in each repeat
    compiled: bool = True  # whether torch.compile is among the formulations
    product: int = 2048  # rows and columns of the matrices whose product is the ceiling


FULL = Sizes()
QUICK = Sizes(
    data="digits", images=64, headline=(16,), batches=(16, 32), sides=((32, 32),),
    repeats=1, few=1, test_pass=64, epochs=1, growth=(32,), growth_epochs=(1,),
    seeds=(0,), steps=32, product=64, compiled=False,
)  # fmt: skip


def race(network, names, images, batch_size, repeats):
    """Let contenders train in turn, several times over; return a row for each."""
    given = dict.fromkeys(names, (images, batch_size))
    if "recipe" in names:
        given["recipe"] += (best_workers(network, images),)
    seconds = {name: [] for name in names}
    for name, (_, *options) in given.items():  # one warms up on a few batches
        apart(name, timed, name, 0, network, images[: 4 * batch_size], *options)
    for repeat in range(repeats):
        for name, options in given.items():
            seconds[name].append(apart(name, timed, name, repeat, network, *options))
    rows = []
    for name, runs in seconds.items():
        pairs = zip(seconds["vaebook"], runs, strict=True)
        row = {
            "network": network, "contender": name, "batch_size": batch_size,
            "image_size": images.image_shape[-1], "images": len(images), "seconds": runs,
            "images_per_second": len(images) / statistics.median(runs),
            "vaebook_is": statistics.median(theirs / ours for ours, theirs in pairs),
        }  # fmt: skip
        if name == "recipe":
            row["workers"] = given[name][-1]
        rows.append(row)
        print(f"  {network} {name}, batch {batch_size}: {row['images_per_second']:,.0f} images/s")
    return rows


def speed(sizes, data):
    """Time every contender on the convolutional network, with many repeats."""
    images = data.train[: sizes.images]
    rows = [race("conv", CONTENDERS, images, size, sizes.repeats) for size in sizes.headline]
    return {"speed": [*itertools.chain(*rows)]}


def batches(sizes, data):
    """Time the contenders over batch sizes, but for the settings that `speed` has."""
    images = data.train[: sizes.images]
    names = [name for name in CONTENDERS if name != "float32"]
    rows = []
    for network, size in itertools.product(NETWORKS, sizes.batches):
        if network != "conv" or size not in sizes.headline:
            rows += race(network, names, images, size, sizes.few)
    return {"speed": rows}


def image_sizes(sizes, data):
    """Time vaebook and the loop over image sizes, on resized images."""
    rows = []
    for side, count in sizes.sides:
        some = data.train[:count]
        pixels = F.interpolate(some.pixels.float(), (side, side), mode="bilinear")
        images = vb.as_images(pixels.to(torch.uint8), some.labels)
        rows += race("conv", ("vaebook", "loop"), images, sizes.headline[0], sizes.few)
    return {"speed": rows}


def test_pass(sizes, data):
    """Time the dense network with a test pass after each epoch, against the recipe."""
    train, seconds = data.train[: sizes.test_pass], {"vaebook": [], "recipe": []}
    workers, losses = best_workers("dense", data.train), []
    few = "dense", train[:1280], 128  # to warm up
    apart("recipe", recipe, *few, workers, data.test)
    apart("vaebook", with_test_pass, *few, data.test, 1, 0)
    for seed in sizes.seeds:
        given = "dense", train, 128
        seconds["recipe"].append(apart("recipe", recipe, *given, workers, data.test))
        given += data.test, sizes.epochs, seed
        taken, loss = apart("vaebook", with_test_pass, *given)
        seconds["vaebook"].append(taken / sizes.epochs)
        losses.append(loss)
    pairs = zip(seconds["vaebook"], seconds["recipe"], strict=True)
    return {"test_pass": {
        "network": "dense", "batch_size": 128, "images": len(train), "test_images": len(data.test),
        "epochs": sizes.epochs, "seeds": list(sizes.seeds), "seconds_per_epoch": seconds,
        "workers": workers, "vaebook_is": statistics.median(b / a for a, b in pairs),
        "test_loss": losses, "mean_test_loss": statistics.mean(losses), "target": 105.6,
        "note": "per seed, vaebook trains for all the epochs, the recipe for one",
    }}  # fmt: skip


def ceiling(sizes, data):
    """Count the operations of a step, and time the largest products that the machine can do."""
    precisions = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return {
        "ceiling": {name: product_speed(dtype, sizes) for name, dtype in precisions.items()},
        "flop_per_image": {name: flop_per_image(name, data.image_shape) for name in NETWORKS},
    }


def product_speed(dtype, sizes):
    """Return the GFLOP/s of a large matrix product, the median of many."""
    n, seconds = sizes.product, []
    # On CUDA, PyTorch convolves float32 in TF32 unless told otherwise; so may the product.
    torch.backends.cuda.matmul.allow_tf32 = True
    a, b = (torch.randn(n, n, device=vb.pick_device()).to(dtype) for _ in range(2))
    for _ in range(20 * sizes.repeats):
        started = time.perf_counter()
        a @ b
        seconds.append(since(started))
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * n**3 / statistics.median(seconds) / 1e9


def flop_per_image(network, image_shape):
    """Count the floating point operations of a training step on one image, forth and back."""
    model = NETWORKS[network](image_shape).train()
    with FlopCounterMode(display=False) as counter:  # float32: no layer is hidden from it
        vb.NegativeELBO()(model, torch.rand(2, *image_shape)).loss.mean().backward()
    return counter.get_total_flops() / 2  # batch norm needs two images


def growth(sizes, data):
    """Time and weigh trainings of growing length, each in a process of its own."""
    least = sizes.growth[min(1, len(sizes.growth) - 1)]
    plan = [(count, 1) for count in sizes.growth]
    plan += [(least, epochs) for epochs in sizes.growth_epochs if epochs > 1]
    rows = {}
    for count, epochs in plan * sizes.few:
        row = fresh(f"sections.grown({count}, {epochs})")
        print("  {images:,} images, {epochs} epochs: {seconds:.2f} s".format(**row))
        # The least of the runs: whatever disturbs one only adds to it.
        rows[count, epochs] = min(row, rows.get((count, epochs), row), key=lambda r: r["seconds"])
    return {"growth": [*rows.values()]}


def grown(count, epochs):
    """Train on random pixels; return what it took as a line of JSON."""
    images = vb.as_images(torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8))
    fit(NETWORKS["conv"]((1, 28, 28)), images[:512], epochs=1, progress=False)  # warms up
    model = NETWORKS["conv"]((1, 28, 28))
    started = time.perf_counter()
    fit(model, images, epochs=epochs, progress=False)
    row = {"images": count, "epochs": epochs, "seconds": since(started)}
    return json.dumps(row | {"peak_memory_mib": peak_memory()})


def precision(sizes, data):
    """Compare the test losses that training in the two precisions ends with."""
    images, losses = data.train[: sizes.images], {"bfloat16": [], "float32": []}
    for seed, name in itertools.product(sizes.seeds, losses):
        torch.manual_seed(seed)
        model = NETWORKS["conv"](data.image_shape)
        fit(model, images, epochs=3, precision=name, seed=seed, progress=False)
        losses[name].append(vb.evaluate(model, data.test)["loss"])
    means = {name: statistics.mean(runs) for name, runs in losses.items()}
    difference = means["bfloat16"] / means["float32"] - 1
    return {"precision": {
        "network": "conv", "images": len(images), "epochs": 3, "seeds": list(sizes.seeds),
        "test_loss": losses, "mean": means, "relative_difference": difference,
    }}  # fmt: skip


def tried(sizes, data):
    """Time other formulations of the training step, on the CPU."""
    if vb.pick_device().type != "cpu":
        return {"tried": []}
    dtype = getattr(torch, own_precision())
    counts = {size: max(sizes.steps // size, 1) for size in sizes.headline}
    rows = []
    for size, count in counts.items():
        found = steps.formulations(size, dtype, compiled=sizes.compiled)
        rows += steps.measure(found, size, count, sizes.repeats)
    return {"tried": rows}


def own_precision():
    """Return the precision that `vaebook.fit` picks on this machine."""
    return about_a_run()["precision"]


def about_a_run():
    """Return what `vaebook.fit` says of where it ran."""
    model = vb.dense_vae((1, 2, 2), latent_dim=1, hidden=(1,))
    return fit(model, torch.zeros(2, 1, 2, 2), epochs=1, progress=False).provenance


def imports(sizes, data):
    """Time the import of the package in a fresh interpreter against that of PyTorch."""
    seconds = {"vaebook": [], "torch": []}
    for _ in range(sizes.repeats):
        for name, runs in seconds.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
            runs.append(time.perf_counter() - started)
    pairs = zip(seconds["vaebook"], seconds["torch"], strict=True)
    return {"import": seconds | {"ratio": statistics.median(a / b for a, b in pairs)}}


def cuda(sizes, data):
    """Time three epochs of the convolutional network by the GPU's own clock, and pythae's one."""
    if not torch.cuda.is_available():
        return {}
    from benchmarks.with_pythae import trainer_of

    # Each takes an untrained model and returns its training, which is then timed.
    contenders = {
        "vaebook": (3, lambda model: lambda: fit(model, data.train, epochs=3, progress=False)),
        "pythae": (1, lambda model: trainer_of(model, data.train, 128).train),
    }
    seconds, losses = ({name: [] for name in contenders} for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for repeat in range(-1, sizes.repeats):  # the first round warms up
        for name, (_, prepare) in contenders.items():
            torch.manual_seed(repeat)
            model = NETWORKS["conv"](data.image_shape)
            train = prepare(model)
            torch.cuda.synchronize()
            start.record()
            train()
            end.record()
            torch.cuda.synchronize()
            if repeat >= 0:
                seconds[name].append(start.elapsed_time(end) / 1000)
                losses[name].append(vb.evaluate(model.cuda(), data.test)["loss"])
    rows = []
    for name, (epochs, _) in contenders.items():
        rows.append({
            "network": "conv", "contender": name, "batch_size": 128, "images": len(data.train),
            "epochs": epochs, "seconds": seconds[name],
            "images_per_second": epochs * len(data.train) / statistics.median(seconds[name]),
            "test_loss": statistics.median(losses[name]),
        })  # fmt: skip
    return {"cuda": rows}


SECTIONS = {
    "ceiling": ceiling, "speed": speed, "batches": batches, "image_sizes": image_sizes,
    "test_pass": test_pass, "growth": growth, "precision": precision, "tried": tried,
    "import": imports, "cuda": cuda,
}  # fmt: skip
