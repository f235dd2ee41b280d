"""A VAE in NumPy alone, with every gradient written by hand.

A layer has a `forward`, which remembers what its gradient will need, and a `backward`, which takes
the gradient of the loss by its output, keeps those by its own parameters and returns the one by
its input. Run in reverse order this is backpropagation (Rumelhart, Hinton & Williams 1986). The
book's chapter *From scratch* derives every formula. Images are rows of pixels in here.
"""

import math
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from vaebook.progress import Progress

Rows = Float[np.ndarray, "batch _"]  # an image each, or its features
Codes = Float[np.ndarray, "batch latent"]
PerImage = Float[np.ndarray, " batch"]
Images = Float[np.ndarray, "batch channels height width"]


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
        """Return the gradient by the input, ``[batch, inputs]``."""
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
        """Return the gradient by the input: unchanged where that was positive, else zero."""
        return gradient * self.positive


class Reparameterize:
    """z = mean + std · noise, where std = exp(½ log_var) (Kingma & Welling 2013, eq. 4)."""

    def forward(self, mean: Codes, log_var: Codes, noise: Codes) -> Codes:
        """Return a draw from each q(z|x)."""
        self.shift = np.exp(0.5 * log_var) * noise
        return mean + self.shift

    def backward(self, gradient: Codes) -> tuple[Codes, Codes]:
        """Return the gradients by mean and log-variance."""
        return gradient, 0.5 * self.shift * gradient


