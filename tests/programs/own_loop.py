"""A training loop of one's own, over the package's minibatches and over a DataLoader."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import vaebook as vb


def take_step(model: vb.VAE, optimizer: torch.optim.Optimizer, x: Tensor) -> Tensor:
    """Change the weights by one batch; return its losses in nats."""
    terms = vb.NegativeELBO()(model, x)
    optimizer.zero_grad()
    terms.loss.mean().backward()
    optimizer.step()
    return terms.loss.detach()


def main() -> None:
    data = vb.load("digits")
    torch.manual_seed(0)
    device = vb.pick_device()
    model = vb.conv_vae(data.image_shape, latent_dim=2, width=4).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    images, generator = data.train.to(device), torch.Generator().manual_seed(0)

    model.train()
    for epoch in (1, 2):
        batches = vb.data.minibatches(images, 64, device=device, generator=generator)
        losses = torch.cat([take_step(model, optimizer, batch.x) for batch in batches])
        print(f"minibatches, epoch {epoch}: {losses.mean():.2f} over {len(losses)} images")
    loader = DataLoader(data.train, batch_size=64, shuffle=True)
    losses = torch.cat([take_step(model, optimizer, x.to(device)) for x, _ in loader])
    print(f"DataLoader, epoch 3: {losses.mean():.2f} over {len(losses)} images")
    model.eval()
    print(f"held out: {vb.evaluate(model, data.test)['loss']:.2f}")


if __name__ == "__main__":
    main()
