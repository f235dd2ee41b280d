"""Changes under which a claim of chapter 11 must fall."""

LAYER = "The gradients of a linear layer agree with nudged ones, number by number."
NOISE = (
    "With the same noise in both nudges the derivative with respect to the log-variance agrees "
    "with its formula; with fresh noise it is off by orders of magnitude."
)
PULL = "The KL agrees with PyTorch's, and its gradients agree with nudged ones."
LOSSES = "The gradients of both losses agree with nudged ones."
ADAM = "After a hundred steps our Adam has the weights of PyTorch's."
SAME = (
    "The NumPy model of the package has the gradients of the classes on the page, to the last bit."
)
WHOLE = "All gradients of the NumPy model agree with those of autograd to twelve digits in float64."
TWINS = (
    "Given the same batches and noise, the held-out loss of the NumPy model stays within half a "
    "nat of that of its PyTorch twin."
)
CLAIMS = (
    "Up to a constant, C times the squared error is the cost of a Gaussian whose variance is "
    "1 / (2 C)."
)
BOUND = "With its constant, the loss prefers neither the smallest nor the largest of three C."
HALF = (
    "A forgotten one half in the draw's gradient shows in the encoder and the log-variance, and "
    "nowhere else."
)

NUDGED_LAYER = "close(nudged(layer_loss, layer.bias)"
WRONG_DRAW = "from_scratch.Reparameterize.backward = lambda self, by_z: (by_z, self.shift * by_z)"

REFUTATIONS = [
    {
        "claim": LAYER,
        "says": "The bias takes the mean over the batch, not the sum.",
        "change": ("self.d_bias = gradient.sum(axis=0)", "self.d_bias = gradient.mean(axis=0)"),
        "falls": NUDGED_LAYER,
    },
    {
        "claim": LAYER,
        "says": "The gradient with respect to the input uses the weights untransposed.",
        "change": (
            "return gradient @ self.weight.T",
            "return gradient @ self.weight.reshape(self.weight.T.shape)",
        ),
        "falls": "close(nudged(layer_loss, inputs)",
    },
    {
        "claim": NOISE,
        "says": "The gradient with respect to the log-variance has lost its one half.",
        "change": (
            "return gradient, 0.5 * self.shift * gradient",
            "return gradient, self.shift * gradient",
        ),
        "falls": "assert np.isclose(kept, formula",
    },
    {
        "claim": NOISE,
        "says": "The noise is kept.",
        "change": (
            "draw.forward(mean, log_var, rng.standard_normal((1, 1)))",
            "draw.forward(mean, log_var, epsilon)",
        ),
        "falls": "assert np.abs(fresh).max()",
    },
    {
        "claim": PULL,
        "says": "The gradient with respect to the log-variance forgets the prior's pull.",
        "change": (
            "return kl, mean, 0.5 * (np.exp(log_var) - 1)",
            "return kl, mean, 0.5 * np.exp(log_var)",
        ),
        "falls": "close(nudged(lambda: kl_to_prior",
    },
    {
        "claim": PULL,
        "says": "The KL lacks its constant, which no nudge sees.",
        "change": ("np.exp(log_var) - 1 - log_var", "np.exp(log_var) - log_var"),
        "falls": "close(total_kl",
    },
    {
        "claim": LOSSES,
        "says": "The gradient of the squared error lacks its factor of two.",
        "change": ("2 * C * error", "C * error"),
        "falls": "close(nudged(lambda: cost_of",
    },
    {
        "claim": LOSSES,
        "says": "The gradient of the cross-entropy is halved.",
        "change": ("sigmoid(logits) - x", "0.5 * (sigmoid(logits) - x)"),
        "falls": "close(nudged(lambda: cost_of",
    },
    {
        "claim": ADAM,
        "says": "Nothing makes up for the start at zero.",
        "change": ("self.lr / c1 * m / (np.sqrt(v / c2)", "self.lr * m / (np.sqrt(v)"),
        "falls": "np.testing.assert_allclose(weights",
    },
    {
        "claim": SAME,
        "says": "ReLU lets the gradient pass everywhere.",
        "change": ("return gradient * self.positive", "return gradient"),
        "falls": "np.testing.assert_array_equal(homemade",
    },
    {
        "claim": SAME,
        "says": "The package's own layers stay, and are compared with themselves.",
        "change": ("    setattr(homemade, name, new)\n", "    pass\n"),
        "falls": "assert type(homemade.encoder) is Linear",
    },
    {
        "claim": WHOLE,
        "says": "Autograd's twin uses half of the noise.",
        "change": (
            "mean + (0.5 * log_var).exp() * noise",
            "mean + (0.5 * log_var).exp() * noise / 2",
        ),
        "falls": "assert errors.float64.max() < 1e-12",
    },
    {
        "claim": TWINS,
        "says": "The package's draw has lost its one half.",
        "change": ("ours = VAE()\ntwin", f"{WRONG_DRAW}\nours = VAE()\ntwin"),
        "falls": "assert abs(gaps).max() < 0.5",
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
    {
        "claim": BOUND,
        "says": "The constant is left out.",
        "change": ("reconstruction + kl + 784 / 2 * np.log(np.pi / C)", "reconstruction + kl"),
        "falls": "assert best not in",
    },
    {
        "claim": HALF,
        "says": "The mistake is in the gradient with respect to the mean.",
        "change": (
            "        return gradient, self.shift * gradient",
            "        return 0.5 * gradient, 0.5 * self.shift * gradient",
        ),
        "falls": "assert {name.split",
    },
]

NEUTRAL = [
    {
        "says": "The nudged layer gets other numbers.",
        "change": (
            "rng = np.random.default_rng(0)\nlayer",
            "rng = np.random.default_rng(5)\nlayer",
        ),
        "holds": NUDGED_LAYER,
    },
    *(
        {
            "says": f"The twins start from weights of seed {seed}.",
            "change": ("ours = VAE()\ntwin", f"ours = VAE(seed={seed})\ntwin"),
            "holds": "assert abs(gaps).max() < 0.5",
        }
        for seed in (1, 2)
    ),
]
