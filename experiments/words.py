"""VQ-VAEs, continuous VAEs of the same networks that cost as many nats, and their files.

    python -m experiments.words              run what is missing, cell by cell
    python -m experiments.words --part models
    python -m experiments.words --list       say what is done and what is missing

Two parts, each on MNIST and on CIFAR-10 with seeds 0, 1 and 2, which decide weights and draws:

* ``models`` (words_models.csv): a VQ-VAE, the same without new vectors for words that die out, and
  continuous VAEs with Gaussian codes on the same grid, between the same networks, whose KL weighs
  less and less. What does a code cost under the model's own prior, and under one that was fitted
  to codes of training images? How far are decoded images, and samples, from the test images?
* ``files`` (words_files.csv): 1,000 test images, written with the VQ-VAE's prior by an entropy
  coder and read again, beside WebP and PNG at the same squared error.

The rate, the numbers of words and the prior's steps were tried for VQ-VAEs only, on MNIST by its
test images and on CIFAR-10 by the last training images, on which nothing is trained but the judge;
the weights of the KL were chosen so that their nats lie around those of the words. A row is written
when its cell ends, so that an interrupted experiment goes on where it stopped. words.json tells
settings, versions and data.
"""

import io
import math
import time
from datetime import date
from functools import cache

import constriction
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import vaebook as vb
from experiments.records import RUNS, fit, run_parts
from vaebook.models import quantized
from vaebook.priors import Autoregressive, Mixture

SEEDS = (0, 1, 2)
BETAS = {"mnist": (0.05, 0.1, 0.2), "cifar10": (0.5, 1.0, 2.0)}
SETTINGS = {
    "mnist": {"codebook": 64, "width": 32, "epochs": 2, "prior": (256, 3000), "channels": 4},
    "cifar10": {"codebook": 128, "width": 48, "epochs": 4, "prior": (128, 1500), "channels": 4},
}
BATCH, LR, PRIOR_LR, PRIOR_BATCH = 64, 4e-3, 4e-3, 64
TEST, FILES = 4000, 1000  # test images: all, and those written into a file
JUDGED_BY, CODES = 10_000, 20_000  # training images: the judge's, and those of a Gaussian's codes
CATEGORICAL = constriction.stream.model.Categorical(perfect=False)


def training_of(dataset):
    """Return the training images without those on which settings were tried."""
    return vb.load(dataset).train[:-2000]


@cache
def judge_of(dataset):
    """Return a judge, and its features of the test images."""
    train, test = vb.load(dataset).train, vb.load(dataset).test[:TEST]
    judge = vb.fidelity.train_judge(train[-JUDGED_BY:], device="cpu", progress=False)
    return judge, vb.fidelity.features(judge, test)


def likelihood_of(dataset):
    return "bernoulli" if dataset == "mnist" else vb.likelihoods.Gaussian(sigma=0.1)


def train(model, dataset, seed, epochs, **options):
    """Train a model at a rate that falls to 0."""
    fit(
        model, training_of(dataset), epochs=epochs, batch_size=BATCH,
        lr=lambda done: LR * (1 - done), seed=seed, device="cpu", precision="float32",
        progress=False, **options,
    )  # fmt: skip
    return model


@cache
def discrete(dataset, seed, revive=True):
    """Train a VQ-VAE, or read it."""
    s = SETTINGS[dataset]
    torch.manual_seed(seed)
    model = vb.vq_vae(
        vb.load(dataset).image_shape, codebook=s["codebook"], width=s["width"],
        likelihood=likelihood_of(dataset),
    )  # fmt: skip
    dead, quantized.DEAD = quantized.DEAD, quantized.DEAD if revive else 0.0
    name = f"words-{dataset}-{seed}{'' if revive else '-never'}.safetensors"
    train(model, dataset, seed, s["epochs"], resume=True, checkpoint=RUNS / name)
    quantized.DEAD = dead
    return model


@cache
def prior_of(dataset, seed):
    """Fit a prior to the words of training images."""
    s, model = SETTINGS[dataset], discrete(dataset, seed)
    width, steps = s["prior"]
    return Autoregressive(model.codebook.grid, s["codebook"], width=width).fit(
        vb.embed(model, training_of(dataset)), steps=steps, batch_size=PRIOR_BATCH, lr=PRIOR_LR,
        seed=seed, progress=False,
    )  # fmt: skip


