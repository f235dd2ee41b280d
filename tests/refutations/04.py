"""Changes under which a claim of chapter 4 must fall."""

EVIDENCE = (
    "In a model of one pixel, the integral over all codes predicts how often each image is drawn."
)
THREE_WAYS = (
    "An adaptive integrator, a sum over a grid and an average over codes from the prior give the "
    "same evidence."
)
IDENTITY = (
    "log p(x) is the sum of the ELBO and of the KL divergence from q to the posterior, for every "
    "q: with the three computed separately, it holds to eight digits."
)
BEST = (
    "The best normal distribution for a posterior with two humps covers one hump, and 20,000 other "
    "normal distributions are no better."
)
CLOSED_FORM = (
    "The KL divergence between two normal distributions has a closed form that agrees with "
    "numerical integration."
)

REFUTATIONS = [
    {
        "claim": EVIDENCE,
        "says": "The images are drawn with twice the variance instead of the standard deviation.",
        "change": (
            "rng.normal(parabola(codes), sigma)",
            "rng.normal(parabola(codes), 2 * sigma**2)",
        ),
        "falls": "assert 0.3 < off < 2",
    },
    {
        "claim": EVIDENCE,
        "says": "The integrator forgets the prior.",
        "change": (
            "return NormalDist().pdf(z) * NormalDist(parabola(z), sigma).pdf(x)",
            "return NormalDist(parabola(z), sigma).pdf(x)",
        ),
        "falls": "assert 0.3 < off < 2",
    },
    {
        "claim": THREE_WAYS,
        "says": "Half of the codes are looked at, those with z > 0.",
        "change": ("grid = np.linspace(-8, 8, 4001)", "grid = np.linspace(0, 8, 4001)"),
        "falls": 'assert abs(values["sum over a grid"]',
    },
    {
        "claim": IDENTITY,
        "says": "The evidence is another number, 1 percent too large.",
        "change": (
            'log_evidence = math.log(values["integrator"])',
            'log_evidence = math.log(1.01 * values["integrator"])',
        ),
        "falls": "assert residual < 1e-8",
    },
    {
        "claim": THREE_WAYS,
        "says": "The posterior leaves out the prior.",
        "change": (
            "return norm.logpdf(z) + norm.logpdf(observed, parabola(z), sigma)",
            "return norm.logpdf(observed, parabola(z), sigma)",
        ),
        "falls": 'assert abs(values["sum over a grid"]',
    },
    {
        "claim": IDENTITY,
        "says": "The posterior is not divided by its total mass.",
        "change": ("return log_joint(z) - log_total", "return log_joint(z)"),
        "falls": "assert residual < 1e-8",
    },
    {
        "claim": IDENTITY,
        "says": "The ELBO takes the variance of q for its standard deviation.",
        "change": ("np.asarray(std)[..., None] * nodes", "np.asarray(std)[..., None] ** 2 * nodes"),
        "falls": "assert residual < 1e-8",
    },
    {
        "claim": IDENTITY,
        "says": "The KL to the prior in the ELBO is halved.",
        "change": (
            "return log_likelihood @ weights - kl_to_prior",
            "return log_likelihood @ weights - 0.5 * kl_to_prior",
        ),
        "falls": "assert residual < 1e-8",
    },
    {
        "claim": IDENTITY,
        "says": "The KL to the posterior is taken in the other direction.",
        "change": (
            "return np.trapezoid(np.exp(log_q) * (log_q - log_posterior(z)), z)",
            "return np.trapezoid(np.exp(log_posterior(z)) * (log_posterior(z) - log_q), z)",
        ),
        "falls": "assert residual < 1e-8",
    },
    {
        "claim": BEST,
        "says": "The optimizer starts on the left both times.",
        "change": (
            "best_normal([1, -1]), best_normal([-1.6, -1])",
            "best_normal([-1, -1]), best_normal([-1.6, -1])",
        ),
        "falls": "assert elbo(*best) - 5e-3 < highest",
    },
    {
        "claim": CLOSED_FORM,
        "says": "The formula forgets the square of the mean.",
        "change": (
            "0.5 * (mean**2 + std**2 - 1 - (std**2).log())",
            "0.5 * (std**2 - 1 - (std**2).log())",
        ),
        "falls": 'assert kl.sub(kl["integrated"], axis=0)',
    },
]

NEUTRAL = [
    {
        "says": "The KL to the posterior is computed on a grid twice as fine.",
        "change": ("np.linspace(-12, 12, 2001)", "np.linspace(-12, 12, 4001)"),
        "holds": "assert residual < 1e-8",
    },
    {
        "says": "The Gauss-Hermite quadrature has 12 nodes instead of 20.",
        "change": ("hermegauss(20)", "hermegauss(12)"),
        "holds": "assert residual < 1e-8",
    },
]
