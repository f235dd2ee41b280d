"""A VAE in NumPy alone, with every gradient written by hand.

A layer's `forward` remembers what its `backward` needs, which takes the gradient of the loss by the
output, keeps those by its own parameters and returns the one by its input: run from last to first,
backpropagation (Rumelhart, Hinton & Williams 1986). Chapter *From scratch* derives every formula.
"""

import math
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from vaebook.checks import ImageShape, above_0, as_image_shape, one_of, positive, wrong
from vaebook.training.progress import Progress

__all__ = [
    "VAE", "Adam", "Linear", "ReLU", "Reparameterize", "bernoulli", "kl_to_prior", "sigmoid",
    "squared_error",
]  # fmt: skip

Rows = Float[np.ndarray, "batch _"]  # an image each, or its features
Codes = Float[np.ndarray, "batch latent"]
PerImage = Float[np.ndarray, " batch"]
Images = Float[np.ndarray, "batch channels height width"]
Arrays = list[np.ndarray]


class Linear:
    """x W + b, where W and b start uniform within ±1/√inputs, as PyTorch's do."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, dtype: str) -> None:
        bound = inputs**-0.5
        self.weight = rng.uniform(-bound, bound, (inputs, outputs)).astype(dtype)
        self.bias = rng.uniform(-bound, bound, outputs).astype(dtype)

    def forward(self, x: Rows) -> Rows:
        """Return the output, ``[batch, outputs]``."""
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, gradient: Rows) -> Rows:
        """Return the gradient with respect to the input, ``[batch, inputs]``."""
        self.d_weight = self.x.T @ gradient
        self.d_bias = gradient.sum(0)
        return gradient @ self.weight.T


class ReLU:
    """Zero in place of negative numbers."""

    def forward(self, x: Rows) -> Rows:
        """Return the output."""
        self.positive = x > 0
        return x * self.positive

    def backward(self, gradient: Rows) -> Rows:
        """Return the gradient with respect to the input: 0 where that was not positive."""
        return gradient * self.positive


class Reparameterize:
    """z = mean + std · noise, where std = exp(½ log_var) (Kingma & Welling 2013, eq. 4)."""

    def forward(self, mean: Codes, log_var: Codes, noise: Codes) -> Codes:
        """Return a draw from each q(z|x)."""
        self.shift = np.exp(0.5 * log_var) * noise
        return mean + self.shift

    def backward(self, gradient: Codes) -> tuple[Codes, Codes]:
        """Return the gradients with respect to mean and log-variance."""
        return gradient, 0.5 * self.shift * gradient


def sigmoid(logits: Rows) -> Rows:
    """Return 1 / (1 + exp(-logits)), written as a tanh, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * logits) + 0.5


def bernoulli(logits: Rows, x: Rows) -> tuple[PerImage, Rows]:
    """Return the cross-entropy in nats per image, and its gradient with respect to the logits."""
    cost = np.maximum(logits, 0) - logits * x + np.log1p(np.exp(-np.abs(logits)))
    return cost.sum(1), sigmoid(logits) - x


def squared_error(decoded: Rows, x: Rows, C: float = 0.5) -> tuple[PerImage, Rows]:
    """Return C·‖x - decoded‖² = -log N(x; decoded, 1/2C) + constant per image, and its gradient."""
    error = decoded - x
    return C * (error**2).sum(1), 2 * C * error


def kl_to_prior(mean: Codes, log_var: Codes) -> tuple[PerImage, Codes, Codes]:
    """Return KL(N(mean, exp(log_var)) ‖ N(0, I)) in nats per image, and its two gradients."""
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(1)
    return kl, mean, 0.5 * (np.exp(log_var) - 1)


