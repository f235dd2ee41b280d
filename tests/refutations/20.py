"""Changes under which a claim of chapter 20 must fall."""

REFUTATIONS = [
    {
        "claim": "The straight-through gradient is the decoder's, at the vector.",
        "says": "The difference is not detached, so that the output drops out.",
        "change": ("return h + (e - h).detach()", "return h + (e - h)"),
        "falls": "assert torch.allclose(given, vectors[5])",
    },
    {
        "claim": "More than 60 % of the codebook are in use.",
        "says": "Rare words are not revived.",
        "change": (
            "model = vb.vq_vae(data.image_shape, codebook=size)",
            "from vaebook.models import quantized\n"
            "quantized.DEAD = 0.0\n"
            "model = vb.vq_vae(data.image_shape, codebook=size)",
        ),
        "falls": "assert data.stand_in or used > 0.6 * size",
    },
    {
        "claim": "Revived words keep the codebook in use: 20 points more of it.",
        "says": "Without splitting, one word less is in use.",
        "change": (
            "shares = used_in.div(sizes",
            'used_in["VQ-VAE, none revived"] = used_in["VQ-VAE"] - 1\nshares = used_in.div(sizes',
        ),
        "falls": 'assert (shares["VQ-VAE"] > shares["VQ-VAE, none revived"] + 0.2).all()',
    },
    {
        "claim": "Dependence between places takes a quarter off the price by frequencies.",
        "says": "The words of each place are shuffled among the images.",
        "change": (
            "of_train = torch.from_numpy(vb.embed(model, train))",
            "of_train = torch.from_numpy(vb.embed(model, train))\n"
            "of_train = torch.stack([c[torch.randperm(len(c))] for c in of_train.T], 1)",
        ),
        "falls": "assert data.stand_in or learned < 0.75 * alone < 0.75 * uniform",
    },
    {
        "claim": "A file of words gives the same words again.",
        "says": "The writer takes the images in another order.",
        "change": (
            "    coder = constriction.stream.queue.RangeEncoder()",
            "    words = words.roll(1, 0)\n    coder = constriction.stream.queue.RangeEncoder()",
        ),
        "falls": "assert torch.equal(again.long(), words)",
    },
    {
        "claim": "The file is as long as the prior predicts, within 2 %.",
        "says": "Both sides take uniform probabilities.",
        "change": (
            "prior = Autoregressive((rows, columns), codebook=size)",
            "prior = Autoregressive((rows, columns), codebook=size)\n"
            "prior.conditional = lambda z, i: torch.full((len(z), size), 1 / size)",
        ),
        "falls": "assert abs(written / predicted - 1) < 0.02",
    },
    {
        "claim": "Words take fewer bytes than WebP and PNG at the same squared error.",
        "says": "Bytes of words are counted as numbers of 32 bits.",
        "change": (
            'stored = vb.results("words_files.csv")',
            'stored = vb.results("words_files.csv").assign(written=lambda rows: 4 * rows.written)',
        ),
        "falls": "assert (stored.written < others).all()",
    },
    {
        "claim": "Samples from the learned prior have less than half the distance of uniform ones.",
        "says": "The distances of the uniform prior stand in their place.",
        "change": (
            'discrete = runs[runs.model == "VQ-VAE"].set_index(["dataset", "seed"])',
            'discrete = runs[runs.model == "VQ-VAE"].set_index(["dataset", "seed"])\n'
            'discrete["distance_fitted_prior"] = discrete["distance_own_prior"]',
        ),
        "falls": 'assert (far["distance_fitted_prior"] < far["distance_own_prior"] / 2).all()',
    },
    {
        "claim": "At equal nats under fitted priors, Gaussian codes err no more than words.",
        "says": "The Gaussian codes pay the price of N(0, I) there, too.",
        "change": (
            '("draws, fitted prior", "nats_fitted", "error_draws")',
            '("draws, fitted prior", "nats", "error_draws")',
        ),
        "falls": 'assert (ratios["draws, fitted prior"] < 1.05).all()',
    },
    {
        "claim": "At equal nats, words err no more than draws of Gaussian codes under N(0, I).",
        "says": "Means are decoded in the place of draws.",
        "change": (
            '("draws, own prior", "nats", "error_draws")',
            '("draws, own prior", "nats", "error_means")',
        ),
        "falls": 'assert (ratios["draws, own prior"] > 0.95).all()',
    },
]

NEUTRAL = [
    {
        "says": "The straight-through line is written the other way round.",
        "change": ("return h + (e - h).detach()", "return e.detach() + h - h.detach()"),
        "holds": "assert torch.allclose(given, vectors[5])",
    },
    {
        "says": "The perplexity is computed in bits.",
        "change": (
            "return torch.special.entr(shares).sum().exp().item()",
            "return 2 ** (torch.special.entr(shares).sum() / math.log(2)).item()",
        ),
        "holds": "assert data.stand_in or used > 0.6 * size",
    },
]
