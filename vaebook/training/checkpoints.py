"""Models on disk: tensors as safetensors, the rest as JSON in its header; nothing is pickled."""

import json
import os
import zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vaebook.checks import choose, is_whole, wrong
from vaebook.models.registry import BUILDERS, LIKELIHOODS, build
from vaebook.models.vae import VAE
from vaebook.training.devices import pick_device

FORMAT = 1
PARTS = {name: name for name in ("encoder", "decoder")}
COMPILED = "_orig_mod."  # what torch.compile puts before the names inside of what it wraps


def save(model: nn.Module, path: str | Path, part: str | None = None) -> None:
    """Write a model's configuration and weights to one file, whole or not at all.

    With a `part`, ``"encoder"`` or ``"decoder"``, only the weights of that network go into it.
    Raises a ValueError for another part, for weights that are not finite, and for a model that
    could not be built again: one put together outside of the builders that come along or that
    `vaebook.register` knows, or changed after it was built. What is compiled is saved as plain.

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
    or from one of a whole model. `device` is as for `pick_device`. Raises a FileNotFoundError when
    there is no such file, and a ValueError when it is damaged, is not one of vaebook's, its weights
    do not fit or are not finite, or it does not hold what is asked for.
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
    return network.to(pick_device(device)).eval()


def as_vae(model: Any) -> VAE:
    """Return a VAE, taken out of what torch.compile wraps around it, or raise a ValueError."""
    inside = getattr(model, COMPILED.rstrip("."), model)
    if not isinstance(inside, VAE):
        raise wrong("model", "a VAE", type(model).__name__)
    return inside


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
    if model.config.get("builder") not in BUILDERS:
        return  # a user's own, who knows how to read it again
    # Without memory where that will do; some builders need numbers, and some modules tell them.
    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                built = anatomy(build(model.config))
        except Exception:
            if device == "cpu":
                raise
            continue
        changed = [name for name, part in anatomy(model).items() if built.get(name) != part]
        if not changed:
            return
    got = f"another {changed[0]}; put it into a builder that vaebook.register makes known"
    raise wrong("model", "one as its configuration builds it", got)


def anatomy(model: nn.Module) -> dict[str, str]:
    """Describe the innermost modules and the weights of a model, by name."""
    leaves = {n: each for n, each in model.named_modules() if next(each.children(), None) is None}
    lists = nn.ParameterList | nn.ParameterDict  # whose words hold a device
    parts = {name: repr(each) for name, each in leaves.items() if not isinstance(each, lists)}
    parts |= {name: f"{[*value.shape]}" for name, value in model.state_dict().items()}
    return {name.replace(COMPILED, ""): part for name, part in parts.items()}


def write(
    path: str | Path, model: nn.Module, extra: dict[str, Tensor] | None = None,
    header: dict[str, Any] | None = None, part: str | None = None,
) -> None:  # fmt: skip
    """Write model, `extra` tensors and `header` to a file that replaces the old one at once."""
    model = as_vae(model)
    require_config(model)
    network = model if part is None else getattr(model, choose("part", part, PARTS))
    tensors = {f"{_prefix(part)}{name}": value for name, value in network.state_dict().items()}
    tensors |= extra or {}
    tensors = {
        name.replace(COMPILED, ""): value.detach().cpu().contiguous().clone()  # none shared
        for name, value in tensors.items()
    }
    check_finite(tensors, "model", "to save")
    content = {"format": FORMAT, "version": version("vaebook"), "checksum": checksum(tensors)}
    content |= {"config": model.config, "part": part}
    # Not by `save_file`, which lets nobody but the owner read what it writes.
    metadata = {"vaebook": json.dumps(content | (header or {}))}
    write_file(Path(path).expanduser(), to_bytes(tensors, metadata))


def write_file(path: Path, content: bytes) -> None:
    """Write a file that replaces an old one at once, and only when it is whole on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: also another thread or machine may be writing to this place.
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # Windows has no folders to flush
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def checksum(tensors: dict[str, Tensor]) -> str:
    """Return a checksum of the bytes of all tensors."""
    total = 0
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy().data
        total = zlib.crc32(content, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def check_finite(tensors: dict[str, Tensor], argument: str, what: str) -> None:
    """Raise a ValueError that names the first tensor with a value that is not finite."""
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise wrong(argument, f"finite numbers {what}", f"others in {name}")


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
    if header.get("checksum") not in (None, checksum(tensors)):
        raise ValueError(f"path: {path} is damaged: its tensors do not have its checksum")
    return header, tensors


def load_weights(
    model: nn.Module, tensors: dict[str, Tensor], path: str | Path, part: str | None = None
) -> None:
    """Copy the tensors of a file into a model or its part, which must have been built alike."""
    prefix = _prefix(part)
    own = {name.replace(COMPILED, ""): name for name in model.state_dict()}
    held = {n.removeprefix(prefix): tensors[n] for n in tensors if n.startswith(prefix)}
    held = {own.get(name, name): value for name, value in held.items()}
    check_finite(held, "path", f"in {path}")
    try:
        for name, value in model.state_dict().items():
            if name in held and held[name].is_floating_point() != value.is_floating_point():
                raise RuntimeError(f"{name} is {held[name].dtype}")
        model.load_state_dict(held)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"path: the weights in {path} do not fit the model: {reason}") from None


def _prefix(part: str | None) -> str:
    return "model." if part is None else f"model.{part}."
