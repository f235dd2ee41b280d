"""A longer run on CIFAR-10, and the Bernoulli floors. Writes vaebook/results/colour*.

    python -m experiments.colour              train, going on where an earlier run stopped
    python -m experiments.colour --part floors
    python -m experiments.colour --list       say what is done and what is missing

Two parts:

* ``floors`` (colour_floors.csv): for each data set at hand, what a Bernoulli cost comes to at the
  very least, exactly, and what the average image as the only answer costs.
* ``long`` (colour.csv): the VAE of the chapter *In colour* with wider networks and convolutions
  beside them, trained on the images, their mirror images, and copies that are cropped, mirrored
  and lit a little differently; then, alone, an addition to its encoder, which looks at the image
  a second time. A row per epoch and split. About an hour on two CPU cores.

The state of the training is in build/colour*.safetensors after each epoch. colour.json tells
settings, versions, data, time and the final figures on the held-out images, by the encoder and
after each image's posterior has been refined by gradient steps.
"""

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

import vaebook as vb
from experiments.records import RESULTS, fit, read_rows, run_missing, write_rows, write_text

STATE = Path(__file__).parents[1] / "build" / "colour.safetensors"
DATASETS = ("mnist", "fashion_mnist", "kmnist", "cifar10", "textures")
SETTINGS = {
    "latent_dim": 80, "axes": 256, "hidden": 768, "channels": 64, "dropout": 0.2, "copies": 48,
    "epochs": 8, "batch_size": 256, "lr": 2e-3, "seed": 0,
}  # fmt: skip
SECOND = {
    "hidden": 512, "draws": 4, "dropout": 0.1, "copies": 10, "epochs": 2, "batch_size": 256,
    "lr": 1e-3, "seed": 1,
}  # fmt: skip
CHANGES = v2.Compose([
    v2.RandomResizedCrop(32, scale=(0.8, 1), ratio=(0.9, 1.1)), v2.RandomHorizontalFlip(),
    v2.ColorJitter(brightness=0.15, contrast=0.15, saturation=0.15),
])  # fmt: skip


class Axes(NamedTuple):
    """The principal components of images: directions, and the variance along each."""

    mean: Tensor  # [pixels]
    directions: Tensor  # [axes, pixels], of length 1
    variance: Tensor  # [axes], the largest first
    total: float  # the variance of all pixels together


def principal_axes(images, count):
    """Return the first principal components of images, by a randomized decomposition."""
    pixels = vb.data.to_pixels(images.pixels, "cpu").flatten(1)
    mean = pixels.mean(dim=0)
    centred = pixels - mean
    torch.manual_seed(0)
    _, values, directions = torch.svd_lowrank(centred, q=count, niter=2)
    variance = values.square() / (len(pixels) - 1)
    return Axes(mean, directions.T.contiguous(), variance, centred.var(dim=0).sum().item())


