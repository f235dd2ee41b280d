"""vaebook: variational autoencoders in PyTorch, small enough to read in an evening.

>>> import vaebook as vb
>>> data = vb.load("digits")
>>> model = vb.conv_vae(data.image_shape, latent_dim=2)

What goes in and what comes out is the same everywhere:

* **Images** go in as `as_images` takes them, or as a DataLoader. They come out as float32 tensors
  in [0, 1], ``[batch, channels, height, width]``.
* A model's own methods take and return tensors on its device, q(z|x) as mean and **log-variance**,
  as its networks give it. The functions here return the CPU's, and q(z|x) as mean and **standard
  deviation**, which can be looked at. **Codes** are tensors, what is measured or plotted
  (`embed`, features, log p(x) of each image) NumPy arrays.
* Losses and bounds are in **nats per image**: summed over pixels and dimensions, averaged over
  images.
* ``n`` counts what is returned, ``draws`` codes for each image, ``steps`` places along a path or an
  axis; ``seed`` decides what is random, ``progress`` whether a bar shows how far the work is.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from vaebook import data, evaluation, models, objectives, priors, records, sampling, training, zoo
from vaebook.data import Dataset, Images, as_images, load
from vaebook.evaluation import *
from vaebook.export import export_onnx
from vaebook.models import *
from vaebook.models import likelihoods
from vaebook.objectives import *
from vaebook.records import *
from vaebook.sampling import *
from vaebook.training import *
from vaebook.zoo import *

__all__ = ["Dataset", "Images", "as_images", "data", "export_onnx", "from_scratch", "likelihoods"]
__all__ += ["load", "plot", "priors"]
__all__ += evaluation.__all__
__all__ += models.__all__
__all__ += objectives.__all__
__all__ += records.__all__
__all__ += sampling.__all__
__all__ += training.__all__
__all__ += zoo.__all__
__version__ = version("vaebook")

if TYPE_CHECKING:
    from vaebook import from_scratch, plot
else:

    def __getattr__(name):
        """Import `plot`, and with it matplotlib, and `from_scratch` only when they are used."""
        if name in ("plot", "from_scratch"):
            return import_module(f"vaebook.{name}")
        raise AttributeError(f"module 'vaebook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
