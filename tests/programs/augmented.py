"""DataLoaders where arrays would do: augmented images, `Images` as they are, codes of a loader."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import vaebook as vb


class Shifted(Dataset[Tensor]):
    """Images that are shifted by up to two pixels, anew each time they are asked for."""

    def __init__(self, images: vb.Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        shift = torch.randint(-2, 3, (2,)).tolist()
        return self.images.pixels[index].roll(shift, (1, 2)) / 255


def main() -> None:
    data = vb.load("digits")
    assert data.test is not None
    torch.manual_seed(0)
    for name, images in (("plain", data.train), ("shifted", Shifted(data.train))):
        loader = DataLoader(images, batch_size=64, shuffle=True)
        model = vb.dense_vae(data.image_shape, latent_dim=2, hidden=(64,))
        history = vb.fit(
            model, loader, epochs=2, validation=DataLoader(data.test, 64), progress=False
        )
        print(f"{name}:", *(f"{loss:.2f}" for loss in history.frame["loss"]))
    codes = vb.embed(model, DataLoader(data.test, batch_size=50))
    same = np.allclose(codes, vb.embed(model, data.test), atol=1e-5)
    print(f"codes of a loader: {codes.shape}, as of the images: {same}")


if __name__ == "__main__":
    main()
