"""Models on disk: tensors as safetensors, the rest as JSON in its header; nothing is pickled."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaebook.vae import VAE, build

FORMAT = 1


def save(model: VAE, path: str | Path) -> None:
    """Write a model's configuration and weights to one file, whole or not at all.

    Raises a ValueError for a model without a configuration: one put together by hand.

    >>> import tempfile, vaebook as vb
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(vb.conv_vae((1, 28, 28), latent_dim=2), path)
    >>> load_model(path).latent_dim
    2
    """
    write(path, model)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> VAE:
    """Read a model that `save` or a checkpoint of `fit` left, ready for evaluation.

    Raises a FileNotFoundError when there is no such file, and a ValueError when it is damaged,
    is not one of vaebook's, or its weights do not fit.
    """
    header, tensors = read(path)
    model = build(header["config"])
    load_weights(model, tensors, path)
    return model.to(device).eval()


def require_config(model: VAE) -> None:
    """Raise a ValueError for a model that could not be built again from a file."""
    if model.config is None:
        given = "a VAE without a configuration, of which torch.save can keep the weights"
        raise ValueError(f"model: expected one from conv_vae, dense_vae or load_model, got {given}")


def write(
    path: str | Path, model: VAE, extra: dict[str, Tensor] | None = None,
    header: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write model, `extra` tensors and `header` to a file that replaces the old one at once."""
    require_config(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= extra or {}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = {"format": FORMAT, "version": version("vaebook"), "config": model.config}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, {"vaebook": json.dumps(content | (header or {}))})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a file that `write` wrote."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected a model file, found none at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("vaebook", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"path: {path} is damaged or no safetensors file ({error})") from None
    if not isinstance(header, dict) or "config" not in header:
        raise ValueError(f"path: {path} holds tensors, but no vaebook model")
    if header["format"] > FORMAT:
        newer, older = f"vaebook {header['version']}", f"this older version, {version('vaebook')}"
        raise ValueError(f"path: {path} was written by {newer}; {older}, cannot read it")
    return header, tensors


def load_weights(model: VAE, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copy the tensors of a file into a model, which must have been built alike."""
    names = {name for name in tensors if name.startswith("model.")}
    try:
        model.load_state_dict({name.removeprefix("model."): tensors[name] for name in names})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"path: the weights in {path} do not fit the model: {reason}") from None
