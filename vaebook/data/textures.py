"""Procedural grey textures: ten families of small patches with smooth random parameters.

A family maps ``(rng, grid, count)`` to `count` patches of shade, about 0 (black) to 1 (white).
Lengths are in patch widths and rates in cycles per patch width, so that a family looks alike at
every size. Edges are ramps, not steps, so that neighbouring parameters make similar patches.
"""

import numpy as np
from jaxtyping import Float, Int64, UInt8

Grid = Float[np.ndarray, "2 size size"]
Patches = Float[np.ndarray, "patches size size"]


def _draw(rng: np.random.Generator, count: int, low: float | int, high: float | int) -> Patches:
    """Draw one uniform parameter per patch, [count, 1, 1] to broadcast over the pixels."""
    return rng.uniform(low, high, (count, 1, 1))


def _frame(
    rng: np.random.Generator, grid: Grid, count: int, turn: float = np.pi, bend: float = 0.0
) -> tuple[Patches, Patches]:
    """Shift the axes by up to 1, turn them by up to `turn` radians, bend them by up to `bend`."""
    x, y = (axis + _draw(rng, count, -1, 1) for axis in grid)
    angle, bend_u, bend_v = (_draw(rng, count, -most, most) for most in (turn, bend, bend))
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return u + bend_u * _wave(v), v + bend_v * _wave(u)


def _wave(cycles: Patches) -> Patches:
    """Return a sine from -1 to 1 whose phase is counted in cycles."""
    return np.sin(2 * np.pi * cycles)


def _inside(depth: Patches) -> Patches:
    """Cover what lies inside an edge: 0 to 1 over a pixel or two of 28."""
    return 0.5 + 0.5 * np.tanh(45 * depth)


