"""Changes under which a claim of chapter 12 must fall."""

CONTROL = (
    "Feature distance, half-bright pixels and the nats of the 32-dimensional model rate a fade "
    "between two held-out images worse than the images, in nine of ten pairs."
)
MIDDLE = (
    "Halfway, a straight walk between codes is better than a fade and worse than its ends, by "
    "all three measures."
)
THIRD = "More walks in the plane than in 32 dimensions pass through a third digit."
SHELL = "In 32 dimensions posterior means are shorter than draws from the posteriors."
LIKE_DRAWS = "The point halfway on an arc between two draws is distributed like a draw."
ARC = (
    "Halfway the arc is better than the straight walk by feature distance and half-bright pixels, "
    "but between images in the plane; the nats of the 32-dimensional model do not tell."
)
NEAR = "Near the ends of a walk the arc is worse than the straight walk."
PARTS = (
    "Halfway the length of the arc helps in both models, its direction in 32 dimensions; in the "
    "plane the direction harms."
)
DRAWS = "Between draws the straight walk loses little, and the arc brings it back."
SMALL = "Between images in 32 dimensions the arc regains between 5 and 50 % of the walk's loss."

REFUTATIONS = [
    {
        "claim": CONTROL,
        "says": "The fade shows only one of the two images.",
        "change": ("faded = (real[0] + real[1]) / 2", "faded = real[0]"),
        "falls": "assert data.stand_in or min(rated_worse",
    },
    {
        "claim": CONTROL,
        "says": "A pixel counts as half-bright above 0.35 or below 0.65, so that all count.",
        "change": ("(pictures > 0.35) & (", "(pictures > 0.35) | ("),
        "falls": "assert data.stand_in or min(rated_worse",
    },
    {
        "claim": CONTROL,
        "says": "The feature distance is that to the farthest training image.",
        "change": (".amin(dim=1)", ".amax(dim=1)"),
        "falls": "assert data.stand_in or min(rated_worse",
    },
    {
        "claim": "The nats of the 2-dimensional model do not tell a fade from images.",
        "says": "The 32-dimensional model is asked in its place.",
        "change": (
            "lambda pictures: nats_above_grey(plane, pictures)",
            "lambda pictures: nats_above_grey(space, pictures)",
        ),
        "falls": 'assert data.stand_in or rated_worse["nats above grey, mnist-2d"]',
    },
    {
        "claim": MIDDLE,
        "says": "The walk is judged at its first end.",
        "change": ("half = torch.tensor(0.5)", "half = torch.tensor(0.0)"),
        "falls": "assert data.stand_in or mean > width",
    },
    {
        "claim": MIDDLE,
        "says": "Walk and fade change places.",
        "change": ("= faded - walked, walked - ends", "= walked - faded, faded - ends"),
        "falls": "assert data.stand_in or mean > width",
    },
    {
        "claim": THIRD,
        "says": "The picture that is read is the first end.",
        "change": ("models[name], torch.lerp(*codes, half))", "models[name], codes[0])"),
        "falls": "assert data.stand_in or more > width",
    },
    {
        "claim": "The length of a draw grows with the dimension, its spread does not.",
        "says": "The draws are uniform in place of normal.",
        "change": ("torch.randn(50_000, d)", "torch.rand(50_000, d)"),
        "falls": "assert d == 2 or abs(length.std()",
    },
    {
        "claim": LIKE_DRAWS,
        "says": "The factor of the length is missing.",
        "change": ("return length * turned / angle.sin()", "return turned / angle.sin()"),
        "falls": 'assert abs(variance["straight"] - 0.5)',
    },
    {
        "claim": LIKE_DRAWS,
        "says": "The length along the arc is that of the shorter end.",
        "change": ("torch.lerp(*lengths, share)", "torch.minimum(*lengths)"),
        "falls": 'assert abs(variance["straight"] - 0.5)',
    },
    {
        "claim": SHELL,
        "says": "The lengths of draws stand in place of those of means.",
        "change": ("mean.norm(dim=1).mean().item()", "z.norm(dim=1).mean().item()"),
        "falls": "assert data.stand_in or 0.6 < inner / outer",
    },
    {
        "claim": ARC,
        "says": "Arc and straight walk change places.",
        "change": (
            'found["arc"][measure] - found["straight"][measure]',
            'found["straight"][measure] - found["arc"][measure]',
        ),
        "falls": "assert data.stand_in or is_above_0(-of_case",
    },
    {
        "claim": NEAR,
        "says": "Arc and straight walk change places.",
        "change": ("for path in (arc, torch.lerp)", "for path in (torch.lerp, arc)"),
        "falls": "assert data.stand_in or is_above_0(on_arc",
    },
    {
        "claim": PARTS,
        "says": "The third point is that of the straight walk.",
        "change": ("F.normalize(straight) * on_arc.norm(dim=1, keepdim=True)", "straight"),
        "falls": "assert data.stand_in or is_above_0(-part)",
    },
    {
        "claim": PARTS,
        "says": "The third point has the direction of the arc, too.",
        "change": ("F.normalize(straight) * on_arc", "F.normalize(on_arc) * on_arc"),
        "falls": "assert data.stand_in or is_above_0(-part)",
    },
    {
        "claim": DRAWS,
        "says": "Both ends are the same draw.",
        "change": ("10_000, seed) for seed in (1, 2)", "10_000, seed) for seed in (1, 1)"),
        "falls": "assert data.stand_in or (is_above_0(lost",
    },
    {
        "claim": DRAWS,
        "says": "What the arc leaves is read from the straight walk.",
        "change": ('for name in ("straight", "arc"))', 'for name in ("straight", "straight"))'),
        "falls": "assert data.stand_in or holds_0(left_by_arc)",
    },
    {
        "claim": ARC,
        "says": "The draws take the place of the posterior means.",
        "change": (
            "scores_halfway(model, *pairs[name])",
            "scores_halfway(model, *drawn)",
        ),
        "falls": "assert data.stand_in or holds_0(gains",
    },
    {
        "claim": SMALL,
        "says": "The gain is that between draws.",
        "change": ('-gain["mnist-32d, means"][again]', '-gain["mnist-32d, draws"][again]'),
        "falls": "assert data.stand_in or 0.05 < low",
    },
]

NEUTRAL = [
    {
        "says": "The fade is made by torch.lerp in place of a sum.",
        "change": ("faded = (real[0] + real[1]) / 2", "faded = torch.lerp(*real, 0.5)"),
        "holds": "assert data.stand_in or min(rated_worse",
    },
    {
        "says": "Angles are kept a little further from 0 and from 180 degrees.",
        "change": ("clamp(-0.999999, 0.999999)", "clamp(-0.9999, 0.9999)"),
        "holds": "assert data.stand_in or is_above_0(-of_case",
    },
]
