"""The same layers in pythae, https://github.com/clementchadebec/benchmark_VAE."""

import logging
import tempfile

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import CallbackHandler

import vaebook as vb

FOLDER = tempfile.TemporaryDirectory()  # for the models that it saves, until this process ends


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


def model_of(ours):
    """Return pythae's VAE of a model's layers."""
    config = VAEConfig(ours.image_shape, ours.latent_dim, reconstruction_loss="bce")
    return VAE(config, Encoder(ours.encoder), Decoder(ours.decoder))


def trainer_of(ours, images, batch_size, lr=1e-3, seed=8):
    """Return a trainer of a model's layers for one epoch."""
    logging.disable(logging.INFO)  # it tells much
    model = model_of(ours)
    pixels = vb.data.to_pixels(images.pixels, "cpu")
    trainer = BaseTrainer(
        model,
        BaseDataset(pixels, torch.zeros(len(pixels))),
        training_config=BaseTrainerConfig(
            output_dir=FOLDER.name, num_epochs=1, learning_rate=lr, seed=seed,
            per_device_train_batch_size=batch_size,
        ),
    )  # fmt: skip
    trainer.callback_handler = CallbackHandler([], model)
    trainer._setup_callbacks = lambda: None  # no progress bar: nobody here shows one
    return trainer