def _gratings(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw one plane wave."""
    return 0.5 + 0.5 * _wave(_draw(rng, count, 2, 7) * _frame(rng, grid, count)[0])


def _plaids(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw two crossing sets of stripes, each a wave and its overtone."""
    cycles = [_draw(rng, count, 1.2, 3) * axis for axis in _frame(rng, grid, count, bend=0.02)]
    overtones = [_wave(2 * axis + _draw(rng, count, 0, 1)) for axis in cycles]
    return 0.5 + 0.18 * (sum(map(_wave, cycles)) + _draw(rng, count, 0.5, 1.3) * sum(overtones))


def _checkers(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw a checkerboard with soft edges."""
    u, v = (_draw(rng, count, 1.8, 3.2) * axis for axis in _frame(rng, grid, count, bend=0.06))
    return 0.5 + 0.5 * np.tanh(_draw(rng, count, 2, 7) * _wave(u) * _wave(v))


def _dots(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw a staggered lattice of domed discs, light on dark or dark on light."""
    rate, radius = _draw(rng, count, 2.5, 5), _draw(rng, count, 0.22, 0.38)
    u, v = (rate * axis for axis in _frame(rng, grid, count, bend=0.05))
    u += np.round(v) % 2 / 2
    distance = np.hypot(u - np.round(u), v - np.round(v))
    dome = 1 - _draw(rng, count, 0.1, 0.6) * (distance / radius) ** 2
    return np.abs(_draw(rng, count, 0, 1).round() - dome * _inside((radius - distance) / rate))


def _cells(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw Voronoi cells, each of its own shade, parted by dark seams."""
    seeds = np.stack(np.meshgrid(*2 * [np.arange(-2.5, 3)]), -1).reshape(36, 2)
    seeds = (seeds + rng.uniform(-0.45, 0.45, (count, 36, 2))) * _draw(rng, count, 0.2, 0.3)
    # A softmax blurs the choice of the nearest seed; each pixel's own square cancels from it.
    nearness = 2 * seeds @ grid.reshape(2, -1) - (seeds**2).sum(-1, keepdims=True)
    share = np.exp(_draw(rng, count, 80, 160) * (nearness - nearness.max(1, keepdims=True)))
    share /= share.sum(1, keepdims=True)
    shade = (share * rng.uniform(0.25, 1.1, (count, 36, 1))).sum(1)
    seam = 2 - 2 * (share**2).sum(1)
    return (shade * (1 - rng.uniform(0.4, 0.9, (count, 1)) * seam)).reshape(-1, *grid[0].shape)


def _clouds(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw fractal noise, its amplitude a falling power of the rate."""
    rates = np.fft.fftfreq(grid.shape[-1], 1 / grid.shape[-1])
    rate = np.maximum(np.hypot(rates, rates[:, None]), 1)
    spectrum = np.fft.fft2(rng.standard_normal((count, *rate.shape)))
    noise = np.fft.ifft2(spectrum * rate ** -_draw(rng, count, 1.3, 2.3)).real
    return 0.5 + 0.5 * np.tanh(0.9 * noise / noise.std((1, 2), keepdims=True))


def _wood(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw long wobbling growth rings, each fading slowly and ending sharply."""
    u, v = _frame(rng, grid, count, bend=0.04)
    radius = np.hypot(u, _draw(rng, count, 0.2, 0.7) * v)
    wobble = 0.02 * _wave(2.3 * v + radius) + 0.04 * _wave(1.7 * radius)
    cycles = _draw(rng, count, 3.5, 6.5) * (radius + wobble)
    return 0.5 + 0.5 * _wave(cycles + 0.14 * _wave(cycles))


def _weave(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw rounded threads that pass over and under each other."""
    rate, width = _draw(rng, count, 2.5, 4.5), _draw(rng, count, 0.3, 0.46)
    u, v = (rate * axis for axis in _frame(rng, grid, count, turn=np.pi / 4, bend=0.03))
    threads = []
    for across, along in (u, v), (v, u + 1):
        aside = np.abs(across - np.round(across))
        height = 0.65 + 0.35 * np.cos(np.pi * (along + np.round(across)))
        dome = (1 - 0.5 * (aside / width) ** 2) * _inside((width - aside) / rate)
        threads.append(_draw(rng, count, 0.6, 1.1) * height * dome)
    return np.maximum(*threads)  # What rises higher is lighter, so the lighter thread is on top.


def _bricks(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw a nearly upright wall: bricks of many shades in dark or light mortar."""
    rate, aspect = _draw(rng, count, 3.5, 6), _draw(rng, count, 1.7, 2.6)
    u, v = (rate * axis for axis in _frame(rng, grid, count, turn=0.25, bend=0.015))
    u = u / aspect + np.round(v) * _draw(rng, count, 0.35, 0.65)
    column, row = np.round(u).astype(int), np.round(v).astype(int)
    depth = np.minimum(aspect * (0.5 - np.abs(u - column)), 0.5 - np.abs(v - row)) / rate
    tones = rng.uniform(0.35, 0.95, (count, 16, 16))
    brick = tones[np.arange(count)[:, None, None], row % 16, column % 16]
    wall = brick * _inside(depth - _draw(rng, count, 0.02, 0.035))
    return np.abs(_draw(rng, count, 0, 1).round() - wall)


def _ripples(rng: np.random.Generator, grid: Grid, count: int) -> Patches:
    """Draw the spreading rings of two drops, which interfere."""
    rate = _draw(rng, count, 3, 6)
    radii = [np.hypot(*(axis + _draw(rng, count, -0.5, 0.5) for axis in grid)) for _ in range(2)]
    rings = (np.exp(-1.5 * r) * _wave(rate * r - _draw(rng, count, 0, 1)) for r in radii)
    return 0.5 + 0.5 * np.tanh(1.5 * sum(rings))


_DRAW = (_gratings, _plaids, _checkers, _dots, _cells, _clouds, _wood, _weave, _bricks, _ripples)
FAMILIES: tuple[str, ...] = tuple(draw.__name__.lstrip("_") for draw in _DRAW)
_EACH = 50  # Patches of each family to a block, which bounds memory to about 40 MB.
_TONES = (0.7, 1.4), (0, 0.25), (0.75, 1), (-0.2, 0.2), (-0.2, 0.2)  # As unpacked below.


def make_textures(
    count: int, *, seed: int = 0, size: int = 28
) -> tuple[UInt8[np.ndarray, "count size size"], Int64[np.ndarray, " count"]]:
    """Make `count` (at least 1) grey patches of `size` by `size` (at least 8) pixels.

    Patches depend on `seed`, `size` and their place alone: a larger `count` only appends.

    Returns
    -------
    patches : grey levels, [count, size, size].
    labels : indices into `FAMILIES`, [count]; patch ``i`` is of family ``i % len(FAMILIES)``.

    Raises
    ------
    ValueError
        If an argument is not an integer or is too small (`seed` may be 0 or more).
    """
    for name, value, least in ("count", count, 1), ("seed", seed, 0), ("size", size, 8):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
    grid = np.stack(np.meshgrid(*2 * [(np.arange(size) + 0.5) / size - 0.5]))
    # Whole blocks are drawn and the last one is cut: that keeps the beginnings the same.
    patches = np.empty((-(-count // _EACH // len(_DRAW)), _EACH, len(_DRAW), size, size), np.uint8)
    for number, block in enumerate(patches):
        for label, draw in enumerate(_DRAW):
            rng = np.random.default_rng([seed, number, label])
            shade = np.clip(draw(rng, grid, _EACH), 0, 1)
            gamma, dark, light, right, down = (_draw(rng, _EACH, *span) for span in _TONES)
            light = light + right * grid[0] + down * grid[1]  # Lit a little from one side.
            block[:, label] = np.clip(255 * (dark + (light - dark) * shade**gamma), 0, 255).round()
    return patches.reshape(-1, size, size)[:count], np.arange(count, dtype=np.int64) % len(_DRAW)
