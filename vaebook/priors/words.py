"""A prior for codes that are words: chapter *Codes that are words* draws from it."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaebook.checks import is_whole, positive, wrong
from vaebook.models.networks import Codes
from vaebook.models.quantized import Words, check_words
from vaebook.priors.fitted import CPU, LogDensities, Trained, _fitted, as_codes
from vaebook.training.devices import seeded

Logits = Float[Tensor, "batch some words"]


class Window(nn.Module):
    """A network that tells the word of a place from those in the window before it.

    The window holds what was read already, line by line, up to `reach` rows above the place and as
    many columns to its sides: the masked convolution of van den Oord et al. 2016, with all of its
    reach in the first layer, so that the word of one place can be told without the others. Of
    one-hot words this layer is a sum of rows of its weights, one for each word in the window.
    """

    before: Int[Tensor, "places window"]
    firsts: Int[Tensor, " window"]

    def __init__(self, grid: tuple[int, int], words: int, reach: int, width: int) -> None:
        super().__init__()
        rows, columns = grid
        places = torch.arange(rows * columns).view(rows, columns)
        padded = F.pad(places, (reach, reach, reach, 0), value=rows * columns)  # outside
        seen = padded.unfold(0, reach + 1, 1).unfold(1, 2 * reach + 1, 1).flatten(2).flatten(0, 1)
        self.register_buffer("before", seen[:, : -reach - 1])  # without the place and what follows
        self.words, size = words, self.before.shape[1]
        self.register_buffer("firsts", torch.arange(size) * (words + 1))  # rows of the weights
        self.first = nn.EmbeddingBag(size * (words + 1), width, mode="sum")
        nn.init.normal_(self.first.weight, std=size**-0.5)
        self.place = nn.Parameter(torch.zeros(rows * columns, width))
        hidden, last = nn.Linear(width, width), nn.Linear(width, words)
        self.layers = nn.Sequential(nn.GELU(), hidden, nn.GELU(), last)

    def forward(self, words: Words, some: slice = slice(None)) -> Logits:
        """Return the logits of the words of some places, given those before them."""
        outside = words.new_full((len(words), 1), self.words)
        seen = torch.cat([words, outside], 1)[:, self.before[some]] + self.firsts
        h = self.first(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        return self.layers(h + self.place[some])


class Autoregressive(Trained):
    """A prior for the words of a `VQVAE`: word by word, given those that come before.

    p(z) is the product of p(word | words above it and to its left), each told by a network with two
    hidden layers of `width`, which sees them up to `reach` rows above and columns to the sides (van
    den Oord et al. 2016; van den Oord, Vinyals & Kavukcuoglu 2017, sec. 3.3). `grid` has rows and
    columns of a code, and `codebook` is the number of words. A ValueError tells of codes that are
    no words, or have fewer of them in all than the codebook.

    >>> prior = Autoregressive(grid=(2, 2), codebook=16, width=8)
    >>> prior.fit(torch.randint(16, (100, 4)), steps=5, progress=False).sample(5).shape
    torch.Size([5, 4])
    """

    def __init__(self, grid: Any, codebook: int, *, reach: int = 3, width: int = 256) -> None:
        sizes = tuple(grid) if isinstance(grid, Sequence) else ()
        if len(sizes) != 2 or not all(map(is_whole, sizes)):
            raise wrong("grid", "rows and columns, positive whole numbers", repr(grid))
        positive(codebook=codebook, reach=reach, width=width)
        self.grid, self.codebook = (int(sizes[0]), int(sizes[1])), int(codebook)
        self.reach, self.width = int(reach), int(width)

    def build(self, latent: int) -> nn.Module:
        """Return the network."""
        return Window(self.grid, self.codebook, self.reach, self.width)

    def ready(self, codes: Codes) -> tuple[Words, dict[str, Tensor]]:
        """Return words as whole numbers."""
        if codes.numel() < self.codebook:
            raise wrong("z", f"{self.codebook} words or more, for as many to learn", codes.numel())
        return self.as_words(codes), {}

    def as_words(self, z: Any, name: str = "z") -> Words:
        """Return codes as whole numbers, or raise a ValueError for those that are no words."""
        codes = as_codes(z, latent=self.grid[0] * self.grid[1], name=name)
        check_words(name, codes, self.codebook)
        return codes.long()

    def loss(self, network: Any, codes: Words) -> Tensor:
        """Return the negative log-probability of a word, averaged over codes and places."""
        return F.cross_entropy(network(codes).flatten(0, 1), codes.flatten())

    @torch.no_grad()
    def log_prob(self, z: Any) -> LogDensities:
        """Return the logarithm of the probability of each code, in nats."""
        network, parts = _fitted(self, self.network), self.as_words(z).split(1000)
        costs = [F.cross_entropy(network(z).mT, z, reduction="none").double() for z in parts]
        return -torch.cat(costs).sum(1)

    @torch.no_grad()
    def conditional(self, words: Any, place: int) -> Float[Tensor, "batch words"]:
        """Return the probabilities of each word at a `place`, given the words before it.

        Places are counted from 0, row by row; which words stand at the place and after it makes no
        difference. An entropy coder needs these: the same to the last digit for the same batch.
        """
        network, words = _fitted(self, self.network), self.as_words(words, "words")
        if not (is_whole(place, least=0) and place < words.shape[1]):
            raise wrong("place", f"a whole number from 0 to {words.shape[1] - 1}", place)
        return network(words, slice(place, place + 1))[:, 0].softmax(1)

    @torch.no_grad()
    def sample(self, n: int = 64, seed: int = 0) -> Codes:
        """Draw `n` codes, the same again for the same `seed`."""
        positive(n=n)
        words = torch.zeros(n, self.grid[0] * self.grid[1])
        with seeded(CPU, seed, 0):
            for place in range(words.shape[1]):
                words[:, place] = self.conditional(words, place).multinomial(1)[:, 0]
        return words
