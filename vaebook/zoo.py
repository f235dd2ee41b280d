"""Models that come with the package already trained, each with a card that says how."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from vaebook.checkpoints import load_model
from vaebook.vae import VAE, choose

WEIGHTS = Path(__file__).with_name("weights")
AGAIN = "installing vaebook again brings it back"


def pretrained(name: str) -> VAE:
    """Return a model that comes with the package: trained, on the CPU, in eval mode.

    Nothing is fetched. `pretrained_card` tells what the model was trained on and what it
    reaches.

    Parameters
    ----------
    name
        ``"mnist-2d"``, handwritten digits in 2 latent dimensions, for looking at the whole
        latent space at once, or ``"mnist-32d"``, the same digits in 32, drawn more exactly.

    Raises
    ------
    ValueError
        For an unknown name, or a file that is not the one the card was written for.
    FileNotFoundError
        When the installation lacks the file.

    Examples
    --------
    >>> pretrained("mnist-2d").sample(3).shape
    torch.Size([3, 1, 28, 28])
    """
    path = WEIGHTS / f"{name}.safetensors"
    expected = pretrained_card(name)["sha256"]
    if not path.is_file():
        raise FileNotFoundError(f"name: the weights of {name!r} are missing at {path}; {AGAIN}")
    if sha256(path.read_bytes()).hexdigest() != expected:
        raise ValueError(f"name: the weights of {name!r} at {path} are damaged; {AGAIN}")
    return load_model(path)


def pretrained_card(name: str) -> dict[str, Any]:
    """Return what is known of a model of `pretrained`: its data, training, test loss and licence.

    `loss`, `reconstruction` and `kl` are what `evaluate` says of all test images, in nats per
    image; `ink` is the sum of the pixels which the code 0 decodes to.

    Raises as `pretrained` does.

    >>> pretrained_card("mnist-2d")["latent_dim"]
    2
    """
    path = WEIGHTS / "cards.json"
    if not path.is_file():
        raise FileNotFoundError(f"name: the list of trained models is missing at {path}; {AGAIN}")
    try:
        cards = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(
            f"name: the list of trained models at {path} is damaged; {AGAIN}"
        ) from None
    card: dict[str, Any] = choose("name", name, cards)
    return card
