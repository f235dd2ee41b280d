"""What arguments may be: one wording for every error, and the checks that several rooms share."""

import math
from collections.abc import Collection, Sized
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

ImageShape = tuple[int, int, int]


def wrong(name: str, wanted: str, got: Any) -> ValueError:
    """Return the error that says which argument does not fit, what is expected and what came.

    >>> wrong("epochs", "a positive whole number", 0)
    ValueError('epochs: expected a positive whole number, got 0')
    """
    return ValueError(f"{name}: expected {wanted}, got {got}")


def user_path(name: str, given: str | PathLike[str]) -> Path:
    """Return a path with the user's home folder in the place of ``~``."""
    try:
        return Path(given).expanduser()
    except RuntimeError:  # a user of a container may have none
        raise wrong(name, "a path", f"{given}, and there is no such home folder") from None


def some(names: Collection[Any], most: int = 3) -> str:
    """Return the first few of many names and how many more there are, fit to be printed.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = [printable(name) for name in [*names][:most]]
    shown = [name if len(name) <= 120 else f"{name[:119]}…" for name in shown]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown) + more


def printable(name: Any) -> str:
    """Return a name, such as a file's, with what is not valid UTF-8 written as an escape."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def is_whole(value: Any, least: int = 1) -> bool:
    """Tell whether something is a whole number, Python's or NumPy's, of at least so much."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_number(value: Any) -> bool:
    """Tell whether something is a finite number, Python's or NumPy's."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def positive(**sizes: Any) -> None:
    """Raise a ValueError that names the first argument which is no positive whole number."""
    for name, size in sizes.items():
        if not is_whole(size):
            raise wrong(name, "a positive whole number", repr(size))


def at_least_0(**numbers: Any) -> None:
    """Raise a ValueError that names the first argument which is no finite number from 0 on."""
    for name, number in numbers.items():
        if not (is_number(number) and number >= 0):
            raise wrong(name, "a number, at least 0", repr(number))


def above_0(**numbers: Any) -> None:
    """Raise a ValueError that names the first argument which is no finite number above 0."""
    for name, number in numbers.items():
        if not (is_number(number) and number > 0):
            raise wrong(name, "a number above 0", repr(number))


def as_seed(seed: Any) -> int:
    """Return a seed as PyTorch takes it, or raise a ValueError; NumPy's whole numbers are some."""
    if not (is_whole(seed, least=-(2**63)) and seed < 2**64):
        raise wrong("seed", "a whole number of 64 bits", repr(seed))
    return int(seed)


def choose(argument: str, name: Any, choices: dict[str, Any]) -> Any:
    """Return the choice of that name, or raise a ValueError that lists all names."""
    if not isinstance(name, str) or name not in choices:
        raise wrong(argument, f"one of {', '.join(choices)}", repr(name))
    return choices[name]


def one_of(argument: str, name: Any, *names: str) -> None:
    """Raise a ValueError unless a name is one of several."""
    choose(argument, name, dict.fromkeys(names))


def one_each(name: str, given: Sized, count: int, of: str) -> None:
    """Raise a ValueError unless there is one entry `given` for each of so many images or codes."""
    if len(given) != count:
        raise wrong(name, f"one for each of {count} {of}", len(given))


def as_image_shape(shape: Any, smallest: int = 1, largest: float = math.inf) -> ImageShape:
    """Return (channels, height, width), or raise a ValueError that says what does not fit."""
    try:
        sizes = tuple(shape)
    except TypeError:
        sizes = ()
    if len(sizes) != 3 or not all(map(is_whole, sizes)):
        raise wrong("image_shape", "(channels, height, width)", repr(shape))
    if not all(smallest <= side <= largest for side in sizes[1:]):
        wanted = f"height and width from {smallest} to {largest}"
        got = f"{sizes[1]}×{sizes[2]}; load(…, image_size=…) resizes images"
        raise wrong("image_shape", wanted, got)
    return int(sizes[0]), int(sizes[1]), int(sizes[2])
