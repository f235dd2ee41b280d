"""Posterior collapse: brought about, cured, and mapped. Writes vaebook/results/collapse*.

    python -m experiments.collapse            run what is missing, cell by cell
    python -m experiments.collapse --part cures
    python -m experiments.collapse --list     say what is done and what is missing

Two parts, each with seeds 0, 1 and 2:

* ``cures`` (collapse_cures.csv): a VAE on binarized 14×14 MNIST whose decoder sees the earlier
  pixels, trained as usual and with each cure.
* ``phase`` (collapse_phase.csv): a dense VAE with a Gaussian likelihood of fixed sigma on grey
  14×14 MNIST, over the weight beta and the number of latent dimensions.

A row is written when its run ends, so that an interrupted experiment goes on where it stopped.
collapse.json tells settings, versions, data and time, and holds the eigenvalues of the pixels'
covariance, on which the linear theory rests. About ten minutes on one CPU core.
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

import vaebook as vb
from experiments.records import RESULTS, fit, read_rows, run_missing, write_text
from vaebook.models.vae import Output

SEEDS = (0, 1, 2)

CURES = {
    "none": {},
    "annealing": {"objective": vb.NegativeELBO(schedule=vb.Warmup(start=0.1, end=0.7))},
    "cyclical": {"objective": vb.NegativeELBO(schedule=vb.Cyclical(cycles=2, rise=1.0))},
    "four cycles": {"objective": vb.NegativeELBO(schedule=vb.Cyclical(cycles=4, rise=1.0))},
    "free bits": {"objective": vb.NegativeELBO(free_bits=0.25)},
    "no view": {"reach": 0},
}
CURE_SETTINGS = {
    "image_size": 14, "train": 6000, "test": 2000, "latent_dim": 8, "hidden": (128, 128, 128),
    "units": 8, "epochs": 20, "batch_size": 128, "lr": 3e-3, "precision": "float32",
}  # fmt: skip

BETAS = (1, 2, 4, 8, 16, 32)
LATENT_DIMS = (2, 4, 8, 16, 32)
PHASE_SETTINGS = {
    "image_size": 14, "train": 6000, "test": 2000, "sigma": 0.2, "hidden": (128,),
    "activation": "relu", "epochs": 24, "batch_size": 128, "lr": 2e-3, "precision": "float32",
}  # fmt: skip
FIRM = 0.1  # active units are those above 0.01; ten times as much is beyond the jitter of training
MEASURED = [
    "loss", "reconstruction", "kl", "active_units", "mutual_information", "marginal_kl", "seconds",
]  # fmt: skip


class Context(nn.Module):
    """What the pixels before each pixel say about it: a logit.

    Pixels come row by row. Each has a small network of its own, with `units` hidden units, which
    sees up to `reach` pixels back (all of them if None).
    """

    def __init__(self, image_shape, units, reach=None):
        super().__init__()
        pixels = math.prod(image_shape)
        self.look = nn.Linear(pixels, pixels * units)
        self.say = nn.Parameter(torch.randn(pixels, units) / units)
        earlier = torch.ones(pixels, pixels).tril(-1)
        if reach is not None:
            earlier = earlier.triu(-reach)
        self.register_buffer("earlier", earlier.repeat_interleave(units, dim=0))

    def forward(self, x):
        weight = self.look.weight * self.earlier
        seen = F.linear(x.flatten(1), weight, self.look.bias).relu()
        return (seen.unflatten(1, self.say.shape) * self.say).sum(-1).view_as(x)


class SeeingVAE(vb.VAE):
    """A VAE whose decoder sees the pixels before the one it draws, and the code."""

    def __init__(self, image_shape, latent_dim, hidden, units, reach=None):
        plain = vb.dense_vae(image_shape, latent_dim, hidden=hidden)
        shared = {"image_shape": image_shape, "latent_dim": latent_dim}
        super().__init__(plain.encoder, plain.decoder, **shared)
        self.context = Context(image_shape, units, reach)

    def forward(self, x):
        mean, log_var = self.encode(x)
        z = self.reparameterize(mean, log_var)
        return Output(self.decode(z) + self.context(x), z, mean, log_var)

    @torch.no_grad()
    def sample(self, n=64):
        """Draw images pixel by pixel, each code from the prior."""
        logits = self.decode(torch.randn(n, self.latent_dim, device=self.device))
        x = torch.zeros_like(logits)
        for i in range(x[0].numel()):
            chance = (logits + self.context(x)).flatten(1)[:, i].sigmoid()
            x.view(n, -1)[:, i] = torch.bernoulli(chance)
        return x


def binarize(images):
    """Return images whose pixels are 1 where they were brighter than half, else 0."""
    return vb.as_images((images.pixels > 127).float(), images.labels)


def kept_directions(eigenvalues, beta, sigma, latent_dim):
    """Return how many latent dimensions a linear VAE keeps: those that beat the noise."""
    return min(latent_dim, sum(value > beta * sigma**2 for value in eigenvalues))


def measure_cure(data, cure, seed, **changed):
    """Train one model of the part ``cures`` and return its row."""
    s = CURE_SETTINGS | changed
    train, test = binarize(data.train[: s["train"]]), binarize(data.test[: s["test"]])
    torch.manual_seed(seed)
    shape = {"hidden": s["hidden"], "units": s["units"], "reach": CURES[cure].get("reach")}
    model = SeeingVAE(data.image_shape, s["latent_dim"], **shape)
    return _train_and_measure(model, train, test, seed, s, CURES[cure].get("objective"))


def measure_cell(data, beta, latent_dim, seed, **changed):
    """Train one model of the part ``phase`` and return its row."""
    s = PHASE_SETTINGS | changed
    torch.manual_seed(seed)
    likelihood = vb.likelihoods.Gaussian(sigma=s["sigma"])
    network = {"hidden": s["hidden"], "activation": s["activation"]}
    model = vb.dense_vae(data.image_shape, latent_dim, likelihood=likelihood, **network)
    train, test = data.train[: s["train"]], data.test[: s["test"]]
    row = _train_and_measure(model, train, test, seed, s, vb.NegativeELBO(beta=beta))
    return row | {"firm_units": int((vb.diagnose(model, test).activity > FIRM).sum())}


def _train_and_measure(model, train, test, seed, settings, objective):
    options = {key: settings[key] for key in ("epochs", "batch_size", "lr", "precision")}
    started = time.perf_counter()
    fit(
        model, train, objective=objective or vb.NegativeELBO(), seed=seed, device="cpu",
        progress=False, **options,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    row = vb.evaluate(model, test)  # with a weight of 1, whatever the training had
    found = vb.diagnose(model, test)
    values = [
        row["loss"], row["reconstruction"], row["kl"], found.active_units,
        found.mutual_information, found.marginal_kl, seconds,
    ]  # fmt: skip
    return dict(zip(MEASURED, (float(f"{value:.6g}") for value in values), strict=True))


CELLS = {
    "cures": [{"cure": cure, "seed": seed} for cure in CURES for seed in SEEDS],
    "phase": [
        {"beta": beta, "latent_dim": latent_dim, "seed": seed}
        for seed in SEEDS for beta in BETAS for latent_dim in LATENT_DIMS
    ],
}  # fmt: skip
MEASURES = {"cures": measure_cure, "phase": measure_cell}


def eigenvalues(images):
    """Return the eigenvalues of the covariance of pixels in [0, 1], the largest first."""
    pixels = vb.data.to_pixels(images.pixels, "cpu").flatten(1).double()
    return torch.linalg.eigvalsh(pixels.T.cov()).flip(0).tolist()


def about(data):
    """Say what was run and on what."""
    seconds = {
        part: sum(float(row["seconds"]) for row in read_rows(RESULTS / f"collapse_{part}.csv"))
        for part in CELLS
    }
    run = vb.devices.provenance(torch.device("cpu"), torch.float32, 0)
    run["seed"] = list(SEEDS)
    values = eigenvalues(data.train[: PHASE_SETTINGS["train"]])
    return {
        "made_by": "python -m experiments.collapse", "data": data.source, "run": run,
        "training_seconds": {part: round(total, 1) for part, total in seconds.items()},
        "cures": {"cures": {k: _plain(v) for k, v in CURES.items()}, **CURE_SETTINGS},
        "phase": {"beta": BETAS, "latent_dim": LATENT_DIMS, **PHASE_SETTINGS},
        "eigenvalues": [float(f"{value:.6g}") for value in values[:64]],
    }  # fmt: skip


def _plain(settings):
    return {k: v if isinstance(v, int) else repr(v) for k, v in settings.items()}


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.collapse", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--part", choices=CELLS, help="run one part only")
    parser.add_argument("--list", action="store_true", help="run nothing, say what is missing")
    arguments = parser.parse_args(argv)
    parts = [arguments.part] if arguments.part else list(CELLS)
    if arguments.list:
        for part in parts:
            done = len(read_rows(RESULTS / f"collapse_{part}.csv"))
            print(f"{part}: {done} of {len(CELLS[part])} runs done")
        return 0
    data = vb.load("mnist", image_size=14)
    for part in parts:
        measure = MEASURES[part]
        path = RESULTS / f"collapse_{part}.csv"
        run_missing(path, CELLS[part], lambda _measure=measure, **cell: _measure(data, **cell))
    text = json.dumps(about(data), indent=1)
    write_text(RESULTS / "collapse.json", text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
