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

from vaebook.checks import choose, is_whole, user_path, wrong
from vaebook.models.registry import BUILDERS, LIKELIHOODS, build
from vaebook.models.vae import VAE
from vaebook.training.devices import pick_device
from vaebook.training.rebuild import COMPILED, check_fit, prefix_of, rebuild

FORMAT = 1
HEADER = 32_000_000  # bytes of JSON: more could fill the memory
PARTS = {name: name for name in ("encoder", "decoder")}


def save(model: nn.Module, path: str | Path, part: str | None = None) -> None:
    """Write a model's configuration and weights to one file, `path`, whole or not at all.

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
    """Read a model that `save` or a checkpoint of `fit` left at `path`, ready for evaluation.

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
    try:
        network = rebuild(header["config"], tensors, path, part)
    except (ValueError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        if reason.startswith("path: "):
            raise ValueError(reason) from None
        raise ValueError(f"{reason} (in {path})") from None
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
    tensors = {f"{prefix_of(part)}{name}": value for name, value in network.state_dict().items()}
    tensors |= extra or {}
    tensors = {
        name.replace(COMPILED, ""): value.detach().cpu().contiguous().clone()  # none shared
        for name, value in tensors.items()
    }
    shown = ("snapshot.", "posterior.", "history")  # only to look at: no reason to end a training
    needed = {name: value for name, value in tensors.items() if not name.startswith(shown)}
    check_finite(needed, "model", "to save")
    content = {"format": FORMAT, "version": version("vaebook"), "checksum": checksum(tensors)}
    content |= {"config": model.config, "part": part}
    # Not by `save_file`, which lets nobody but the owner read what it writes.
    metadata = {"vaebook": json.dumps(content | (header or {}))}
    if len(metadata["vaebook"]) > 0.8 * HEADER:  # which grows, because quotes are escaped
        raise wrong("model", "a configuration that fits into a file's header", "a longer one")
    write_file(user_path("path", path), to_bytes(tensors, metadata))


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
    except OSError as error:  # of a full disk, which names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # Windows has no folders to flush
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def check_writable(path: Path) -> None:
    """Raise a ValueError where no file could be written, before a long work finds that out."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.{token_hex(4)}")
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        raise wrong("checkpoint", "a file that can be written", f"{path} ({error})") from None


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
    path = user_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a model file, found none at {path}")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER:
                raise ValueError(f"a header of {length:,} bytes, more than {HEADER:,}")
            text = file.read(length)
        if text.count(b"[") + text.count(b"{") > length // 16 + 1000:
            raise ValueError("more lists in its header than numbers")
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("vaebook", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"path: {path} is damaged or no safetensors file ({reason})") from None
    narrow = [n for n, v in tensors.items() if v.is_floating_point() and v.itemsize < 2]
    if narrow:  # which PyTorch can hold, but not compute with
        raise ValueError(f"path: {path} has {tensors[narrow[0]].dtype} in {narrow[0]}")
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
    held = check_fit(model, tensors, path, part)
    own = model.state_dict()
    # As the model will hold them: what is finite in 64 bits need not be so in 32.
    held = {name: value.to(own[name].dtype) for name, value in held.items()}
    check_finite(held, "path", f"in {path}")
    model.load_state_dict(held)
