"""What the decoder's output means: the distribution p(x|z) of an image given its code."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Bernoulli:
    """Independent Bernoulli pixels, from logits.

    On binary pixels this is a likelihood. On grey pixels in (0, 1) it is the cross-entropy
    that most VAE code minimizes: useful, but each such pixel costs at least its own entropy,
    so that no model can reach 0.

    References
    ----------
    Kingma & Welling, *Auto-Encoding Variational Bayes*, 2013, appendix C.1.
    """

    name = "bernoulli"

    def log_prob(
        self,
        logits: Float[Tensor, "batch channels height width"],
        x: Float[Tensor, "batch channels height width"],
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z) in nats per image: summed over pixels and channels."""
        cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return -cross_entropy.flatten(1).sum(1)

    def mean(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the expected pixels, in [0, 1]."""
        return logits.sigmoid()


LIKELIHOODS = {Bernoulli.name: Bernoulli}