def silent(layer):
    """Return a layer that answers 0 to everything until it is trained."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def network(into, hidden, out, dropout=0.0):
    """Return a network that answers 0 to everything until it is trained."""
    last = silent(nn.Linear(hidden, out))
    first, second = nn.Linear(into, hidden), nn.Linear(hidden, 2 * hidden)
    first, second = nn.Sequential(first, nn.GELU()), nn.Sequential(second, nn.GLU())
    return nn.Sequential(first, nn.Dropout(dropout), second, nn.Dropout(dropout), last)


class Encoder(nn.Module):
    """What principal components say of the code, and a network that corrects it."""

    def __init__(self, axes, latent_dim, noise, hidden, dropout=0.0):
        super().__init__()
        self.register_buffer("mean", axes.mean)
        self.register_buffer("whiten", axes.directions / axes.variance.sqrt()[:, None])
        unexplained = (noise / axes.variance[:latent_dim]).clamp(max=0.95)
        self.register_buffer("trust", (1 - unexplained).sqrt())
        self.register_buffer("log_var", unexplained.log())
        self.net = network(2 * len(axes.variance), hidden, 2 * latent_dim, dropout)

    def forward(self, x):
        y = F.linear(x.flatten(1) - self.mean, self.whiten)
        mean, log_var = self.net(torch.cat([y, y.abs()], dim=1)).chunk(2, dim=1)
        mean = self.trust * y[:, : len(self.trust)] + mean
        return mean, self.log_var + log_var.clamp(-2, 2)


class Decoder(nn.Module):
    """Pixels from codes: principal components whose size and place a network corrects."""

    def __init__(self, axes, latent_dim, noise, image_shape, hidden, dropout=0.0):
        super().__init__()
        self.latent_dim, self.image_shape = latent_dim, image_shape
        self.draw = nn.Linear(len(axes.variance), len(axes.mean))
        with torch.no_grad():  # four times the distance from mid-grey
            self.draw.weight.copy_(4 * axes.directions.T * axes.variance.sqrt())
            self.draw.bias.copy_(4 * (axes.mean - 0.5))
        unexplained = (noise / axes.variance[:latent_dim]).clamp(max=0.95)
        self.register_buffer("trust", (1 - unexplained).sqrt())
        self.net = network(latent_dim, hidden, latent_dim + len(axes.variance), dropout)

    def forward(self, z):
        contrast, y = self.net(z).tensor_split([self.latent_dim], dim=1)
        own = self.trust * z * contrast.clamp(-2, 2).exp()
        y = y + F.pad(own, (0, y.shape[1] - self.latent_dim))
        return (0.5 + self.draw(y) / 4).unflatten(1, self.image_shape)


class LocalEncoder(nn.Module):
    """An encoder, and convolutions that correct it by what they see in patches of 4×4 pixels."""

    def __init__(self, encoder, image_shape, latent_dim, channels):
        super().__init__()
        self.encoder = encoder
        height, width = (-(-side // 8) for side in image_shape[1:])
        self.local = nn.Sequential(
            nn.Conv2d(image_shape[0], channels, 4, stride=4), nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), nn.GLU(dim=1),
            nn.Flatten(), silent(nn.Linear(channels * height * width, 2 * latent_dim)),
        )  # fmt: skip

    def forward(self, x):
        mean, log_var = self.encoder(x)
        to_mean, to_log_var = self.local(x - 0.5).chunk(2, dim=1)
        return mean + to_mean, log_var + to_log_var.clamp(-2, 2)


class LocalDecoder(nn.Module):
    """A decoder, and convolutions that add to it patches of 4×4 pixels."""

    def __init__(self, decoder, image_shape, latent_dim, channels):
        super().__init__()
        self.decoder = decoder
        maps = (channels, image_shape[1] // 4, image_shape[2] // 4)
        self.local = nn.Sequential(
            nn.Linear(latent_dim, math.prod(maps)), nn.Unflatten(1, maps), nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.GLU(dim=1),
            silent(nn.ConvTranspose2d(channels, image_shape[0], 4, stride=4)),
        )  # fmt: skip

    def forward(self, z):
        return self.decoder(z) + self.local(z)


class Finished(nn.Module):
    """A network that is trained no more: it has no gradients of its own and no dropout."""

    def __init__(self, network):
        super().__init__()
        self.network = network.requires_grad_(False)

    def train(self, mode=True):
        return super().train(False)

    def forward(self, given):
        return self.network(given)


class SecondLook(nn.Module):
    """An encoder that sees which way its first answer is wrong, and corrects it.

    A step of iterative amortized inference (Marino et al. 2018): the gradient of the cost by the
    mean, at a few draws that are always the same, goes through a matrix and, with the first answer,
    through a network.
    """

    def __init__(self, encoder, decoder, latent_dim, hidden, draws=4, dropout=0.0):
        super().__init__()
        self.first = Finished(encoder)
        self.decoder = [decoder]  # a part of the model already, and not of this one
        noise = torch.randn(draws // 2, 1, latent_dim)
        self.register_buffer("noise", torch.cat([noise, -noise]))
        self.step = nn.Linear(latent_dim, latent_dim, bias=False)
        with torch.no_grad():
            self.step.weight.copy_(0.2 * torch.eye(latent_dim))
        self.net = network(4 * latent_dim, hidden, 2 * latent_dim, dropout)

    def forward(self, x):
        with torch.no_grad():
            mean, log_var = self.first(x)
        std = (0.5 * log_var).exp()
        with torch.enable_grad():
            at = mean.detach().requires_grad_()
            logits = self.decoder[0]((at + std * self.noise).flatten(0, 1))
            images = x.expand(len(self.noise), *x.shape).flatten(0, 1)
            misfit = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
            (slope,) = torch.autograd.grad(misfit / len(self.noise) + at.square().sum() / 2, at)
        down = -std * slope
        seen = torch.cat([down, down.abs(), mean, log_var], dim=1)
        to_mean, to_log_var = self.net(seen).chunk(2, dim=1)
        return mean + std * (self.step(down) + to_mean), log_var + to_log_var.clamp(-2, 2)


class Logits(nn.Module):
    """Pixels as logits: the first two terms of the series of log m − log (1 − m) at ½."""

    def forward(self, pixels):
        u = (4 * (pixels - 0.5)).clamp(-5, 5)
        return u + u**3 / 12


def colour_vae(train, likelihood="bernoulli", **changed):
    """Return a VAE that starts as the principal components of the images that it will see."""
    s = SETTINGS | changed
    axes = principal_axes(train, s["axes"])
    if likelihood == "bernoulli":
        pixels = vb.data.to_pixels(train.pixels, "cpu")
        noise = (pixels * (1 - pixels)).mean().item()
    else:
        explained = axes.variance[: s["latent_dim"]].sum().item()
        noise = (axes.total - explained) / (len(axes.mean) - s["latent_dim"])
    shared = {"image_shape": train.image_shape, "latent_dim": s["latent_dim"]}
    torch.manual_seed(s["seed"])
    nets = {"hidden": s["hidden"], "dropout": s["dropout"]}
    encoder = Encoder(axes, s["latent_dim"], noise, **nets)
    decoder = Decoder(axes, s["latent_dim"], noise, train.image_shape, **nets)
    if s["channels"]:
        size = (train.image_shape, s["latent_dim"], s["channels"])
        encoder, decoder = LocalEncoder(encoder, *size), LocalDecoder(decoder, *size)
    if likelihood == "bernoulli":
        decoder = nn.Sequential(decoder, Logits())
    # Enough for `fit` to keep a checkpoint, which only this module can read.
    config = {"builder": "experiments.colour", **shared}
    config |= {key: s[key] for key in ("axes", "hidden", "channels", "dropout")}
    model = vb.VAE(encoder, decoder, **shared, likelihood=likelihood)
    model.config = config
    return model


def rate(highest, done, rise=0.05):
    """Return the learning rate: a quick rise, then a straight line to 0."""
    return highest * min(1, 0.01 + done / rise) * (1 - done)


def varied(images, copies, seed=0):
    """Return the images, each one mirrored, and copies that differ a little from image to image."""
    torch.manual_seed(seed)
    many = [images.pixels, images.pixels.flip(3)]
    for _ in range(copies):  # a few images at a time are changed alike
        many.append(torch.cat([CHANGES(few) for few in images.pixels.split(20)]))
    return vb.as_images(torch.cat(many))


def measure_long(data, state, **changed):
    """Train, or go on training, the long run; return its model and its history."""
    s = SETTINGS | changed
    model = colour_vae(data.train, **changed)
    history = fit(
        model, varied(data.train, s["copies"]), validation=data.test, epochs=s["epochs"],
        batch_size=s["batch_size"], lr=lambda done: rate(s["lr"], done), seed=s["seed"],
        device="cpu", checkpoint=state, resume=True,
    )  # fmt: skip
    return model, history


def look_twice(model, data, state, **changed):
    """Give a trained model an encoder that looks twice, and train that part alone."""
    s = SECOND | changed
    sizes = (model.latent_dim, s["hidden"], s["draws"], s["dropout"])
    torch.manual_seed(s["seed"])
    model.encoder = SecondLook(model.encoder, model.decoder, *sizes)
    model.decoder = Finished(model.decoder)
    model.config |= {"second": s}
    return fit(
        model, varied(data.train, s["copies"], s["seed"]), validation=data.test,
        epochs=s["epochs"], batch_size=s["batch_size"], lr=lambda done: rate(s["lr"], done),
        seed=s["seed"], device="cpu", checkpoint=state, resume=True,
    )  # fmt: skip


def refined(model, images, steps=80):
    """Return the mean cost, and the mean cost after gradient steps on each image's posterior.

    What the second is lower by is the encoder's share of the bound's gap: one network answers for
    all images, and answers a little worse than a search for this one image would.
    """
    model.requires_grad_(False)
    totals = torch.zeros(2)
    for pixels in images.pixels.split(500):
        x = vb.data.to_pixels(pixels, "cpu")
        mean, log_var = (answer.clone() for answer in model.encode(x))

        def cost(draws, x=x, mean=mean, log_var=log_var):
            z = (model.reparameterize(mean, log_var) for _ in range(draws))
            fits = (model.likelihood.log_prob(model.decode(code), x).mean() for code in z)
            return vb.kl_to_prior(mean, log_var).mean() - sum(fits) / draws

        def measured():
            torch.manual_seed(0)
            with torch.no_grad():
                return cost(draws=8).item()

        found = [measured()]
        adam = torch.optim.Adam([mean.requires_grad_(), log_var.requires_grad_()])
        for step in range(steps):
            adam.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
            adam.zero_grad()
            (len(x) * cost(draws=1)).backward()
            adam.step()
        totals += len(x) * torch.tensor([*found, measured()])
    model.requires_grad_(True)
    return (totals / len(images)).tolist()


def measure_floor(dataset, **options):
    """Return what a Bernoulli cost comes to at least, and with the average image as the answer."""
    data = vb.load(dataset, download=False, **options)
    row = {"train": len(data.train), "test": len(data.test)}
    average = vb.data.to_pixels(data.train.pixels, "cpu").mean(dim=0).clamp(1e-4, 1 - 1e-4)
    for split, images in (("train", data.train), ("test", data.test)):
        row[f"floor_{split}"] = _round(vb.bernoulli_floor(images))
    x = vb.data.to_pixels(data.test.pixels, "cpu")
    cost = F.binary_cross_entropy(average.expand_as(x), x, reduction="sum") / len(x)
    return row | {"average_image": _round(cost.item()), "source": data.source}


def _round(value):
    return float(f"{value:.7g}")


def about(data, model, histories):
    """Say what was run and on what, and what came of it."""
    found = vb.evaluate(model, data.test)
    here, searched = refined(model, data.test)
    first, history = histories.values()
    last = history.last("train")
    seconds = sum(row["seconds"] for h in histories.values() for row in h.rows)
    return {
        "made_by": "python -m experiments.colour", "data": data.source,
        "run": history.provenance, "training_seconds": round(seconds, 1),
        "settings": SETTINGS, "second_look": SECOND,
        "parameters": sum(p.numel() for p in model.parameters()),
        "images_per_epoch": len(data.train) * (2 + SETTINGS["copies"]),
        "test_images": len(data.test),
        "search": {"before": _round(here), "after": _round(searched)},
        "first_look_test_loss": _round(first.last()["loss"]),
        "test": {key: _round(found[key]) for key in ("loss", "reconstruction", "kl")},
        "train": {key: _round(last[key]) for key in ("loss", "reconstruction", "kl")},
        "floor_test": _round(vb.bernoulli_floor(data.test)),
        "floor_train": _round(vb.bernoulli_floor(data.train)),
        "active_units": vb.diagnose(model, data.test[:2000]).active_units,
    }  # fmt: skip


def run_floors():
    """Measure the floors of those data sets that are at hand and have no row yet."""
    path = RESULTS / "colour_floors.csv"
    for name in DATASETS:
        try:
            run_missing(path, [{"dataset": name}], measure_floor)
        except FileNotFoundError:
            print(f"{name}: not at hand")


def run_long(state=STATE):
    """Train as far as it has not been trained, and write what was measured."""
    data = vb.load("cifar10")
    model, history = measure_long(data, state)
    second = look_twice(model, data, state.with_name("colour_second.safetensors"))
    histories = {"whole model": history, "second look": second}
    keys = ("loss", "reconstruction", "kl", "seconds")
    rows = [
        {"trained": name, "epoch": row["epoch"], "split": row["split"]}
        | {key: _round(row[key]) for key in keys}
        for name, each in histories.items() for row in each.rows
    ]  # fmt: skip
    write_rows(RESULTS / "colour.csv", rows)
    text = json.dumps(about(data, model, histories), indent=1)
    write_text(RESULTS / "colour.json", text + "\n")


PARTS = {"floors": run_floors, "long": run_long}


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.colour", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--part", choices=PARTS, help="run one part only")
    parser.add_argument("--list", action="store_true", help="run nothing, say what is missing")
    arguments = parser.parse_args(argv)
    parts = [arguments.part] if arguments.part else list(PARTS)
    for part in parts:
        if not arguments.list:
            PARTS[part]()
        elif part == "floors":
            done = {row["dataset"] for row in read_rows(RESULTS / "colour_floors.csv")}
            print("floors: missing", ", ".join(n for n in DATASETS if n not in done) or "none")
        else:
            rows = read_rows(RESULTS / "colour.csv")
            done = len(rows) // 2  # a row for each split
            print(f"long: {done} of {SETTINGS['epochs'] + SECOND['epochs']} epochs in the results")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
