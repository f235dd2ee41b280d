"""Models built again from a file that may be damaged or foreign: within what it can pay for."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaebook.checks import is_whole, wrong
from vaebook.models.registry import BUILDERS, build

COMPILED = "_orig_mod."  # what torch.compile puts before the names inside of what it wraps


def rebuild(
    config: Any, tensors: dict[str, Tensor], path: str | Path, part: str | None
) -> nn.Module:
    """Build the model of a file, or its part, with memory only for what the file has tensors for.

    A builder of a user's own is called as it is: what it may do is not known here.
    """
    name = config.get("builder") if isinstance(config, dict) else None
    builder = BUILDERS.get(name) if isinstance(name, str) else None
    ours = builder is None or builder.__module__.startswith("vaebook.")
    if ours:
        check_bounds(config, tensors)
        with torch.device("meta"):
            sketch: nn.Module = build(config)
        sketch = sketch if part is None else getattr(sketch, part)
        check_fit(sketch, tensors, path, part)
        if part is not None:  # the other one may be of any size
            return sketch.to_empty(device="cpu")
    model: nn.Module = build(config)
    return model if part is None else getattr(model, part)


def check_bounds(config: Any, tensors: dict[str, Tensor], depth: int = 6) -> int:
    """Count the entries of a configuration; a ValueError for more than the tensors can pay for."""
    whole = max(sum(value.nbytes for value in tensors.values()), 2**16)
    entries = 100 + 20 * len(tensors)
    if is_whole(config, whole + 1) or (is_whole(config, -(2**200)) and config < -whole):
        raise wrong("config", f"whole numbers of at most {whole:,} for its tensors", "a larger one")
    if not isinstance(config, dict | list):
        return 1
    if depth == 0:
        raise wrong("config", "lists and dicts in at most 6 levels", "more")
    if isinstance(config, dict) and is_whole(config.get("residual"), len(tensors) + 1):
        raise wrong("residual", f"at most {len(tensors)} for its tensors", config["residual"])
    count, inside = 1, config.values() if isinstance(config, dict) else config
    for value in inside:
        count += check_bounds(value, tensors, depth - 1)
        if count > entries:
            raise wrong("config", f"at most {entries:,} entries for its tensors", "more")
    return count


def check_fit(
    model: nn.Module, tensors: dict[str, Tensor], path: str | Path, part: str | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a file by the model's names; a ValueError if they do not fit it."""
    prefix, state = prefix_of(part), model.state_dict()
    own = {name.replace(COMPILED, ""): name for name in state}
    held = {n.removeprefix(prefix): tensors[n] for n in tensors if n.startswith(prefix)}
    held = {own.get(name, name): value for name, value in held.items()}
    reason = ""
    for name, value in held.items():
        if name not in state:
            reason = f"it has no {name}"
        elif value.is_floating_point() != state[name].is_floating_point() or value.is_complex():
            reason = f"{name} is {value.dtype}"
        elif value.shape != state[name].shape:
            reason = f"{name} is {[*value.shape]} for {[*state[name].shape]}"
    if missing := [name for name in state if name not in held]:
        reason = f"there is no {missing[0]}"
    if reason:
        raise ValueError(f"path: the weights in {path} do not fit the model: {reason}")
    return held


def prefix_of(part: str | None) -> str:
    """Return what stands before the names of a part's tensors in a file."""
    return "model." if part is None else f"model.{part}."
