"""Models that come with the package already trained, each with a card that says how."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from vaebook.checks import choose
from vaebook.models.vae import VAE
from vaebook.training.checkpoints import load_model

__all__ = ["pretrained", "pretrained_card"]
WEIGHTS = Path(__file__).with_name("weights")
AGAIN = "installing vaebook again brings it back"


def pretrained(name: str) -> VAE:
    """Return a model that comes with the package: trained, on the CPU, in eval mode.

    The `name` ``"mnist-2d"`` has handwritten digits in 2 latent dimensions, for looking at the
    whole latent space at once; ``"mnist-32d"`` draws the same digits more exactly, in 32. Nothing
    is fetched.
    `pretrained_card` tells what the model was trained on and what it reaches. Raises a ValueError
    for an unknown name or damaged weights, and a FileNotFoundError where the files are missing.

    >>> pretrained("mnist-2d").sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    expected, path = pretrained_card(name)["sha256"], WEIGHTS / f"{name}.safetensors"
    if sha256(_read(path)).hexdigest() != expected:
        raise ValueError(f"name: {path} is damaged; {AGAIN}")
    return load_model(path)


def pretrained_card(name: str) -> dict[str, Any]:
    """Return what is known of the model `name`: its data, training, test loss and licence.

    `loss`, `reconstruction` and `kl` are what `evaluate` says of all test images, in nats per
    image; `ink` is the sum of the pixels which the code 0 decodes to. Raises as `pretrained` does.

    >>> pretrained_card("mnist-2d")["latent_dim"]
    2
    """
    path = WEIGHTS / "cards.json"
    try:
        cards = json.loads(_read(path))
    except ValueError:
        raise ValueError(f"name: {path} is damaged; {AGAIN}") from None
    card: dict[str, Any] = choose("name", name, cards)
    return card


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"name: {path} is missing; {AGAIN}")
    return path.read_bytes()
