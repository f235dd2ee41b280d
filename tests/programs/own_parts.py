"""Networks and a likelihood of one's own, trained, resumed, saved and loaded like the package's."""

import math

import torch
from torch import Tensor, nn

import vaebook as vb


@vb.register
class Laplace(nn.Module):
    """Pixels with absolute errors: a Laplace distribution of scale 0.1 around the output."""

    scale = 0.1

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        each = -(x - params).abs() / self.scale - math.log(2 * self.scale)
        return each.flatten(1).sum(1)

    def mean(self, params: Tensor) -> Tensor:
        return params.clamp(0, 1)


class Encoder(nn.Module):
    """A recurrent network that reads an image row by row."""

    def __init__(self, columns: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.reader = nn.GRU(columns, hidden, batch_first=True)
        self.heads = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, state = self.reader(x.squeeze(1))
        mean, log_var = self.heads(state[0]).chunk(2, dim=1)
        return mean, log_var


@vb.register
def row_vae(image_shape: tuple[int, int, int], latent_dim: int, hidden: int = 32) -> vb.VAE:
    decoder = nn.Sequential(
        nn.Linear(latent_dim, hidden), nn.GELU(),
        nn.Linear(hidden, math.prod(image_shape)), nn.Unflatten(1, image_shape),
    )  # fmt: skip
    encoder = Encoder(image_shape[2], hidden, latent_dim)
    return vb.VAE(
        encoder, decoder, image_shape=image_shape, latent_dim=latent_dim, likelihood=Laplace()
    )


def main() -> None:
    data = vb.load("digits")
    assert data.test is not None
    x = data.test.pixels / 255
    for epochs in (1, 2):  # the second call goes on where the first has stopped
        model = row_vae(data.image_shape, latent_dim=2)
        history = vb.fit(
            model, data.train, epochs=epochs, validation=data.test, progress=False,
            checkpoint="run.safetensors", resume=True,
        )  # fmt: skip
    print("epochs:", *history.frame["epoch"].unique())
    vb.save(model, "rows.safetensors")
    conv = vb.conv_vae(data.image_shape, latent_dim=2, width=4, likelihood=Laplace())
    vb.fit(conv, data.train, epochs=1, progress=False)
    vb.save(conv, "conv.safetensors")
    for trained, path in ((model, "rows.safetensors"), (conv, "conv.safetensors")):
        loaded = vb.load_model(path, trained.device)
        same = torch.equal(loaded.reconstruct(x), trained.reconstruct(x))
        print(f"{path}: {type(loaded.likelihood).__name__}, same reconstructions: {same}")


if __name__ == "__main__":
    main()
