"""Data: one door, `load`, to images of every kind, and how they reach a model."""

from vaebook.data.dataset import NAMES, Dataset, data_root, load
from vaebook.data.images import Batch, Images, as_images, batch_bounds, minibatches, to_pixels
from vaebook.data.textures import FAMILIES, make_textures

__all__ = [
    "FAMILIES", "NAMES", "Batch", "Dataset", "Images", "as_images", "batch_bounds", "data_root",
    "load", "make_textures", "minibatches", "to_pixels",
]  # fmt: skip
