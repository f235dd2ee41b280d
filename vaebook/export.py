"""Models as ONNX, which other languages, browsers and phones run without PyTorch."""

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from warnings import catch_warnings

import torch
from torch import Tensor, nn

from vaebook.checks import user_path
from vaebook.models.vae import VAE

__all__ = ["export_onnx"]

# What each file takes and returns, by name; all are cut out of one graph and agree.
FILES = {
    "encoder": (["images"], ["mean", "log_var"]),
    "decoder": (["codes"], ["pixels"]),
    "reconstructor": (["images"], ["reconstruction"]),
}


def export_onnx(model: VAE, folder: str | Path) -> dict[str, Path]:
    """Write encoder.onnx, decoder.onnx and reconstructor.onnx to a `folder`, all or none.

    The encoder takes ``images [batch, channels, height, width]`` in [0, 1] and returns ``mean``
    and ``log_var`` of q(z|x), ``[batch, latent]``; the decoder takes ``codes [batch, latent]`` and
    returns their expected ``pixels`` in [0, 1]; the reconstructor takes images and returns what
    their posterior means decode to, those of all levels of a ladder, as ``reconstruction``. All
    are float32, for batches of any size. Returns the paths by these names; files that were there
    are replaced. Of a conditional model give one with its label: ``model.given(7)``. Raises an
    ImportError where the packages that PyTorch's exporter needs are missing.

    >>> import vaebook as vb
    >>> paths = export_onnx(vb.pretrained("mnist-2d"), "onnx")  # doctest: +SKIP
    """
    try:
        import onnx.utils
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export_onnx: {error}; pip install 'vaebook[onnx]'") from error
    ways = _Ways(deepcopy(model).float().cpu()).eval()
    sizes = {0: torch.export.Dim("images")}, {0: torch.export.Dim("codes")}  # not fixed ones
    folder = user_path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as work:
        whole = Path(work, "whole.onnx")
        # The exporter warns of its own future, of which no reader can do anything.
        with catch_warnings(action="ignore"):
            torch.onnx.export(
                ways, (torch.zeros(2, *model.image_shape), torch.zeros(3, model.latent_dim)), whole,
                input_names=["images", "codes"], dynamic_shapes=sizes, dynamo=True, verbose=False,
                output_names=["mean", "log_var", "reconstruction", "pixels"], external_data=False,
            )  # fmt: skip
        for name, (inputs, outputs) in FILES.items():
            onnx.utils.extract_model(whole, Path(work, f"{name}.onnx"), inputs, outputs)
        return {name: Path(work, f"{name}.onnx").replace(folder / f"{name}.onnx") for name in FILES}


class _Ways(nn.Module):
    """All the ways through a model at once."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        model = self.model
        pixels = model.likelihood.mean(model.decode(codes))
        return *model.encode(images), model.autoencode(images), pixels
