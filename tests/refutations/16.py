"""Changes under which a claim of chapter 16 must fall."""

OBJECTIVE = "The page's objective is that of `vb.ImportanceWeighted`."
DRAWS = (
    "With as many steps, five draws improve log p(x) and widen its gap to the ELBO, by more than "
    "three standard errors each."
)
LONGER = "One draw and more epochs, about as long, give a better log p(x) than five draws."
NOISE = (
    "With a hundred draws the doubly reparameterized gradient of the encoder has a better ratio of "
    "signal to noise than the plain one."
)
LEVELS = (
    "A ladder has a better log p(x) than one level of as many parameters, for each of three seeds."
)
LABEL = "The label is worth more than half a nat, by more than three standard errors."

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
        "change": ("SeveralDraws(K), epochs)", "SeveralDraws(1), epochs)"),
        "falls": "assert data.stand_in or (gain > 3",
    },
    {
        "claim": LONGER,
        "says": "The model that is trained for longer has as few epochs as the others.",
        "change": ('("K = 1, longer", 1, 5)', '("K = 1, longer", 1, 3)'),
        "falls": "assert data.stand_in or rest",
    },
    {
        "claim": NOISE,
        "says": "The flag is not handed on.",
        "change": ("doubly_reparameterized=doubly", "doubly_reparameterized=False"),
        "falls": 'assert many["doubly reparameterized"]',
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
        "claim": LABEL,
        "says": "Every image is judged as a zero.",
        "change": (
            "vb.log_likelihood(conditional, test",
            "vb.log_likelihood(conditional.given(0), test",
        ),
        "falls": "assert data.stand_in or gain > 0.5",
    },
    {
        "claim": LABEL,
        "says": "Another model without labels is trained in the place of the conditional one.",
        "change": (
            "vb.conditional_vae(data.image_shape, latent_dim=50, classes=10, **networks)",
            "one_layer()",
        ),
        "falls": "assert data.stand_in or gain > 0.5",
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
