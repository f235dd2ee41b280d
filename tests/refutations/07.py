"""Changes under which a claim of chapter 7 must fall."""

REFUTATIONS = [
    {
        "claim": "In a deep VAE that collapses as usual, a warm-up keeps the code.",
        "says": "The warm-up is built, but the plain objective is passed on.",
        "change": ("train_deep(warm, seed)", "train_deep(plain, seed)"),
        "falls": 'assert data.stand_in or (ended.lowest_kl["warm-up"] > 0.5)',
    },
    {
        "claim": "A code that the warm-up brought into use stays in use without help.",
        "says": "The collapsed model is trained on in place of the one with the warm-up.",
        "change": ("go_on(alive)}", "go_on(collapsed)}"),
        "falls": 'assert data.stand_in or rest["warm-up"]',
    },
    {
        "claim": "Free bits take the mean over the batch before the maximum, as the package does.",
        "says": "The maximum is taken for each image, before the mean over the batch.",
        "change": (
            "kl.mean(dim=0).clamp(min=allowance).sum()",
            "kl.clamp(min=allowance).mean(dim=0).sum()",
        ),
        "falls": "assert torch.allclose((terms.loss",
    },
    {
        "claim": "An estimate of I(x; z) with one draw per image, agrees with its known value.",
        "says": "The sum over images is not divided by their number.",
        "change": (" + math.log(len(mean))).mean()", ").mean()"),
        "falls": "assert abs(told + math.log(0.6))",
    },
    {
        "claim": "The KL is the mutual information plus the marginal KL.",
        "says": "The logarithm of the standard deviation is taken for the log-variance.",
        "change": (
            "vb.kl_per_dimension(mean, 2 * std.log())",
            "vb.kl_per_dimension(mean, std.log())",
        ),
        "falls": "assert abs(told + math.log(0.6))",
    },
    {
        "claim": "In the masked decoder a pixel sees only the pixels before it.",
        "says": "The mask keeps the diagonal, so that a pixel sees itself.",
        "change": (".tril(-1)", ".tril(0)"),
        "falls": "assert moved.min()",
    },
    {
        "claim": "A linear VAE uses as many dimensions as eigenvalues exceed the noise variance.",
        "says": "The eigenvalues are compared with the standard deviation of the noise.",
        "change": ("value > beta * sigma**2 for value", "value > beta * sigma for value"),
        "falls": "assert data.stand_in or (units == wanted)",
    },
    {
        "claim": "A linear VAE uses as many dimensions as eigenvalues exceed the noise variance.",
        "says": "The factor one half of the KL is missing in the loss that is trained.",
        "change": ("kl = 0.5 * (activity + log_var.exp()", "kl = 1.0 * (activity + log_var.exp()"),
        "falls": "assert data.stand_in or (units == wanted)",
    },
    {
        "claim": "A direction that a linear VAE uses carries half the log of variance over noise.",
        "says": "The one half is missing in the prediction.",
        "change": ("sum(0.5 * math.log(value / noise)", "sum(math.log(value / noise)"),
        "falls": "assert data.stand_in or (nats - torch.tensor",
    },
]
NEUTRAL = [
    {
        "says": "A sum over the last axis instead of axis 1, which is the last.",
        "change": ("own = q.log_prob(z).sum(dim=1)", "own = q.log_prob(z).sum(dim=-1)"),
        "holds": "assert abs(told + math.log(0.6))",
    },
    {
        "says": "Two factors of the linear loss change places.",
        "change": (
            "(decode.square().sum(-2) * log_var.exp())",
            "(log_var.exp() * decode.square().sum(-2))",
        ),
        "holds": "assert data.stand_in or (units == wanted)",
    },
]