class GridEncoder(nn.Module):
    """The encoder of a VQ-VAE, with a mean and a log-variance for each number of each place."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        mean, log_var = self.network(x).chunk(2, dim=1)
        return mean.flatten(1), log_var.flatten(1)


def continuous(dataset, seed, beta):
    """Train a VAE whose codes are Gaussian, between the networks of the VQ-VAE; and a prior."""
    s, shape = SETTINGS[dataset], vb.load(dataset).image_shape
    torch.manual_seed(seed)
    up, down = (
        vb.vq_vae(shape, width=s["width"], dim=numbers * s["channels"]) for numbers in (1, 2)
    )
    grid = (s["channels"], *up.codebook.grid)
    model = vb.VAE(
        GridEncoder(down.encoder), nn.Sequential(nn.Unflatten(1, grid), up.decoder[1:]),
        image_shape=shape, latent_dim=s["channels"] * up.latent_dim,
        likelihood=likelihood_of(dataset),
    )  # fmt: skip
    train(model, dataset, seed, s["epochs"], objective=vb.NegativeELBO(beta=beta))
    codes = vb.sample_posterior(model, training_of(dataset)[:CODES], seed=seed)
    return model, Mixture(1).fit(codes)


def perplexity(words, size):
    """Return how many words a code would choose from, if all were used alike."""
    shares = np.bincount(words.astype(int).ravel(), minlength=size) / words.size
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def models(dataset, seed, model):
    """Return nats, errors and distances of a kind of model, on test images."""
    begun, prior = time.process_time(), None
    kind, _, beta = model.partition(", β = ")
    if kind == "continuous":
        made, prior = continuous(dataset, seed, float(beta))
    elif kind == "VQ-VAE":
        made, prior = discrete(dataset, seed), prior_of(dataset, seed)
    else:
        made = discrete(dataset, seed, revive=False)
    seconds = time.process_time() - begun
    test, (judge, real) = vb.load(dataset).test[:TEST], judge_of(dataset)
    pixels, score = vb.data.to_pixels(test.pixels, "cpu"), vb.evaluate(made, test, seed=seed)
    z = vb.sample_posterior(made, test, seed=seed + 100)
    row = {"nats": f"{score['kl']:.3f}", "nats_fitted": "", "perplexity": ""}
    if kind == "continuous":
        saved = prior.log_prob(z) - torch.distributions.Normal(0, 1).log_prob(z).sum(1)
        row["nats_fitted"] = f"{score['kl'] - saved.mean():.3f}"
    else:
        size = SETTINGS[dataset]["codebook"]
        row["perplexity"] = f"{perplexity(z.numpy(), size):.2f}"
        row["nats_fitted"] = f"{-prior.log_prob(z).mean():.3f}" if prior else ""
    row["reconstruction"] = f"{score['reconstruction']:.3f}"
    images = {
        "means": vb.reconstruct(made, test), "draws": vb.decode(made, z),
        "own_prior": vb.decode(made, vb.sample_prior(made, len(test), seed=seed)),
        "fitted_prior": vb.decode(made, prior.sample(len(test), seed=seed)) if prior else None,
    }  # fmt: skip
    for name in ("means", "draws"):
        row[f"error_{name}"] = f"{(images[name] - pixels).square().mean():.6f}"
    for name, given in images.items():
        found = None if given is None else vb.fidelity.features(judge, given)
        distance = "" if found is None else f"{vb.fidelity.frechet_distance(real, found):.3f}"
        row[f"distance_{name}"] = distance
    return row | {"seconds": round(seconds, 1)}


def write(prior, words):
    """Return a file of codes: the 32-bit numbers of an entropy coder."""
    encoder = constriction.stream.queue.RangeEncoder()
    for place in range(words.shape[1]):
        chances = prior.conditional(words, place).double().numpy()
        encoder.encode(words[:, place].int().numpy(), CATEGORICAL, chances)
    return encoder.get_compressed()


def read(prior, content, n):
    """Return the `n` codes of a file that `write` made."""
    decoder = constriction.stream.queue.RangeDecoder(content)
    words = torch.zeros(n, math.prod(prior.grid))
    for place in range(words.shape[1]):
        chances = prior.conditional(words, place).double().numpy()
        words[:, place] = torch.from_numpy(decoder.decode(CATEGORICAL, chances))
    return words


def picture(pixels):
    """Return pixels [channels, height, width] as a picture of 8 bits."""
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy())


def sheet(pixels, side):
    """Return images side by side in one, 40 to a row, each on a black square of a `side`."""
    margin = side - pixels.shape[-1]
    rows = F.pad(pixels, (0, margin, 0, margin)).split(40)
    return torch.cat([torch.cat([*row], 2) for row in rows], 1)


def compressed(pixels, **how):
    """Return the bytes of a picture's file, and the pixels that it gives back."""
    file = io.BytesIO()
    picture(pixels).save(file, **how)
    back = np.asarray(Image.open(file).convert("L" if len(pixels) == 1 else "RGB"))
    back = torch.from_numpy(back.copy()).float().view(*pixels.shape[1:], -1).permute(2, 0, 1) / 255
    return file.tell(), back


