"""Images per second in training: vaebook against its peers, on one network in one run.

    make bench

Three contenders train the convolutional VAE with 128 latent dimensions for one epoch, in turn and
several times over, so that a machine whose speed drifts treats them alike:

* ``vaebook``: `vaebook.fit`;
* ``loop``: a hand-written loop over pixels that were converted to float32 beforehand;
* ``pythae``: pythae's `BaseTrainer.train`, with the same layers as its encoder and decoder.

Each is timed as its user calls it, from an untrained model and tensors in memory to the end.

What counts are the ratios. The table is printed and written to ``benchmarks/results.json``.
"""

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import CallbackHandler

import vaebook as vb

LATENT_DIM = 128


def time_vaebook(images, batch_size):
    model = vb.conv_vae(images.image_shape, LATENT_DIM)
    started = time.perf_counter()
    vb.fit(model, images, epochs=1, batch_size=batch_size, progress=False)
    return time.perf_counter() - started


def time_loop(images, batch_size):
    device = vb.pick_device()
    pixels = vb.data.to_pixels(images.pixels, device)
    model = vb.conv_vae(images.image_shape, LATENT_DIM).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.perf_counter()
    order = torch.randperm(len(pixels), device=device)
    for start in range(0, len(pixels), batch_size):
        x = pixels[order[start : start + batch_size]]
        mean, log_var = model.encoder(x)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        logits = model.decoder(z)
        reconstruction = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, x, reduction="sum"
        )
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
        loss = (reconstruction + kl) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


class Encoder(BaseEncoder):
    """Our encoder, as pythae wants one."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        mean, log_var = self.encoder(x)
        return ModelOutput(embedding=mean, log_covariance=log_var)


class Decoder(BaseDecoder):
    """Our decoder, as pythae wants one: it returns pixels, not logits."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z):
        return ModelOutput(reconstruction=self.decoder(z).sigmoid())


def time_pythae(images, batch_size):
    ours = vb.conv_vae(images.image_shape, LATENT_DIM)
    config = VAEConfig(images.image_shape, LATENT_DIM, reconstruction_loss="bce")
    model = VAE(config, Encoder(ours.encoder), Decoder(ours.decoder))
    pixels = vb.data.to_pixels(images.pixels, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model,
            BaseDataset(pixels, torch.zeros(len(pixels))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=1,
                learning_rate=1e-3,
                per_device_train_batch_size=batch_size,
            ),
        )
        trainer.callback_handler = CallbackHandler([], model)
        trainer._setup_callbacks = lambda: None  # no progress bar: nobody here shows one
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


CONTENDERS = {"vaebook": time_vaebook, "loop": time_loop, "pythae": time_pythae}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", help="a data set's name or a path")
    parser.add_argument("--images", type=int, default=12_800, help="images in an epoch")
    parser.add_argument("--batch-size", type=int, default=128, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="epochs of each contender")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)

    data = vb.load(arguments.data, offline="textures")
    images = data.train[: arguments.images]
    speeds = {name: [] for name in CONTENDERS}
    for repeat in range(-1, arguments.repeats):  # the first round warms up
        for name, contender in CONTENDERS.items():
            torch.manual_seed(repeat)
            seconds = contender(images, arguments.batch_size)
            if repeat >= 0:
                speeds[name].append(len(images) / seconds)

    print(f"{data.source}; {len(images):,} images an epoch, batches of {arguments.batch_size}")
    print(f"{'':<10}{'images/s':>10}{'lowest':>10}{'highest':>10}{'vaebook is':>14}")
    report = {"settings": vars(arguments), "data": data.source, "contenders": {}}
    for name, runs in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["vaebook"], runs, strict=True)]
        ratio = statistics.median(ratios)
        middle = statistics.median(runs)
        print(
            f"{name:<10}{middle:>10,.0f}{min(runs):>10,.0f}{max(runs):>10,.0f}{ratio:>8.2f} times"
        )
        report["contenders"][name] = {"images_per_second": runs, "median_ratio": ratio}
    report["provenance"] = {
        "processor": platform.processor() or platform.machine(),
        "device": str(vb.pick_device()),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    path = Path(__file__).with_name("results.json")
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()
