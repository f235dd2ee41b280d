import numpy as np
import pytest


@pytest.fixture(scope="session")
def archive():
    """Return a function that writes an archive of random images and returns their pixels."""

    def write(path, count=6, shape=(28, 28), seed=0, **more):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
        np.savez(path, **({"images": pixels, "labels": np.arange(count) % 10} | more))
        return pixels

    return write
