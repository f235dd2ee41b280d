import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, xlogy
from torch.distributions import Bernoulli as TorchBernoulli

from vaebook.likelihoods import LIKELIHOODS

bernoulli = LIKELIHOODS["bernoulli"]()
shapes = st.tuples(*(st.integers(1, most) for most in (4, 4, 9, 9)))
seeds = st.integers(0, 2**32)


def draw(shape, seed, scale=3.0):
    """Logits and grey pixels."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


@given(shapes, seeds)
def test_binary_pixels_have_the_log_probability_of_torch_distributions(shape, seed):
    logits, grey = draw(shape, seed)
    x = grey.round()
    expected = TorchBernoulli(logits=logits, validate_args=False).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli.log_prob(logits, x), expected)


@given(shapes, seeds, st.floats(0.1, 1000))
def test_grey_pixels_follow_the_same_formula_however_large_the_logits(shape, seed, scale):
    logits, x = draw(shape, seed, scale)
    a, b = logits.double().numpy(), x.double().numpy()
    expected = (b * a - np.logaddexp(0, a)).sum((1, 2, 3))
    np.testing.assert_allclose(bernoulli.log_prob(logits, x), expected, rtol=1e-5, atol=1e-4)


@given(shapes, seeds)
def test_a_grey_pixel_costs_at_least_its_own_entropy(shape, seed):
    logits, x = draw(shape, seed)
    p = x.double().numpy()
    entropy = -(xlogy(p, p) + xlogy(1 - p, 1 - p)).sum((1, 2, 3))
    assert (-bernoulli.log_prob(logits, x).numpy() >= entropy - 1e-3).all()
    best = torch.logit(x.double())  # what the best of models would say
    np.testing.assert_allclose(-bernoulli.log_prob(best, x.double()), entropy, atol=1e-6)


@given(shapes, seeds, st.floats(0.1, 1000))
def test_mean_is_the_sigmoid(shape, seed, scale):
    logits, _ = draw(shape, seed, scale)
    mean = bernoulli.mean(logits).numpy()
    np.testing.assert_allclose(mean, expit(logits.numpy()), rtol=1e-5, atol=1e-7)
    assert (mean >= 0).all()
    assert (mean <= 1).all()
