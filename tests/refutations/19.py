"""Changes under which a claim of chapter 19 must fall."""

REFUTATIONS = [
    {
        "claim": "Ten Gaussians save more than twice as much in the plane as one.",
        "says": "The Gaussians are fitted to draws from the prior.",
        "change": (
            "in_plane = {",
            "flat = vb.sample_prior(plane, 5000)\nin_plane = {",
        ),
        "falls": 'assert data.stand_in or in_the_plane["one Gaussian"]',
    },
    {
        "claim": "One Gaussian saves next to nothing, and fifty save more than a nat.",
        "says": "Each dimension of the codes is shuffled on its own.",
        "change": (
            "    fitted[name] = Subspace(active, prior).fit(codes, **options)",
            "    alone = [each[torch.randperm(len(each))] for each in codes.T]\n"
            "    fitted[name] = Subspace(active, prior).fit(torch.stack(alone, 1), **options)",
        ),
        "falls": 'assert data.stand_in or nats["one Gaussian"] + 1 < nats["50 Gaussians"]',
    },
    {
        "claim": "Draws by flow matching and codes have the same log-density, either way.",
        "says": "The network learns the way from code to noise.",
        "change": ("- (z - noise)).square().mean()", "- (noise - z)).square().mean()"),
        "falls": 'assert data.stand_in or (lost.loc["flow matching"].abs() < 0.15).all()',
    },
    {
        "claim": "Draws by flow matching and codes have the same log-density, either way.",
        "says": "The network does not see the time.",
        "change": ("(network(torch.cat([place, t], 1))", "(network(torch.cat([place, 0 * t], 1))"),
        "falls": 'assert data.stand_in or (lost.loc["flow matching"].abs() < 0.15).all()',
    },
    {
        "claim": "On a grid, correlations of the codes are worth more than fifty nats.",
        "says": "The Gaussian is fitted to codes whose numbers are shuffled one by one.",
        "change": (
            '        "saved by one Gaussian": saved(Mixture(1).fit(z), new),',
            '        "saved by one Gaussian": saved(Mixture(1).fit('
            "torch.stack([n[torch.randperm(len(n))] for n in z.T], 1)), new),",
        ),
        "falls": "assert photographs.stand_in or (correlations > 50).all()",
    },
    {
        "claim": "A tiny KL weight more than triples the KL.",
        "says": "The weight is only halved.",
        "change": ("for beta in (1.0, 1e-4)}, {}", "for beta in (1.0, 0.5)}, {}"),
        "falls": "assert photographs.stand_in or measured.iloc[1, 1] > 3 * measured.iloc[0, 1]",
    },
    {
        "claim": "In the plane, copies of 20,000 codes save nats on held-out codes.",
        "says": "The posteriors are a fifth as wide.",
        "change": (
            "of_each = Normal(means, widths)",
            "of_each = Normal(means, widths / 5)",
        ),
        "falls": "assert data.stand_in or plane_copies > 0",
    },
    {
        "claim": "On MNIST, copies lose nats on held-out codes.",
        "says": "They are scored on the codes that they copy.",
        "change": (
            'copies = runs[runs.prior == "codes of images"].set_index(["dataset", "seed"])',
            'copies = runs[runs.prior == "codes of images"].set_index(["dataset", "seed"])\n'
            'copies["saved"] = copies.saved_own',
        ),
        "falls": 'assert (copies.saved.loc["mnist"] < 0).all()',
    },
    {
        "claim": "On MNIST and Kuzushiji, copies have a smaller distance than every fitted prior.",
        "says": "Draws from N(0, I) stand in their place.",
        "change": (
            'worst, best = wide["N(0, I)"], wide["drawn reconstructions"]',
            'wide["codes of images"] = wide["N(0, I)"]\n'
            'worst, best = wide["N(0, I)"], wide["drawn reconstructions"]',
        ),
        "falls": 'assert smaller.loc[["mnist", "kmnist"]].all()',
    },
    {
        "claim": "Fifty Gaussians close more of the gap than one Gaussian or flow matching.",
        "says": "Draws from one Gaussian stand in their place.",
        "change": (
            "closed = wide.apply(lambda distance: (worst - distance) / (worst - best))",
            'wide["50 Gaussians"] = wide["one Gaussian"]\n'
            "closed = wide.apply(lambda distance: (worst - distance) / (worst - best))",
        ),
        "falls": 'assert (closed["50 Gaussians"] > closed["one Gaussian"] + 0.5).all()',
    },
    {
        "claim": "Four steps of flow matching draw nearly as well as twenty.",
        "says": "One step stands in the place of four.",
        "change": ('(", steps: 1", ", steps: 4", "")', '(", steps: 4", ", steps: 1", "")'),
        "falls": "assert four - twenty < 0.2 * (one - twenty)",
    },
    {
        "claim": "A VampPrior and a fitted mixture each gain more than a nat, for every seed.",
        "says": "The models with N(0, I) are counted among them.",
        "change": (
            'others = likelihood[likelihood.prior != "N(0, I)"]',
            'others = likelihood[likelihood.prior != "VampPrior"]',
        ),
        "falls": "assert (others.gain > 1 + 2 * others.gain_error).all()",
    },
    {
        "claim": "The two scores of the plane tell noise from codes.",
        "says": "Draws from the mixture stand in the place of noise.",
        "change": (
            '"noise": path[0]}',
            '"noise": in_plane["ten Gaussians"].sample(5000)}',
        ),
        "falls": 'assert data.stand_in or (lost.loc["noise"] > 0.15).all()',
    },
    {
        "claim": "One Gaussian saves next to nothing, and fifty save more than a nat.",
        "says": "All codes are twice as large.",
        "change": (
            "active = vb.diagnose(model, train[:3000]).activity > 0.01",
            "active = vb.diagnose(model, train[:3000]).activity > 0.01\n"
            "codes, held_out = 2 * codes, 2 * held_out",
        ),
        "falls": 'assert data.stand_in or abs(nats["one Gaussian"]) < 0.5',
    },
    {
        "claim": "A tiny KL weight lowers the squared error.",
        "says": "The two weights are exchanged.",
        "change": ("for beta in (1.0, 1e-4)}, {}", "for beta in (1e-4, 1.0)}, {}"),
        "falls": "assert photographs.stand_in or measured.iloc[1, 0] < measured.iloc[0, 0]",
    },
    {
        "claim": "Gaussians fitted to posterior means save less than those fitted to draws.",
        "says": "They are fitted to draws.",
        "change": (
            "Subspace(active, Mixture(50)).fit(vb.posterior(model, train).mean)",
            "Subspace(active, Mixture(50)).fit(codes)",
        ),
        "falls": 'assert data.stand_in or of_means < nats["50 Gaussians"]',
    },
    {
        "claim": "Most Gaussians fit their own codes best, and held-out codes not.",
        "says": "Held-out codes stand in the place of the codes that are fitted.",
        "change": (
            '"fitted to": saved(prior, fewer)}',
            '"fitted to": saved(prior, held_out)}',
        ),
        "falls": 'assert data.stand_in or (tried["held out"].idxmax() < 200',
    },
]

NEUTRAL = [
    {
        "says": "The two log-densities are averaged before they are subtracted.",
        "change": (
            "return (prior.log_prob(z) - Normal(0, 1).log_prob(z).sum(1)).mean().item()",
            "return (prior.log_prob(z).mean() - Normal(0, 1).log_prob(z).sum(1).mean()).item()",
        ),
        "holds": 'assert data.stand_in or nats["one Gaussian"] + 1 < nats["50 Gaussians"]',
    },
    {
        "says": "The place on the way is written with torch.lerp.",
        "change": ("place = (1 - t) * noise + t * z", "place = torch.lerp(noise, z, t)"),
        "holds": 'assert data.stand_in or (lost.loc["flow matching"].abs() < 0.15).all()',
    },
]
