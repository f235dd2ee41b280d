"""The contenders: each trains a model and returns its seconds, as its user would meet them.

All of them train the same network, of PyTorch's own layers; `vaebook.fit` lends it faster ones.
"""

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

import vaebook as vb
from experiments.records import fit

NETWORKS = {
    "conv": lambda shape: vb.conv_vae(shape, latent_dim=128),
    "dense": lambda shape: vb.dense_vae(shape, latent_dim=20, hidden=(400,), activation="relu"),
}


def since(started):
    """Return the seconds since then, when the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def negative_elbo(model, x):
    """Return the loss as one writes it by hand, averaged over the batch."""
    mean, log_var = model.encoder(x)
    z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    reconstruction = F.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="sum")
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
    return (reconstruction + kl) / len(x)


def vaebook(network, images, batch_size, precision="auto"):
    """Call `vaebook.fit`."""
    model = NETWORKS[network](images.image_shape)
    started = time.perf_counter()
    fit(model, images, epochs=1, batch_size=batch_size, precision=precision, progress=False)
    return since(started)


def float32(network, images, batch_size):
    """Call `vaebook.fit` without mixed precision."""
    return vaebook(network, images, batch_size, precision="float32")


def loop(network, images, batch_size):
    """Run a hand-written loop over float32 pixels that are on the device beforehand."""
    device = vb.pick_device()
    pixels = vb.data.to_pixels(images.pixels, device)
    model = NETWORKS[network](images.image_shape).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    started = time.perf_counter()
    order = torch.randperm(len(pixels), device=device)
    for start in range(0, len(pixels), batch_size):
        loss = negative_elbo(model, pixels[order[start : start + batch_size]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return since(started)


class Pictures(MNIST):
    """Images in memory that leave it as torchvision's MNIST has them: one by one, through PIL."""

    def __init__(self, images):
        self.data = images.pixels[:, 0]
        self.targets = torch.zeros(len(images)) if images.labels is None else images.labels
        self.transform, self.target_transform = ToTensor(), None


def recipe_epochs(model, images, batch_size, workers, test=None):
    """Train as most tutorials do, without end; yield after each epoch the test loss, if any."""
    device = vb.pick_device()
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters())
    options = dict(batch_size=batch_size, num_workers=workers, pin_memory=device.type == "cuda")
    train = DataLoader(Pictures(images), shuffle=True, **options)
    held_out = test and DataLoader(Pictures(test), **options)
    while True:
        model.train()
        shown = 0.0
        for x, _ in train:
            x = x.to(device)
            loss = negative_elbo(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            shown += loss.item() * len(x)
        if held_out:
            model.eval()
            with torch.no_grad():
                sums = [negative_elbo(model, x.to(device)).item() * len(x) for x, _ in held_out]
        yield sum(sums) / len(test) if held_out else None


def recipe(network, images, batch_size, workers=0, test=None):
    """Run one epoch of the recipe, with a test pass if there are images for it."""
    model = NETWORKS[network](images.image_shape)
    epochs = recipe_epochs(model, images, batch_size, workers, test)
    started = time.perf_counter()
    next(epochs)
    return since(started)


WORKERS = {}  # of the recipe's DataLoader, by network


def best_workers(network, images):
    """Return the number of workers with which the recipe is fastest, found once per network."""
    if network not in WORKERS:
        counts = [count for count in (0, 1, 2, 4, 8) if count <= (os.cpu_count() or 1)]
        seconds = {count: [] for count in counts}
        for _ in range(3):
            for count in counts:
                seconds[count].append(recipe(network, images[:2560], 128, count))
        WORKERS[network] = min(counts, key=lambda count: statistics.median(seconds[count]))
    return WORKERS[network]


def with_test_pass(network, images, batch_size, test, epochs, seed):
    """Call `vaebook.fit` with a test pass after each epoch; return its seconds, and the loss."""
    torch.manual_seed(seed)
    model = NETWORKS[network](images.image_shape)
    options = dict(batch_size=batch_size, validation=test, seed=seed, progress=False)
    started = time.perf_counter()
    history = fit(model, images, epochs=epochs, **options)
    return since(started), history.last()["loss"]


def pythae(network, images, batch_size):
    """Call pythae's `BaseTrainer.train`."""
    from benchmarks.with_pythae import trainer_of  # not needed for the other contenders

    trainer = trainer_of(NETWORKS[network](images.image_shape), images, batch_size)
    started = time.perf_counter()
    trainer.train()
    return since(started)


def timed(name, seed, *given):
    """Let a contender train from a seed; return its seconds."""
    torch.manual_seed(seed)
    return CONTENDERS[name](*given)


@cache
def process(name):
    """Return a contender's own process: what one makes of its process is not for the others."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def apart(name, work, *given):
    """Return what a function returns in a contender's own process."""
    return process(name).submit(work, *given).result()


CONTENDERS = dict(vaebook=vaebook, float32=float32, loop=loop, recipe=recipe, pythae=pythae)
