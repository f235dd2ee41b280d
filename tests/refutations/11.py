"""Changes under which a claim of chapter 11 must fall."""

LAYER = "The gradients of a linear layer agree with nudged ones, number by number."
NOISE = (
    "With the same noise in both nudges the derivative by the log-variance agrees with "
    "its formula; "
    "with fresh noise it is off by orders of magnitude."
)
PULL = "The gradients of the KL agree with nudged ones."
WHOLE = "All gradients of the NumPy model agree with those of autograd to twelve digits in float64."
SAME = (
    "The NumPy model of the package has the gradients of the classes on the page, to the last bit."
)
CLAIMS = (
    "Up to a constant, C times the squared error is the cost of a Gaussian whose variance is "
    "1 / (2 C)."
)

REFUTATIONS = [
    {
        "claim": LAYER,
        "says": "The bias takes the mean over the batch, not the sum.",
        "change": ("self.d_bias = gradient.sum(axis=0)", "self.d_bias = gradient.mean(axis=0)"),
        "falls": "np.testing.assert_allclose(nudged, ours.ravel()",
    },
    {
        "claim": LAYER,
        "says": "The gradient by the input uses the weights untransposed and cut to size.",
        "change": (
            "return gradient @ self.weight.T",
            "return gradient @ self.weight.reshape(self.weight.T.shape)",
        ),
        "falls": "np.testing.assert_allclose(nudged, ours.ravel()",
    },
    {
        "claim": NOISE,
        "says": "The gradient by the log-variance has lost its one half.",
        "change": (
            "return gradient, 0.5 * self.shift * gradient",
            "return gradient, self.shift * gradient",
        ),
        "falls": "assert np.isclose(kept, formula",
    },
    {
        "claim": NOISE,
        "says": "The dice are kept.",
        "change": (
            "draw.forward(mean, log_var, rng.standard_normal((1, 1)))",
            "draw.forward(mean, log_var, noise)",
        ),
        "falls": "assert np.abs(fresh).max()",
    },
    {
        "claim": PULL,
        "says": "The gradient by the log-variance forgets the prior's pull.",
        "change": (
            "return kl, mean, 0.5 * (np.exp(log_var) - 1)",
            "return kl, mean, 0.5 * np.exp(log_var)",
        ),
        "falls": "np.testing.assert_allclose(nudged, pull.ravel()",
    },
    {
        "claim": SAME,
        "says": "ReLU lets the gradient pass everywhere.",
        "change": ("return gradient * self.positive", "return gradient"),
        "falls": "np.testing.assert_array_equal(homemade",
    },
    {
        "claim": WHOLE,
        "says": "Autograd's twin uses half of the noise.",
        "change": (
            "mean + (0.5 * log_var).exp() * dice",
            "mean + (0.5 * log_var).exp() * dice / 2",
        ),
        "falls": "assert errors.float64.max() < 1e-12",
    },
    {
        "claim": CLAIMS,
        "says": "C is taken for the precision.",
        "change": (
            "    sigma = (2 * C) ** -0.5\n    constant",
            "    sigma = C**-0.5\n    constant",
        ),
        "falls": "np.testing.assert_allclose(ours_plus",
    },
]

NEUTRAL = [
    {
        "says": "The nudged layer gets other numbers.",
        "change": (
            "rng = np.random.default_rng(0)\nlayer",
            "rng = np.random.default_rng(5)\nlayer",
        ),
        "holds": "np.testing.assert_allclose(nudged, ours.ravel()",
    },
]
