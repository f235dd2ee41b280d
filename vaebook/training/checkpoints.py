"""Models on disk: tensors as safetensors, the rest as JSON in its header; nothing is pickled."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vaebook.checks import choose, is_whole, wrong
from vaebook.models.registry import LIKELIHOODS, build
from vaebook.models.vae import VAE

FORMAT = 1
PARTS = {name: name for name in ("encoder", "decoder")}


def save(model: VAE, path: str | Path, part: str | None = None) -> None:
    """Write a model's configuration and weights to one file, whole or not at all.

    With a `part`, ``"encoder"`` or ``"decoder"``, only the weights of that network go into it.
    Raises a ValueError for another part, and for a model without a configuration: one put
    together outside of the builders that come along or that `vaebook.register` knows.

    >>> import tempfile, vaebook as vb
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(vb.conv_vae((1, 28, 28), latent_dim=2), path)
    >>> load_model(path).latent_dim
    2
    """
    write(path, model, part=part)


@overload
def load_model(path: str | Path, device: torch.device | str = "cpu", part: None = None) -> VAE: ...
@overload
def load_model(path: str | Path, device: torch.device | str = "cpu", *, part: str) -> nn.Module: ...
def load_model(
    path: str | Path, device: torch.device | str = "cpu", part: str | None = None
) -> nn.Module:
    """Read a model that `save` or a checkpoint of `fit` left, ready for evaluation.

    With a `part`, ``"encoder"`` or ``"decoder"``, return that network alone, from its own file
    or from one of a whole model. Raises a FileNotFoundError when there is no such file, and a
    ValueError when it is damaged, is not one of vaebook's, its weights do not fit, or it does
    not hold what is asked for.
    """
    header, tensors = read(path)
    held = header.get("part")
    if part is not None:
        choose("part", part, PARTS)
    if held not in (None, part):
        raise wrong("part", f"{held!r}, all that {path} holds", repr(part))
    model: VAE = build(header["config"])
    network: nn.Module = model if part is None else getattr(model, part)
    load_weights(network, tensors, path, part)
    return network.to(device).eval()


def require_config(model: VAE) -> None:
    """Raise a ValueError for a model that could not be built again from a file."""
    if model.config is None:
        hint = "build it in a function that vaebook.register makes known"
        if type(model.likelihood) not in LIKELIHOODS.values():
            hint = f"register its likelihood, {type(model.likelihood).__name__}, too"
        got = f"a {type(model).__name__} without a configuration; {hint}"
        raise wrong("model", "one from conv_vae, dense_vae or load_model", got)
    try:
        json.dumps(model.config)
    except TypeError as error:
        raise wrong("model", "a configuration that JSON can hold", error) from None


def write(
    path: str | Path, model: VAE, extra: dict[str, Tensor] | None = None,
    header: dict[str, Any] | None = None, part: str | None = None,
) -> None:  # fmt: skip
    """Write model, `extra` tensors and `header` to a file that replaces the old one at once."""
    require_config(model)
    network = model if part is None else getattr(model, choose("part", part, PARTS))
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{_prefix(part)}{name}": value for name, value in network.state_dict().items()}
    tensors |= extra or {}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = {"format": FORMAT, "version": version("vaebook")}
    content |= {"config": model.config, "part": part}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Not by `save_file`, which lets nobody but the owner read what it writes.
        metadata = {"vaebook": json.dumps(content | (header or {}))}
        temporary.write_bytes(to_bytes(tensors, metadata))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a file that `write` wrote."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a model file, found none at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("vaebook", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise ValueError(f"path: {path} is damaged or no safetensors file ({error})") from None
    if not isinstance(header, dict) or "config" not in header:
        raise ValueError(f"path: {path} holds tensors, but no vaebook model")
    number: Any = header.get("format")
    if not is_whole(number):
        raise wrong("path", f"a header with the number of its format in {path}", repr(number))
    if number > FORMAT:
        newer = f"vaebook {' '.join(str(header.get('version'))[:40].split())}"
        older = f"this older version, {version('vaebook')}"
        raise ValueError(f"path: {path} was written by {newer}; {older}, cannot read it")
    return header, tensors


def load_weights(
    model: nn.Module, tensors: dict[str, Tensor], path: str | Path, part: str | None = None
) -> None:
    """Copy the tensors of a file into a model or its part, which must have been built alike."""
    prefix = _prefix(part)
    names = {name for name in tensors if name.startswith(prefix)}
    try:
        model.load_state_dict({name.removeprefix(prefix): tensors[name] for name in names})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"path: the weights in {path} do not fit the model: {reason}") from None


def _prefix(part: str | None) -> str:
    return "model." if part is None else f"model.{part}."
