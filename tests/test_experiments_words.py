"""The experiment behind *Codes that are words*."""

import math

import numpy as np
import pytest
import torch

import vaebook as vb
from vaebook.priors import Autoregressive

pytest.importorskip("constriction")
from experiments import words
from experiments.records import RESULTS


@pytest.fixture(scope="module")
def prior():
    z = torch.randint(5, (800, 6), generator=torch.Generator().manual_seed(0)).sort(1).values
    return Autoregressive((2, 3), 5, width=16).fit(z, steps=200, progress=False), z.float()


def test_a_file_gives_the_codes_back_and_is_as_long_as_predicted(prior):
    prior, z = prior
    content = words.write(prior, z)
    assert torch.equal(words.read(prior, content, len(z)), z)
    predicted = -prior.log_prob(z).sum().item() / math.log(2) / 8
    assert content.nbytes == pytest.approx(predicted, rel=0.01, abs=8)


def test_the_chapter_writes_the_same_file(prior, definitions):
    there = definitions("codes-that-are-words")
    there |= dict(prior=prior[0], rows=2, columns=3, categorical=words.CATEGORICAL)
    content = words.write(*prior)
    assert (there["write"](prior[1]) == content).all()
    assert torch.equal(there["read"](content, len(prior[1])), prior[1])


@pytest.mark.parametrize("size", [2, 7, 64])
def test_perplexity(size, definitions):
    even = np.arange(size).repeat(3).astype(float)
    assert words.perplexity(even, size) == pytest.approx(size)
    assert words.perplexity(np.zeros(9), size) == pytest.approx(1)
    draws = np.random.default_rng(0).integers(size, size=50) ** 2 % size
    theirs = definitions("codes-that-are-words")["perplexity"](torch.from_numpy(draws), size)
    assert words.perplexity(draws, size) == pytest.approx(theirs, rel=1e-5)


def test_nothing_is_missing_and_what_is_done_is_left_alone(capsys):
    before = (RESULTS / "words.json").read_bytes()
    assert words.main([]) == words.main(["--list"]) == 0
    assert (RESULTS / "words.json").read_bytes() == before
    assert "models: 30 of 30 runs done\nfiles: 6 of 6 runs done" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [words.webp, words.png])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_formats_err_no_more_than_asked(kind, channels):
    x = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    x = [*torch.nn.functional.avg_pool2d(x.expand(-1, channels, -1, -1), 5, 1, 2)]
    few, error = kind(x, 0.01)
    many, smaller = kind(x, 0.0005)
    assert error <= 0.01
    assert smaller <= 0.0005
    assert few < many


def test_a_sheet_holds_all_images():
    x = torch.rand(80, 3, 4, 4)
    whole = words.sheet(x, 4)
    assert whole.shape == (3, 8, 160)
    torch.testing.assert_close(whole[:, 4:, 4:8], x[41])
    wide = words.sheet(x, 6)
    assert wide.shape == (3, 12, 240)
    torch.testing.assert_close(wide[:, 6:10, 6:10], x[41])
    torch.testing.assert_close(wide.sum(), x.sum())


def test_continuous_codes_lie_on_the_grid_of_the_words(monkeypatch):
    monkeypatch.setattr(words, "train", lambda model, *others, **options: model)
    monkeypatch.setattr(words, "training_of", lambda name: vb.load("digits").train[:700])
    monkeypatch.setattr(words.vb, "load", lambda name: DIGITS)
    model, _ = words.continuous("mnist", 0, 1.0)
    assert model.latent_dim == 4 * 7 * 7
    assert model.sample(2).shape == (2, *DIGITS.image_shape)


DIGITS = vb.load("digits")
