"""How a VAE gets to a loss in fewer steps: what was tried, on images held out from training.

    python -m experiments.soon               run what is missing, cell by cell
    python -m experiments.soon --list        say what is done and what is missing

The settings for the benchmark `benchmarks/speedrun.py`, each tried with seed 0: learning rate,
rise, Adam's two averages, KL warm-up, batch size and epochs, changed from a middle setting one or
two at a time. The loss is that of the last 5,000 training images (of Kuzushiji's sample the last
1,000), on which nothing is trained. A row of soon_search.csv is written when its cell ends, so that
an interrupted search goes on where it stopped. Seconds are of the processor. soon.json tells
versions and data.
"""

import time
from datetime import date

import torch

import vaebook as vb
from experiments.records import fit, run_parts

HELD_OUT = {"mnist": 5000, "kmnist": 1000}


def dense(shape):
    return vb.dense_vae(shape, 20, hidden=(400,), activation="relu")


#: The trainings that are to be short: data and network.
TASKS = {
    "conv, 128 dimensions": ("mnist", lambda shape: vb.conv_vae(shape, 128)),
    "conv, 2 dimensions": ("mnist", lambda shape: vb.conv_vae(shape, 2)),
    "dense": ("mnist", dense),
    "Kuzushiji, 128 dimensions": ("kmnist", lambda shape: vb.conv_vae(shape, 128)),
}
MIDDLE = dict(batch_size=64, peak=6e-3, rise=0.25, betas="0.8 0.95", warmup=0.8, epochs=1)
USUAL = "0.9 0.999"  # Adam's averages
TRIED = {
    "conv, 128 dimensions": [
        {}, {"peak": 3e-3}, {"peak": 4e-3}, {"peak": 8e-3}, {"rise": 0.15}, {"rise": 0.4},
        {"betas": USUAL}, {"betas": "0.9 0.95"}, {"betas": "0.8 0.99"}, {"betas": "0.7 0.9"},
        {"warmup": 0.0}, {"warmup": 0.5}, {"warmup": 1.0}, {"betas": USUAL, "warmup": 0.0},
        {"batch_size": 32, "peak": 4e-3}, {"batch_size": 48}, {"batch_size": 96, "peak": 8e-3},
        {"batch_size": 128}, {"batch_size": 128, "peak": 1e-2},
        {"warmup": 0.3}, {"warmup": 0.5, "rise": 0.4}, {"warmup": 0.5, "peak": 8e-3},
        {"warmup": 0.5, "batch_size": 128, "peak": 1e-2},
    ] + [
        {"batch_size": 96, "warmup": 0.5, "peak": peak} for peak in (6e-3, 8e-3, 1e-2)
    ] + [
        {"batch_size": 96, "warmup": 0.5, "peak": 8e-3} | other for other in (
            {"warmup": 0.3}, {"rise": 0.4}, {"betas": "0.8 0.9"}, {"betas": "0.85 0.95"},
            {"betas": "0.9 0.95"},
        )
    ] + [
        {"batch_size": 128, "warmup": 0.5, "peak": 8e-3, "betas": betas}
        for betas in ("0.8 0.95", "0.8 0.9")
    ],
    "conv, 2 dimensions": [
        {"warmup": 0.0}, {"warmup": 0.5}, {"warmup": 0.0, "peak": 4e-3},
        {"warmup": 0.0, "betas": USUAL}, {"warmup": 0.0, "betas": USUAL, "peak": 4e-3},
        {"warmup": 0.0, "batch_size": 128, "peak": 8e-3}, {"warmup": 0.0, "batch_size": 96},
        {"warmup": 0.0, "batch_size": 32, "peak": 4e-3}, {"warmup": 0.0, "batch_size": 48},
        {"warmup": 0.5, "batch_size": 128, "peak": 8e-3},
        {"warmup": 0.0, "batch_size": 256, "peak": 1e-2},
    ],
    "dense": [
        {"epochs": epochs, "batch_size": size, "peak": peak, "warmup": warmup, "betas": betas}
        for epochs, size, peak in [(2, 64, 4e-3), (2, 64, 8e-3), (3, 128, 4e-3), (3, 128, 8e-3)]
        for warmup, betas in [(0.0, USUAL), (0.5, USUAL), (0.5, "0.8 0.95")]
    ] + [
        {"epochs": epochs, "batch_size": size, "peak": peak, "warmup": warmup}
        for epochs, size, peak in [(3, 64, 8e-3), (4, 128, 8e-3), (4, 128, 1.2e-2)]
        for warmup in (0.0, 0.3)
    ] + [
        {"epochs": epochs, "batch_size": size, "peak": peak, "warmup": 0.0}
        for epochs, size, peak in [
            (3, 128, 8e-3), (3, 256, 1.2e-2), (4, 256, 1.2e-2), (3, 192, 8e-3), (3, 192, 1.2e-2),
            (3, 192, 1.6e-2), (5, 384, 1.4e-2), (5, 512, 1.6e-2), (6, 512, 1.2e-2),
        ]
    ],
    "Kuzushiji, 128 dimensions": [
        {"epochs": epochs, "batch_size": 32, "peak": 4e-3, "warmup": warmup}
        for epochs in (2, 3, 1) for warmup in (0.0, 0.5)
    ] + [
        {"epochs": 3, "warmup": 0.5}, {"warmup": 0.0, "batch_size": 32},
        {"warmup": 0.0, "batch_size": 48},
    ],
}  # fmt: skip
SEARCH = [{"task": task} | MIDDLE | other for task, tried in TRIED.items() for other in tried]


def split_of(dataset):
    """Return images to train on and images to choose by."""
    images = vb.load(dataset).train
    return images[: -HELD_OUT[dataset]], images[-HELD_OUT[dataset] :]


def how(batch_size, peak, rise, betas, warmup, epochs):
    """Return a setting of the search as arguments of `vb.fit`."""
    pair = tuple(map(float, betas.split()))
    return dict(
        batch_size=batch_size, epochs=epochs, lr=vb.OneCycle(peak, rise),
        optimizer="adam" if betas == USUAL
        else lambda weights: torch.optim.Adam(weights, betas=pair, fused=True),
        objective=vb.NegativeELBO(schedule=vb.Warmup(end=warmup) if warmup else None),
    )  # fmt: skip


def search(task, **setting):
    """Train a network; return the loss of held-out images, and the seconds."""
    dataset, build = TASKS[task]
    train, held_out = split_of(dataset)
    torch.manual_seed(0)
    model = build(train.image_shape)
    began = time.process_time()
    fit(model, train, device="cpu", progress=False, **how(**setting))
    seconds = time.process_time() - began
    loss = vb.evaluate(model, held_out)["loss"]
    return {"validation": round(loss, 3), "seconds": round(seconds, 1)}


def about():
    """Say what the files were measured with."""
    model = vb.dense_vae((1, 2, 2), latent_dim=1, hidden=(1,))
    run = fit(model, torch.zeros(2, 1, 2, 2), epochs=1, device="cpu", progress=False)
    return {
        "data": {name: vb.load(name).source for name in HELD_OUT},
        "held_out": HELD_OUT, "date": date.today().isoformat(), **run.provenance,
    }  # fmt: skip


def main(argv=None):
    """Run or list; return the exit status."""
    return run_parts("soon", __doc__, {"search": (search, SEARCH)}, about, argv)


if __name__ == "__main__":
    raise SystemExit(main())