def webp(pictures, error):
    """Return bytes and error of pictures at the lowest quality of WebP that errs no more."""
    for quality in range(101):
        files = [compressed(one, format="WEBP", quality=quality, method=6) for one in pictures]
        sizes, back = zip(*files, strict=True)
        found = mean_error(pictures, back)
        if found <= error:
            return sum(sizes), found
    raise ValueError(f"error: expected one that WebP can keep to, got {error}")


def png(pictures, error):
    """Return bytes and error of pictures as PNG, with the fewest levels that err no more."""
    for levels in range(2, 257):
        rounded = [(one * (levels - 1)).round() / (levels - 1) for one in pictures]
        found = mean_error(pictures, rounded)
        if found <= error:
            return sum(compressed(one, format="PNG", optimize=True)[0] for one in rounded), found
    raise ValueError(f"error: expected one that 256 levels can keep to, got {error}")


def mean_error(pictures, others):
    """Return the squared error per pixel of all pictures together."""
    errors = [(a - b).square().mean().item() for a, b in zip(pictures, others, strict=True)]
    return float(np.mean(errors))


def files(dataset, seed):
    """Return bytes for each test image: predicted, written, and those of WebP and PNG.

    The sheets have the images edge to edge or, if that is smaller, on squares of 32 pixels, which
    are whole blocks of WebP. There the error counts the margins, too, in which there is none.
    """
    model, prior = discrete(dataset, seed), prior_of(dataset, seed)
    images = vb.load(dataset).test[:FILES]
    pixels = vb.data.to_pixels(images.pixels, "cpu")
    words = torch.from_numpy(vb.embed(model, images))
    content = write(prior, words)
    again = read(prior, content, len(words))
    assert torch.equal(again, words), "the file gives other words"
    error = (vb.decode(model, again) - pixels).square().mean().item()
    row = {
        "error": error, "predicted": -prior.log_prob(words).mean().item() / math.log(2) / 8,
        "written": content.nbytes / len(words),
    }  # fmt: skip
    side = pixels.shape[-1]
    for name, kind in (("webp", webp), ("png", png)):
        row[f"{name}_each"], row[f"error_{name}_each"] = kind([*pixels], error)
        sheets = (kind([sheet(pixels, n)], error * (side / n) ** 2) for n in {side, 32})
        row[f"{name}_sheet"], _ = min(sheets)
        for way in ("each", "sheet"):
            row[f"{name}_{way}"] /= len(pixels)
    return {name: f"{value:.6f}" for name, value in row.items()}


PARTS = {
    "models": (models, [
        {"dataset": dataset, "seed": seed, "model": model}
        for dataset in SETTINGS for seed in SEEDS
        for model in (
            "VQ-VAE", "VQ-VAE, none revived",
            *(f"continuous, β = {beta:g}" for beta in BETAS[dataset]),
        )
    ]),
    "files": (files, [
        {"dataset": dataset, "seed": seed} for dataset in SETTINGS for seed in SEEDS
    ]),
}  # fmt: skip


def about():
    """Return what words.json says."""
    return {
        "data": {dataset: vb.load(dataset).source for dataset in SETTINGS},
        "settings": SETTINGS, "batch_size": BATCH, "lr": LR, "prior_lr": PRIOR_LR,
        "prior_batch_size": PRIOR_BATCH, "test_images": TEST, "files_of": FILES,
        "date": date.today().isoformat(),
        **vb.provenance(torch.device("cpu"), torch.float32, SEEDS[0]), "seed": SEEDS,
    }  # fmt: skip


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    return run_parts("words", __doc__, PARTS, about, argv)


if __name__ == "__main__":
    raise SystemExit(main())
