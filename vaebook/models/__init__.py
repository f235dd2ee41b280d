"""The models: plain PyTorch, which knows nothing of training, devices or speed."""

from vaebook.models.conditional import ConditionalVAE, conditional_vae
from vaebook.models.conv import conv_vae
from vaebook.models.dense import dense_vae
from vaebook.models.ladder import LadderVAE, kl_normal, ladder_vae
from vaebook.models.layered import layered_vae
from vaebook.models.quantized import VQVAE, vq_vae
from vaebook.models.registry import register
from vaebook.models.summary import summary
from vaebook.models.vae import VAE, DecoderNetwork, Draws, EncoderNetwork, Output, kl_per_dimension

__all__ = [
    "VAE", "VQVAE", "ConditionalVAE", "DecoderNetwork", "Draws", "EncoderNetwork", "LadderVAE",
    "Output", "conditional_vae", "conv_vae", "dense_vae", "kl_normal", "kl_per_dimension",
    "ladder_vae", "layered_vae", "register", "summary", "vq_vae",
]  # fmt: skip
