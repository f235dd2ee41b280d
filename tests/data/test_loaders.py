"""Images in PyTorch's DataLoader, DataLoaders in the package, and whose memory a network gets."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import vaebook as vb
from vaebook.data import Images, minibatches, to_pixels

quiet = dict(epochs=2, batch_size=8, progress=False)


def numbered(labels=True, count=21):
    """Images whose pixels tell which they are: number i is all grey of i times 10."""
    pixels = 10 * torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return Images(pixels, torch.arange(count) if labels else None)


def small_vae(seed=0):
    torch.manual_seed(seed)
    return vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(8,))


def kl(model, images):
    """The part of the loss without draws of z: a DataLoader's iterator draws a number, too."""
    return vb.evaluate(model, images, batch_size=7)["kl"]


# Images in a DataLoader

kinds = {
    "in order": dict(batch_size=4),
    "shuffled": dict(batch_size=4, shuffle=True),
    "one by one": dict(batch_size=None),
    # Since Python 3.12 a fork beside PyTorch's own threads warns.
    "a worker": dict(batch_size=4, shuffle=True, num_workers=1),
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("options", kinds.values(), ids=kinds)
def test_a_dataloader_of_images(options, labels):
    batches = list(minibatches(DataLoader(numbered(labels), **options), 99))
    size = options["batch_size"] or 1
    assert [batch.count for batch in batches] == [size] * (21 // size) + [1] * (21 % size)
    for x, _, count in batches:
        assert (x.dtype, x.shape) == (torch.float32, (count, 1, 4, 4))
    greys = torch.cat([x for x, *_ in batches])
    numbers = greys[:, 0, 0, 0].mul(25.5).round().long()
    torch.testing.assert_close(greys, (numbers / 25.5).reshape(-1, 1, 1, 1).expand_as(greys))
    if labels:
        found = torch.cat([batch.labels for batch in batches])
        assert found.dtype == torch.int64
        assert found.equal(numbers)
    else:
        assert all(batch.labels is None for batch in batches)
    assert sorted(numbers.tolist()) == list(range(21))
    assert (numbers.tolist() == list(range(21))) is not options.get("shuffle", False)


def test_what_the_loader_itself_hands_out():
    x, labels = next(iter(DataLoader(numbered(), batch_size=3)))
    assert (x.dtype, x.max().item()) == (torch.float32, pytest.approx(20 / 255))
    assert labels.tolist() == [0, 1, 2]
    x = next(iter(DataLoader(numbered(labels=False), batch_size=3)))
    assert x.shape == (3, 1, 4, 4)
    x, labels = next(iter(DataLoader(Subset(numbered(), [5, 7]), batch_size=2)))
    assert labels.tolist() == [5, 7]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("options", kinds.values(), ids=kinds)
def test_binarized_images_are_drawn_anew_by_a_loader(options):
    images = Images(torch.full((400, 1, 4, 4), 0.25), torch.arange(400)).binarized()
    options = options | {"shuffle": False} if options["batch_size"] else options
    loader = DataLoader(images, **options)
    torch.manual_seed(0)
    first, second = (torch.cat([x for x, *_ in minibatches(loader, 99)]) for _ in range(2))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert first.mean().item() == pytest.approx(0.25, abs=5 * np.sqrt(0.1875 / first.numel()))
    # Two draws agree as often as independent ones do.
    same = (first == second).float().mean().item()
    assert same == pytest.approx(0.625, abs=5 * np.sqrt(0.625 * 0.375 / first.numel()))


def test_a_loader_is_judged_and_trained_on_as_its_images_are():
    images = numbered()
    loader = DataLoader(images, batch_size=7)
    model = small_vae()
    assert kl(model, loader) == kl(model, images)
    np.testing.assert_allclose(vb.embed(model, loader), vb.embed(model, images), rtol=1e-5)
    shuffled = DataLoader(images, batch_size=7, shuffle=True)
    history = vb.fit(model, shuffled, validation=loader, **quiet | {"epochs": 30})
    losses = history.frame.query("split == 'validation'")["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert losses.iloc[-1] == vb.evaluate(model, loader)["loss"]


def test_labels_of_a_loader_reach_a_conditional_model():
    images = Images(numbered().pixels, torch.arange(21) % 3)
    torch.manual_seed(0)
    model = vb.conditional_vae((1, 4, 4), latent_dim=2, classes=3)
    vb.fit(model, DataLoader(images, batch_size=7), **quiet)
    assert kl(model, DataLoader(images, 7)) == kl(model, images)
    wrong = Images(images.pixels, (images.labels + 1) % 3)
    assert kl(model, DataLoader(wrong, 7)) != kl(model, images)


class Flipped(Dataset):
    """Images of which each is turned over or not, by chance."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        x = to_pixels(self.images.pixels[i], "cpu")
        return (x.flip(-1) if torch.rand(()) < 0.5 else x), self.images.labels[i]


def test_a_model_trains_on_images_that_are_augmented():
    """Only the flipped copies of a one-sided picture teach what the other side looks like."""
    left = torch.zeros(64, 1, 4, 4)
    left[..., :2] = 1
    images = Images(left, torch.zeros(64, dtype=torch.int64))
    right, losses = left.flip(-1), []
    for data in (images, DataLoader(Flipped(images), batch_size=8, shuffle=True)):
        model = small_vae()
        vb.fit(model, data, **quiet | {"epochs": 40}, lr=1e-2)
        losses.append(vb.evaluate(model, right)["loss"])
    assert losses[1] < losses[0] / 2


class Stream(IterableDataset):
    def __iter__(self):
        yield from numbered().pixels


class Counted(Stream):
    def __len__(self):
        return 21


calls = {
    "fit": lambda model, data: vb.fit(model, data, **quiet),
    "evaluate": lambda model, data: vb.evaluate(model, data),
    "embed": lambda model, data: vb.embed(model, data),
    "log_likelihood": lambda model, data: vb.log_likelihood(model, data),
}
no_loaders = {
    "a stream": (DataLoader(Stream(), batch_size=4), "DataLoader that knows its length.* Stream"),
    "a torch Dataset": (TensorDataset(torch.zeros(9, 1, 4, 4)), "a DataLoader, got a Tensor"),
    "a part": (Subset(numbered(), range(9)), "Images or a DataLoader, got a Subset"),
    "the bare stream": (Stream(), "Images or a DataLoader, got a Stream"),
}


@pytest.mark.parametrize("call", calls.values(), ids=calls)
@pytest.mark.parametrize(("data", "complaint"), no_loaders.values(), ids=no_loaders)
def test_what_has_no_batches_of_known_number_is_refused(data, complaint, call):
    with pytest.raises(ValueError, match=f"^images: expected .*{complaint}") as caught:
        call(small_vae(), data)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^validation: expected .*DataLoader"):
        vb.fit(small_vae(), numbered(), validation=data, **quiet)


def test_a_stream_that_knows_its_length_is_fine():
    loader = DataLoader(Counted(), batch_size=7)
    assert kl(small_vae(), loader) == kl(small_vae(), numbered())
    assert len(vb.fit(small_vae(), loader, **quiet).rows) == 2


def test_batches_that_are_no_images_are_refused():
    for batch in ({"x": torch.zeros(2, 1, 4, 4)}, np.zeros((2, 1, 4, 4))):
        with pytest.raises(ValueError, match=r"^images: expected a DataLoader that yields images"):
            next(minibatches([batch], 2))


# Memory


class Careless(nn.Module):
    """An encoder whose first layer writes into its input."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Hardtanh(0.3, 0.6, inplace=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.first(x).flatten(1)).chunk(2, dim=1)


def careless_vae():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
    return vb.VAE(Careless(), decoder, image_shape=(1, 4, 4), latent_dim=2)


uses = {
    "evaluate": lambda data: vb.evaluate(careless_vae(), data, batch_size=4),
    "embed": lambda data: vb.embed(careless_vae(), data),
    "reconstruct": lambda data: vb.reconstruct(careless_vae(), data),
    "validate": lambda data: vb.fit(careless_vae(), numbered(), validation=data, **quiet),
    "fit": lambda data: vb.fit(careless_vae(), data, **quiet),
}  # fmt: skip


def noise(dtype, kind):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (9, 1, 4, 4), np.uint8)
    array = array if dtype == "uint8" else rng.random((9, 1, 4, 4), np.float32)
    tensor = torch.from_numpy(array)
    return {
        "NumPy": array, "a tensor": tensor, "Images": vb.as_images(tensor),
        "a DataLoader": DataLoader([tensor[:4], tensor[4:]], batch_size=None),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("use", uses.values(), ids=uses)
@pytest.mark.parametrize("kind", ["NumPy", "a tensor", "Images", "a DataLoader"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_network_cannot_change_the_data(dtype, kind, use):
    data = noise(dtype, kind)
    use(data)
    pixels = {"Images": lambda: data.pixels, "a DataLoader": lambda: torch.cat(data.dataset)}
    pixels = pixels.get(kind, lambda: torch.as_tensor(data))()
    assert pixels.equal(noise(dtype, "a tensor"))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_batch_has_memory_of_its_own(dtype, shuffled):
    data = noise(dtype, "a tensor")
    generator = torch.Generator() if shuffled else None
    for images in (vb.as_images(data), DataLoader([data[:4], data[4:]], batch_size=None)):
        for x, *_ in minibatches(images, 4, generator=generator):
            x.fill_(0.5)
    assert data.equal(noise(dtype, "a tensor"))
