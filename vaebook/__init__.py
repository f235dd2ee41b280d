"""vaebook: variational autoencoders in PyTorch, small enough to read in an evening.

>>> import vaebook as vb
>>> data = vb.load("digits")
>>> model = vb.conv_vae(data.image_shape, latent_dim=2)
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from vaebook import fidelity, likelihoods
from vaebook.checkpoints import load_model, save
from vaebook.conditional import ConditionalVAE, conditional_vae
from vaebook.data import Dataset, Images, as_images, load
from vaebook.devices import pick_device
from vaebook.evaluation import (
    Diagnosis,
    LogLikelihood,
    bernoulli_floor,
    bits_per_dimension,
    diagnose,
    linear_accuracy,
    log_likelihood,
    neighbour_accuracy,
)
from vaebook.export import export_onnx
from vaebook.hierarchical import LadderVAE, kl_normal, kl_per_level, ladder_vae
from vaebook.layers import summary
from vaebook.objectives import (
    Cyclical,
    ImportanceWeighted,
    NegativeELBO,
    Terms,
    Warmup,
    importance_bound,
    kl_to_prior,
)
from vaebook.sampling import (
    decode,
    embed,
    interpolate,
    posterior,
    reconstruct,
    sample_density,
    sample_posterior,
    sample_prior,
    traversal,
)
from vaebook.training import History, evaluate, fit
from vaebook.vae import VAE, Draws, conv_vae, dense_vae, kl_per_dimension, layered_vae
from vaebook.zoo import pretrained, pretrained_card

__all__ = [
    "VAE", "ConditionalVAE", "Cyclical", "Dataset", "Diagnosis", "Draws", "History", "Images",
    "ImportanceWeighted", "LadderVAE", "LogLikelihood", "NegativeELBO", "Terms", "Warmup",
    "as_images", "bernoulli_floor", "bits_per_dimension", "conditional_vae", "conv_vae", "decode",
    "dense_vae", "diagnose", "embed", "evaluate", "export_onnx", "fidelity", "fit", "from_scratch",
    "importance_bound", "interpolate", "kl_normal", "kl_per_dimension", "kl_per_level",
    "kl_to_prior", "ladder_vae", "layered_vae", "likelihoods", "linear_accuracy", "load",
    "load_model", "log_likelihood", "neighbour_accuracy", "pick_device", "plot", "posterior",
    "pretrained", "pretrained_card", "reconstruct", "sample_density", "sample_posterior",
    "sample_prior", "save", "summary", "traversal",
]  # fmt: skip
__version__ = version("vaebook")


def __getattr__(name: str) -> Any:
    """Import `plot`, and with it matplotlib, and `from_scratch` only when they are used."""
    if name in ("plot", "from_scratch"):
        return import_module(f"vaebook.{name}")
    raise AttributeError(f"module 'vaebook' has no attribute {name!r}")
