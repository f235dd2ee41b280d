"""Changes under which a claim of chapter 16 must fall."""

OBJECTIVE = "The page's objective is that of `vb.ImportanceWeighted`."
DRAWS = (
    "With as many steps, five draws improve log p(x) and widen its gap to the ELBO, by more than "
    "three standard errors each."
)
LONGER = "One draw and more epochs, about as long, give a better log p(x) than five draws."
NOISE = (
    "With a hundred draws the doubly reparameterized gradient of the encoder has a better ratio of "
    "signal to noise than the plain one, for each of three batches."
)
UNBIASED = "The doubly reparameterized gradient has the same mean as the plain one."
LADDER = (
    "In a short training the lowest level of a ladder carries most of the KL, and the uppermost "
    "still some."
)
LEVELS = (
    "On MNIST a ladder, with its levels and its depth, has a better log p(x) than one level of as "
    "many parameters, for each of three seeds."
)
ELSEWHERE = "On Kuzushiji-MNIST the ladder is not better than one level (one seed each)."
LABEL = "With the label the figure is higher by more than half a nat and three standard errors."

REFUTATIONS = [
    {
        "claim": OBJECTIVE,
        "says": "The logarithms of the weights are averaged instead of the weights.",
        "change": (
            "vb.importance_bound(drawn.likelihood - self.beta * kl)",
            "(drawn.likelihood - self.beta * kl).mean(dim=0)",
        ),
        "falls": "assert torch.allclose(*losses)",
    },
    {
        "claim": DRAWS,
        "says": "All models are trained with one draw.",
        "change": ('"K = 5": (SeveralDraws(5), 2)', '"K = 5": (SeveralDraws(1), 2)'),
        "falls": "assert data.stand_in or (gain > 3",
    },
    {
        "claim": LONGER,
        "says": "The model that is trained for longer has as few epochs as the others.",
        "change": (
            '"K = 1, longer": (SeveralDraws(1), 4)',
            '"K = 1, longer": (SeveralDraws(1), 2)',
        ),
        "falls": "assert data.stand_in or rest",
    },
    {
        "claim": LONGER,
        "says": "The model that is trained for longer has twice as many epochs.",
        "change": (
            '"K = 1, longer": (SeveralDraws(1), 4)',
            '"K = 1, longer": (SeveralDraws(1), 8)',
        ),
        "falls": "assert data.stand_in or not one_core",
    },
    {
        "claim": NOISE,
        "says": "The flag is not handed on.",
        "change": ("doubly_reparameterized=doubly", "doubly_reparameterized=False"),
        "falls": "assert data.stand_in or (better.loc[100].min() > 1.3",
    },
    {
        "claim": UNBIASED,
        "says": "The weights are not squared on the way to the encoder.",
        "change": (
            'kinds = {"plain"',
            'torch.Tensor.register_hook = lambda *_: None\nkinds = {"plain"',
        ),
        "falls": "assert max(apart) < 1.5",
    },
    {
        "claim": LADDER,
        "says": "The lowest level has a single latent dimension.",
        "change": ("latent_dims=(32, 16, 8)", "latent_dims=(1, 16, 8)"),
        "falls": "assert data.stand_in or (levels[0]",
    },
    {
        "claim": LEVELS,
        "says": "The difference is taken the wrong way round.",
        "change": (
            'gains = by_seed["ladder"] - by_seed["one level"]',
            'gains = by_seed["one level"] - by_seed["ladder"]',
        ),
        "falls": "assert len(gains) == 3",
    },
    {
        "claim": ELSEWHERE,
        "says": "The rows of MNIST are read in the place of those of Kuzushiji-MNIST.",
        "change": ('if row["dataset"] == "kmnist"', 'if row["dataset"] == "mnist"'),
        "falls": "assert elsewhere < 0",
    },
    {
        "claim": LABEL,
        "says": "Every image is judged as a zero.",
        "change": (
            "vb.log_likelihood(conditional, test",
            "vb.log_likelihood(conditional.given(0), test",
        ),
        "falls": "assert data.stand_in or worth > 0.5",
    },
    {
        "claim": LABEL,
        "says": "Another model without labels is trained in the place of the conditional one.",
        "change": (
            "vb.conditional_vae(data.image_shape, latent_dim=50, classes=10, **networks)",
            "one_layer()",
        ),
        "falls": "assert data.stand_in or worth > 0.5",
    },
]

NEUTRAL = [
    {
        "says": "The ELBO is estimated with other draws.",
        "change": (
            "torch.manual_seed(0)\n    elbo = model.draw",
            "torch.manual_seed(3)\n    elbo = model.draw",
        ),
        "holds": "assert data.stand_in or rest",
    },
]