def sigmoid(logits: Rows) -> Rows:
    """Return 1 / (1 + exp(-logits)), written as a tanh, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * logits) + 0.5


def bernoulli(logits: Rows, x: Rows) -> tuple[PerImage, Rows]:
    """Return the cross-entropy in nats per image, and its gradient by the logits."""
    cost = np.maximum(logits, 0) - logits * x + np.log1p(np.exp(-np.abs(logits)))
    return cost.sum(1), sigmoid(logits) - x


def squared_error(decoded: Rows, x: Rows, C: float = 0.5) -> tuple[PerImage, Rows]:
    """Return C·‖x - decoded‖² per image, and its gradient by `decoded`.

    Up to a constant this is -log p(x|z) in nats for Gaussian pixels of variance 1/(2C).
    """
    error = decoded - x
    return C * (error**2).sum(1), 2 * C * error


def kl_to_prior(mean: Codes, log_var: Codes) -> tuple[PerImage, Codes, Codes]:
    """Return KL(N(mean, exp(log_var)) ‖ N(0, I)) in nats per image, and its two gradients."""
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(1)
    return kl, mean, 0.5 * (np.exp(log_var) - 1)


class Adam:
    """Algorithm 1 of Kingma & Ba 2015, on a list of arrays that it changes in place."""

    def __init__(
        self, parameters: list[np.ndarray], lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    ) -> None:  # fmt: skip
        if not lr > 0:
            raise ValueError(f"lr: expected a number above 0, got {lr!r}")
        self.parameters, self.lr, self.betas, self.eps, self.steps = parameters, lr, betas, eps, 0
        self.moments = [(np.zeros_like(value), np.zeros_like(value)) for value in parameters]

    def step(self, gradients: list[np.ndarray]) -> None:
        """Change each parameter against its gradient."""
        self.steps += 1
        (b1, b2), (c1, c2) = self.betas, (1 - beta**self.steps for beta in self.betas)
        for value, gradient, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            m += (1 - b1) * (gradient - m)
            v += (1 - b2) * (gradient**2 - v)
            value -= self.lr / c1 * m / (np.sqrt(v / c2) + self.eps)


class VAE:
    """A variational autoencoder with one hidden layer on either side.

    Parameters
    ----------
    image_shape, latent_dim, hidden
        Channels, height and width of an image; number of latent dimensions; hidden units.
    loss, C
        ``"bernoulli"``, for which the decoder returns logits, or ``"squared_error"``, for which
        it returns pixels; the weight of the latter.
    seed, dtype
        Of the first weights; ``"float32"``, or ``"float64"`` for proofs.

    Raises
    ------
    ValueError
        For sizes that are not positive, an unknown name, or a `C` that is not above 0.

    Examples
    --------
    >>> model = VAE()
    >>> history = model.fit(np.zeros((8, 1, 28, 28), "uint8"), epochs=1, progress=False)
    >>> sum(value.size for value in model.parameters().values()), model.sample(3).shape
    (427344, (3, 1, 28, 28))
    """

    def __init__(
        self, image_shape: tuple[int, int, int] = (1, 28, 28), latent_dim: int = 32, *,
        hidden: int = 256, loss: str = "bernoulli", C: float = 0.5, seed: int = 0,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        sides = {f"image_shape[{i}]": side for i, side in enumerate(image_shape)}
        _check_positive(**sides, latent_dim=latent_dim, hidden=hidden)
        if not 0 < C < math.inf:
            raise ValueError(f"C: expected a number above 0, got {C!r}")
        if loss not in ("bernoulli", "squared_error"):
            raise ValueError(f"loss: expected bernoulli or squared_error, got {loss!r}")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
        pixels = math.prod(image_shape)
        self.image_shape, self.latent_dim, self.dtype = image_shape, latent_dim, dtype
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
        """Return mean and log-variance of q(z|x)."""
        features = self.encoder_relu.forward(self.encoder.forward(x))
        return self.mean.forward(features), self.log_var.forward(features)

    def forward(self, x: Rows, noise: Codes) -> tuple[Rows, Codes, Codes]:
        """Return the parameters of p(x|z) and mean and log-variance of q(z|x).

        `x` has rows of pixels in [0, 1]; each code z is drawn by its row of standard `noise`.
        """
        mean, log_var = self.encode(x)
        z = self.reparameterize.forward(mean, log_var, noise)
        return self._decode(z), mean, log_var

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

        Images are uint8, or floats in [0, 1], as rows of pixels or in their shape; a ValueError
        says what does not fit. The `seed` decides their order and the noise.
        """
        _check_positive(epochs=epochs, batch_size=batch_size)
        x = self._rows(images, "images")
        held_out = None if validation is None else self._rows(validation, "validation")
        adam = Adam(list(self.parameters().values()), lr)
        rng, history = np.random.default_rng(seed), []
        bar = Progress(epochs * math.ceil(len(x) / batch_size), enabled=progress)
        for epoch in range(1, epochs + 1):
            order, sums = rng.permutation(len(x)), np.zeros(2)
            for start in range(0, len(x), batch_size):
                batch = x[order[start : start + batch_size]]
                terms = self.backward(batch, *self.forward(batch, self._noise(len(batch), rng)))
                adam.step(list(self.gradients().values()))
                sums += [term.sum() for term in terms]
                bar.step()
            history.append({"epoch": epoch, "split": "train"} | _row(sums / len(x)))
            if held_out is not None:
                row = self.evaluate(held_out, seed=seed)
                history.append({"epoch": epoch, "split": "validation"} | row)
            bar.line(f"epoch {epoch:3}: {history[-1]['loss']:8.2f} nats per image")
        bar.close()
        return history

    def evaluate(self, images: Any, *, batch_size: int = 500, seed: int = 0) -> dict[str, float]:
        """Return the mean loss and its parts in nats per image, at one draw of z for each."""
        x, rng, sums = self._rows(images, "images"), np.random.default_rng(seed), np.zeros(2)
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size]
            params, *q = self.forward(batch, self._noise(len(batch), rng))
            sums += [self.cost(params, batch)[0].sum(), kl_to_prior(*q)[0].sum()]
        return _row(sums / len(x))

    def sample(self, n: int = 64, *, seed: int = 0) -> Images:
        """Decode `n` draws from the prior to their expected pixels in [0, 1]."""
        _check_positive(n=n)
        return self._images(self._noise(n, np.random.default_rng(seed)))

    def reconstruct(self, images: Any) -> Images:
        """Decode the posterior means of images to their expected pixels in [0, 1]."""
        mean, _ = self.encode(self._rows(images, "images"))
        return self._images(mean)

    def __repr__(self) -> str:
        table, size, parameters = [("layer", "kind", "output", "parameters")], 0, self.parameters()
        for name, layer in self.layers().items():
            own = [value.size for key, value in parameters.items() if key.startswith(f"{name}.")]
            size = own[1] if own else size  # there is one bias per output
            table.append((name, type(layer).__name__, str(size), f"{sum(own):,}"))
        total = sum(value.size for value in parameters.values())
        table.append(("total", "", "", f"{total:,}"))
        return "\n".join(f"{a:15}{b:15}{c:>7}{d:>12}" for a, b, c, d in table)

    def _noise(self, n: int, rng: np.random.Generator) -> Codes:
        return rng.standard_normal((n, self.latent_dim)).astype(self.dtype)

    def _decode(self, z: Codes) -> Rows:
        return self.output.forward(self.decoder_relu.forward(self.decoder.forward(z)))

    def _images(self, z: Codes) -> Images:
        return self.to_pixels(self._decode(z)).reshape(-1, *self.image_shape)

    def _rows(self, images: Any, name: str) -> Rows:
        x = np.asarray(getattr(images, "pixels", images))  # those of an `Images`
        pixels, got = math.prod(self.image_shape), f"{x.dtype} of shape {x.shape}"
        if x.ndim < 2 or not len(x) or math.prod(x.shape[1:]) != pixels:
            raise ValueError(f"{name}: expected at least one image of {pixels} pixels, got {got}")
        if x.dtype != np.uint8 and not (x.dtype.kind == "f" and 0 <= x.min() <= x.max() <= 1):
            got += f" with minimum {x.min()} and maximum {x.max()}"
            raise ValueError(f"{name}: expected pixels in [0, 1] or uint8, got {got}")
        rows = x.reshape(len(x), pixels).astype(self.dtype)
        return rows / 255 if x.dtype == np.uint8 else rows


def _row(terms: np.ndarray) -> dict[str, float]:
    reconstruction, kl = terms.tolist()
    return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


def _check_positive(**sizes: Any) -> None:
    for name, size in sizes.items():
        if not (isinstance(size, int) and size > 0):
            raise ValueError(f"{name}: expected a positive whole number, got {size!r}")
