"""Changes under which a claim of chapter 10 must fall."""

START = (
    "As PyTorch builds it, the MLP loses most of the differences between images before the code; "
    "with redrawn weights it keeps them."
)
BETTER = "The convolutional network has a lower test cost than the MLP, by more than 2 nats."
BOOKS = (
    "After the first epoch the training cost lies above the test cost by more than 5 "
    "nats, for both "
    "networks."
)
MODES = (
    "The same images cost the convolutional network more in training mode than in test mode, by "
    "more than half a nat."
)
WINNER = (
    "In the long runs the training costs name one network as the better, and the test costs "
    "the other."
)

REFUTATIONS = [
    {
        "claim": START,
        "says": "The weights are redrawn without the factor √2.",
        "change": (
            "xavier_uniform_(layer.weight, gain=2**0.5)",
            "xavier_uniform_(layer.weight, gain=0.5)",
        ),
        "falls": 'assert start["redrawn"].iloc[-1]',
    },
    {
        "claim": START,
        "says": "The weights are redrawn before the first measurement.",
        "change": (
            "as_built = differences(mlp)\nredraw(mlp)",
            "redraw(mlp)\nas_built = differences(mlp)",
        ),
        "falls": 'assert start["as built"].iloc[-1]',
    },
    {
        "claim": BETTER,
        "says": "The convolutional network trains at a hundredth of the rate.",
        "change": ("lr=vb.OneCycle(6e-3), **settings", "lr=vb.OneCycle(6e-5), **settings"),
        "falls": 'assert costs.test["convolutional"]',
    },
    {
        "claim": BOOKS,
        "says": "The two costs are swapped.",
        "change": ("ahead = early.train - early.test", "ahead = early.test - early.train"),
        "falls": "assert data.stand_in or (ahead > 5)",
    },
    {
        "claim": MODES,
        "says": "The copy is left in test mode.",
        "change": ("twin = deepcopy(model).train()", "twin = deepcopy(model).eval()"),
        "falls": "assert data.stand_in or dearer > 0.5",
    },
    {
        "claim": WINNER,
        "says": "The test costs are taken for the training costs.",
        "change": (
            "train_cost, test_cost, passes = mean.train_loss, mean.test_loss",
            "train_cost, test_cost, passes = mean.test_loss, mean.test_loss",
        ),
        "falls": 'assert train_cost["MLP"]',
    },
]

NEUTRAL = [
    {
        "says": "The differences are measured on other images.",
        "change": ("data.test.pixels[:300]", "data.test.pixels[300:700]"),
        "holds": 'assert start["as built"].iloc[-1]',
    },
]
