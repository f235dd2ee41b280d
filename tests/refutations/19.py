"""Changes under which a claim of chapter 19 must fall."""

REFUTATIONS = [
    {
        "claim": "Ten Gaussians save more than twice as much in the plane as one.",
        "says": "The Gaussians are fitted to draws from the prior.",
        "change": (
            "in_plane = {",
            "flat = vb.sample_prior(plane, 5000)\nin_plane = {",
        ),
        "falls": 'assert data.stand_in or in_the_plane["ten Gaussians"] > 0.15',
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
        "says": "Both weights are near 1.",
        "change": ("for beta in (1.0, 1e-4)}, {}", "for beta in (1.0, 0.99)}, {}"),
        "falls": "assert photographs.stand_in or measured.iloc[1, 1] > 3 * measured.iloc[0, 1]",
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
