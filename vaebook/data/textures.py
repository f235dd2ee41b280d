"""Procedural grey textures: eight families of small patches with smooth random parameters.

Lengths are in patch widths and rates in cycles per patch width, so that a family looks alike at
every size. Edges are ramps, not steps, so that neighbouring parameters make similar patches.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8

from vaebook.checks import is_whole, wrong

Patches = Float[np.ndarray, "patches size size"]

#: The kinds of textures, whose places here are their labels.
FAMILIES = ("gratings", "plaids", "checkers", "dots", "cells", "clouds", "wood", "weave")
VERSION = 1  # goes up when the same seed makes other patches: a cache goes by it
_EACH = 50  # patches of each family to a block, which bounds memory to about 40 MB


def _wave(cycles: Patches) -> Patches:  # a sine from -1 to 1 whose phase is counted in cycles
    return np.sin(2 * np.pi * cycles)


def _inside(depth: Patches) -> Patches:  # 0 to 1 over an edge's pixel or two of 28
    return 0.5 + 0.5 * np.tanh(45 * depth)


class _Painter(NamedTuple):
    """Draws `_EACH` patches at a time, of shades from about 0 (black) to 1 (white)."""

    rng: np.random.Generator
    grid: Float[np.ndarray, "2 size size"]

    def draw(self, low: float, high: float) -> Patches:  # one number per patch, [_EACH, 1, 1]
        return self.rng.uniform(low, high, (_EACH, 1, 1))

    def frame(self, turn: float = np.pi, bend: float = 0.0) -> tuple[Patches, Patches]:
        """Shift the axes by up to 1, turn them by up to `turn` radians, bend them a little."""
        x, y = (axis + self.draw(-1, 1) for axis in self.grid)
        angle, bend_u, bend_v = (self.draw(-most, most) for most in (turn, bend, bend))
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        return u + bend_u * _wave(v), v + bend_v * _wave(u)

    def gratings(self) -> Patches:
        return 0.5 + 0.5 * _wave(self.draw(2, 7) * self.frame()[0])

    def plaids(self) -> Patches:  # two crossing sets of stripes, each a wave and its overtone
        cycles = [self.draw(1.2, 3) * axis for axis in self.frame(bend=0.02)]
        overtones = [_wave(2 * axis + self.draw(0, 1)) for axis in cycles]
        return 0.5 + 0.18 * (sum(map(_wave, cycles)) + self.draw(0.5, 1.3) * sum(overtones))

    def checkers(self) -> Patches:
        u, v = (self.draw(1.8, 3.2) * axis for axis in self.frame(bend=0.06))
        return 0.5 + 0.5 * np.tanh(self.draw(2, 7) * _wave(u) * _wave(v))

    def dots(self) -> Patches:  # a staggered lattice of domed discs, light on dark or dark on light
        rate, radius = self.draw(2.5, 5), self.draw(0.22, 0.38)
        u, v = (rate * axis for axis in self.frame(bend=0.05))
        u += np.round(v) % 2 / 2
        distance = np.hypot(u - np.round(u), v - np.round(v))
        dome = 1 - self.draw(0.1, 0.6) * (distance / radius) ** 2
        return np.abs(self.draw(0, 1).round() - dome * _inside((radius - distance) / rate))

    def cells(self) -> Patches:  # Voronoi's, each of its own shade, parted by dark seams
        seeds = np.stack(np.meshgrid(*2 * [np.arange(-2.5, 3)]), -1).reshape(36, 2)
        seeds = (seeds + self.rng.uniform(-0.45, 0.45, (_EACH, 36, 2))) * self.draw(0.2, 0.3)
        # A softmax blurs the choice of the nearest seed; each pixel's own square cancels from it.
        nearness = 2 * seeds @ self.grid.reshape(2, -1) - (seeds**2).sum(-1, keepdims=True)
        share = np.exp(self.draw(80, 160) * (nearness - nearness.max(1, keepdims=True)))
        share /= share.sum(1, keepdims=True)
        shade = (share * self.rng.uniform(0.25, 1.1, (_EACH, 36, 1))).sum(1)
        seam = self.rng.uniform(0.4, 0.9, (_EACH, 1)) * (2 - 2 * (share**2).sum(1))
        return (shade * (1 - seam)).reshape(-1, *self.grid[0].shape)

    def clouds(self) -> Patches:  # fractal noise, its amplitude a falling power of the rate
        rates = np.fft.fftfreq(len(self.grid[0]), 1 / len(self.grid[0]))
        rate = np.maximum(np.hypot(rates, rates[:, None]), 1)
        spectrum = np.fft.fft2(self.rng.standard_normal((_EACH, *rate.shape)))
        noise = np.fft.ifft2(spectrum * rate ** -self.draw(1.3, 2.3)).real
        return 0.5 + 0.5 * np.tanh(0.9 * noise / noise.std((1, 2), keepdims=True))

    def wood(self) -> Patches:  # long wobbling growth rings, each fading slowly and ending sharply
        u, v = self.frame(bend=0.04)
        radius = np.hypot(u, self.draw(0.2, 0.7) * v)
        wobble = 0.02 * _wave(2.3 * v + radius) + 0.04 * _wave(1.7 * radius)
        cycles = self.draw(3.5, 6.5) * (radius + wobble)
        return 0.5 + 0.5 * _wave(cycles + 0.14 * _wave(cycles))

    def weave(self) -> Patches:  # rounded threads that pass over and under each other
        rate, width = self.draw(2.5, 4.5), self.draw(0.3, 0.46)
        u, v = (rate * axis for axis in self.frame(turn=np.pi / 4, bend=0.03))
        threads = []
        for across, along in (u, v), (v, u + 1):
            aside = np.abs(across - np.round(across))
            height = 0.65 + 0.35 * np.cos(np.pi * (along + np.round(across)))
            dome = (1 - 0.5 * (aside / width) ** 2) * _inside((width - aside) / rate)
            threads.append(self.draw(0.6, 1.1) * height * dome)
        return np.maximum(*threads)  # what rises higher is lighter, so that thread is on top


def make_textures(
    count: int, *, seed: int = 0, size: int = 28
) -> tuple[UInt8[np.ndarray, "count size size"], Int64[np.ndarray, " count"]]:
    """Make `count` grey patches of `size` by `size` pixels, and their labels.

    Patch ``i`` is of family ``i % len(FAMILIES)`` and depends on `seed`, `size` and ``i`` alone:
    a larger `count` only appends. A ValueError tells of an argument that is too small.
    """
    for name, value, least in ("count", count, 1), ("seed", seed, 0), ("size", size, 8):
        if not is_whole(value, least):
            raise wrong(name, f"a whole number of at least {least}", repr(value))
    grid, K = np.stack(np.meshgrid(*2 * [(np.arange(size) + 0.5) / size - 0.5])), len(FAMILIES)
    # Whole blocks are drawn and the last one is cut: that keeps the beginnings the same.
    patches = np.empty((-(-count // _EACH // K), _EACH, K, size, size), np.uint8)
    for number, label in np.ndindex(len(patches), K):
        painter = _Painter(np.random.default_rng([seed, number, label]), grid)
        shade = np.clip(getattr(painter, FAMILIES[label])(), 0, 1)
        gamma, dark, light = (painter.draw(*e) for e in ((0.7, 1.4), (0, 0.25), (0.75, 1)))
        light = light + sum(painter.draw(-0.2, 0.2) * axis for axis in grid)  # from one side
        grey = 255 * (dark + (light - dark) * shade**gamma)
        patches[number, :, label] = np.clip(grey, 0, 255).round()
    return patches.reshape(-1, size, size)[:count], np.arange(count, dtype=np.int64) % K