class Adam:
    """Algorithm 1 of Kingma & Ba 2015, on a list of arrays that it changes in place."""

    def __init__(
        self, parameters: Arrays, lr: float = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        above_0(lr=lr)
        self.parameters, self.lr, self.betas, self.eps, self.steps = parameters, lr, betas, eps, 0
        self.moments = [(np.zeros_like(value), np.zeros_like(value)) for value in parameters]

    def step(self, gradients: Arrays) -> None:
        """Change each parameter against its gradient."""
        self.steps += 1
        (b1, b2), (c1, c2) = self.betas, (1 - beta**self.steps for beta in self.betas)
        for value, gradient, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            m += (1 - b1) * (gradient - m)
            v += (1 - b2) * (gradient**2 - v)
            value -= self.lr / c1 * m / (np.sqrt(v / c2) + self.eps)


class VAE:
    """A variational autoencoder with one hidden layer on either side.

    The decoder returns logits for the `loss` ``"bernoulli"``, and pixels for ``"squared_error"``,
    which has the weight `C`. The first weights come from `seed`; ``dtype="float64"`` is for checks.
    Raises a ValueError for sizes that are not positive, unknown names, and a `C` not above 0.

    >>> model = VAE()
    >>> history = model.fit(np.zeros((8, 1, 28, 28), "uint8"), epochs=1, progress=False)
    >>> sum(value.size for value in model.parameters().values()), model.sample(3).shape
    (427344, (3, 1, 28, 28))
    """

    def __init__(
        self, image_shape: ImageShape = (1, 28, 28), latent_dim: int = 32, *, hidden: int = 256,
        loss: str = "bernoulli", C: float = 0.5, seed: int = 0, dtype: str = "float32",
    ) -> None:  # fmt: skip
        positive(latent_dim=latent_dim, hidden=hidden)
        above_0(C=C)
        one_of("loss", loss, "bernoulli", "squared_error")
        one_of("dtype", dtype, "float32", "float64")
        self.image_shape, pixels = as_image_shape(image_shape), math.prod(image_shape)
        self.latent_dim, self.dtype = latent_dim, dtype
        self.cost = bernoulli if loss == "bernoulli" else partial(squared_error, C=C)
        self.to_pixels = sigmoid if loss == "bernoulli" else partial(np.clip, a_min=0, a_max=1)
        linear = partial(Linear, rng=np.random.default_rng(seed), dtype=dtype)
        self.encoder, self.encoder_relu = linear(pixels, hidden), ReLU()
        self.mean, self.log_var = linear(hidden, latent_dim), linear(hidden, latent_dim)
        self.reparameterize = Reparameterize()
        self.decoder, self.decoder_relu = linear(latent_dim, hidden), ReLU()
        self.output = linear(hidden, pixels)

    def layers(self) -> dict[str, Any]:
        """Return every layer by its name, in the order in which an image passes them."""
        return {name: value for name, value in vars(self).items() if hasattr(value, "backward")}

    def parameters(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Return weights and biases by name: the arrays themselves, not copies."""
        linear = {name: layer for name, layer in self.layers().items() if hasattr(layer, "weight")}
        keys = [(name, kind) for name in linear for kind in ("weight", "bias")]
        return {f"{name}.{kind}": getattr(linear[name], prefix + kind) for name, kind in keys}

    def gradients(self) -> dict[str, np.ndarray]:
        """Return what the last `backward` has left, by the names of the parameters."""
        return self.parameters("d_")

    def encode(self, x: Rows) -> tuple[Codes, Codes]:
        """Return mean and log-variance of q(z|x) for rows of pixels in [0, 1]."""
        features = self.encoder_relu.forward(self.encoder.forward(x))
        return self.mean.forward(features), self.log_var.forward(features)

    def decode(self, z: Codes) -> Rows:
        """Return the parameters of p(x|z): logits, or pixels."""
        return self.output.forward(self.decoder_relu.forward(self.decoder.forward(z)))

    def forward(self, x: Rows, noise: Codes) -> tuple[Rows, Codes, Codes]:
        """Return the parameters of p(x|z), z being drawn by `noise`, and those of q(z|x)."""
        mean, log_var = self.encode(x)
        return self.decode(self.reparameterize.forward(mean, log_var, noise)), mean, log_var

    def backward(
        self, x: Rows, params: Rows, mean: Codes, log_var: Codes
    ) -> tuple[PerImage, PerImage]:
        """Leave the gradients of the mean loss in the layers, after `forward` has run.

        Returns reconstruction and KL, whose sum is the loss, in nats per image.
        """
        reconstruction, d_params = self.cost(params, x)
        kl, kl_by_mean, kl_by_log_var = kl_to_prior(mean, log_var)
        n = len(x)
        d_hidden = self.decoder_relu.backward(self.output.backward(d_params / n))
        d_mean, d_log_var = self.reparameterize.backward(self.decoder.backward(d_hidden))
        d_features = self.mean.backward(d_mean + kl_by_mean / n)
        d_features += self.log_var.backward(d_log_var + kl_by_log_var / n)
        self.encoder.backward(self.encoder_relu.backward(d_features))
        return reconstruction, kl

    def fit(
        self, images: Any, *, epochs: int, batch_size: int = 128, lr: float = 1e-3,
        validation: Any = None, seed: int = 0, progress: bool = True,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Train with Adam; return a row per epoch and split, in nats per image.

        Images are uint8, or floats in [0, 1], as rows of pixels or in their shape, else a
        ValueError says what does not fit. The `seed` decides their order and the noise.
        """
        positive(epochs=epochs, batch_size=batch_size)
        x = self._rows(images)
        held_out = None if validation is None else self._rows(validation, "validation")
        adam, rng = Adam(list(self.parameters().values()), lr), np.random.default_rng(seed)
        history, bar = [], Progress(epochs * math.ceil(len(x) / batch_size), enabled=progress)
        for epoch in range(1, epochs + 1):
            order, sums = rng.permutation(len(x)), np.zeros(2)
            for start in range(0, len(x), batch_size):
                batch = x[order[start : start + batch_size]]
                terms = self.backward(batch, *self.forward(batch, self._noise(len(batch), rng)))
                adam.step(list(self.gradients().values()))
                sums += [term.sum() for term in terms]
                bar.step()
            history.append(dict(epoch=epoch, split="train") | _row(sums / len(x)))
            if held_out is not None:
                found = self.evaluate(held_out, seed=seed)
                history.append(dict(epoch=epoch, split="validation") | found)
            bar.line(f"epoch {epoch:3}: {history[-1]['loss']:8.2f} nats per image")
        bar.close()
        return history

    def evaluate(self, images: Any, *, batch_size: int = 500, seed: int = 0) -> dict[str, float]:
        """Return the mean loss and its parts in nats per image, at one draw of z for each."""
        x, rng, sums = self._rows(images), np.random.default_rng(seed), np.zeros(2)
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size]
            params, *q = self.forward(batch, self._noise(len(batch), rng))
            sums += [self.cost(params, batch)[0].sum(), kl_to_prior(*q)[0].sum()]
        return _row(sums / len(x))

    def sample(self, n: int = 64, *, seed: int = 0) -> Images:
        """Decode `n` draws from the prior to their expected pixels in [0, 1]."""
        positive(n=n)
        return self._images(self._noise(n, np.random.default_rng(seed)))

    def reconstruct(self, images: Any) -> Images:
        """Decode the posterior means of images to their expected pixels in [0, 1]."""
        return self._images(self.encode(self._rows(images))[0])

    def __repr__(self) -> str:
        sizes = {key: value.size for key, value in self.parameters().items()}
        table, outputs = [("layer", "kind", "output", "parameters")], 0
        for name, layer in self.layers().items():
            own = [size for key, size in sizes.items() if key.startswith(f"{name}.")]
            outputs = own[1] if own else outputs  # there is one bias per output
            table.append((name, type(layer).__name__, str(outputs), f"{sum(own):,}"))
        table.append(("total", "", "", f"{sum(sizes.values()):,}"))
        return "\n".join(f"{a:15}{b:15}{c:>7}{d:>12}" for a, b, c, d in table)

    def _noise(self, n: int, rng: np.random.Generator) -> Codes:
        return rng.standard_normal((n, self.latent_dim)).astype(self.dtype)

    def _images(self, z: Codes) -> Images:
        return self.to_pixels(self.decode(z)).reshape(-1, *self.image_shape)

    def _rows(self, images: Any, name: str = "images") -> Rows:
        x = np.asarray(getattr(images, "pixels", images))  # those of an `Images`
        pixels, got = math.prod(self.image_shape), f"{x.dtype} of shape {x.shape}"
        if x.ndim < 2 or not len(x) or math.prod(x.shape[1:]) != pixels:
            raise wrong(name, f"at least one image of {pixels} pixels", got)
        if x.dtype != np.uint8 and not (x.dtype.kind == "f" and 0 <= x.min() <= x.max() <= 1):
            got += f" with minimum {x.min()} and maximum {x.max()}"
            raise wrong(name, "pixels in [0, 1] or uint8", got)
        rows = x.reshape(len(x), pixels).astype(self.dtype)
        return rows / 255 if x.dtype == np.uint8 else rows


def _row(terms: np.ndarray) -> dict[str, float]:
    reconstruction, kl = terms.tolist()
    return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
