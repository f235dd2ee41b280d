"""What the decoder's output means: the distribution p(x|z) of an image given its code."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ImageBatch = Float[Tensor, "batch channels height width"]


class Bernoulli:
    """Independent Bernoulli pixels, from logits (Kingma & Welling 2013, appendix C.1).

    On binary pixels this is a likelihood. On grey pixels it is the cross-entropy that most VAE
    code minimizes: useful, but each costs at least its own entropy, so no model can reach 0.
    """

    name = "bernoulli"

    def log_prob(self, logits: ImageBatch, x: ImageBatch) -> Float[Tensor, " batch"]:
        """Return log p(x|z) in nats per image: summed over pixels and channels."""
        cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return -cross_entropy.flatten(1).sum(1)

    def mean(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the expected pixels, in [0, 1]."""
        return logits.sigmoid()


LIKELIHOODS = {Bernoulli.name: Bernoulli}
