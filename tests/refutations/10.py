"""Changes under which a claim of chapter 10 must fall."""

PLACES = (
    "In the MLP the two layers next to the image have more than half of the parameters, in the "
    "convolutional network two layers in the middle more than nine tenths."
)
START = (
    "As PyTorch builds it, the MLP loses most of the differences between images before the code; "
    "with redrawn weights it keeps them."
)
SHORT = (
    "After one pass over 5,000 images the MLP with redrawn weights costs more than 2 nats less on "
    "held-out training images, with each of three seeds."
)
BETTER = "The convolutional network has a lower test cost than the MLP, by more than 2 nats."
TIMES = (
    "After the first epoch the training cost lies above the test cost by more than 5 nats, for "
    "both networks."
)
MODES = (
    "The same images cost the convolutional network more in training mode than in test mode, by "
    "more than 2 nats; the MLP costs the same in both."
)
ONE_MODE = (
    "In test mode the costs of training and test images differ by less than 2 nats for the "
    "convolutional network; the training mode makes more than half of the recorded difference."
)
SOONER = (
    "In each long run of the convolutional network the test cost passes the notebook's cost in an "
    "earlier epoch than the training cost."
)
WINNER = (
    "In the long runs the training costs name one network as the better, and the test costs "
    "the other, whichever seeds are compared."
)
OVERFITS = (
    "From epoch 50 to 100 the MLP's training cost falls by more than its test cost, with each seed."
)
FEW = (
    "When the trained MLP goes on with 500 images, its test cost turns within five epochs and "
    "rises, and most of the gap is reconstruction."
)

REFUTATIONS = [
    {
        "claim": PLACES,
        "says": "The two middle layers of the MLP have 2,000 units.",
        "change": (
            '"encoder": [softplus, softplus],\n    "decoder": [\n        softplus,',
            '"encoder": [softplus, {**softplus, "size": 2000}],\n'
            '    "decoder": [\n        {**softplus, "size": 2000},',
        ),
        "falls": "assert wide > 0.9 and ends > 0.5",
    },
    {
        "claim": START,
        "says": "The weights are redrawn without the factor √2.",
        "change": (
            "xavier_uniform_(layer.weight, gain=2**0.5)",
            "xavier_uniform_(layer.weight, gain=1.0)",
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
        "falls": 'assert (start["as built"].pct_change()',
    },
    {
        "claim": SHORT,
        "says": "Both networks keep the weights that PyTorch gave them.",
        "change": ("    if redrawn:\n        redraw(model)\n", ""),
        "falls": "assert data.stand_in or won.min() > 2",
    },
    {
        "claim": BETTER,
        "says": "The convolutional network trains at a hundredth of the rate.",
        "change": ("lr=vb.OneCycle(6e-3), **settings", "lr=vb.OneCycle(6e-5), **settings"),
        "falls": "assert data.stand_in or difference > 2",
    },
    {
        "claim": TIMES,
        "says": "The two costs are swapped.",
        "change": ("ahead = early.training - early.test", "ahead = early.test - early.training"),
        "falls": "assert data.stand_in or (ahead > 5)",
    },
    {
        "claim": MODES,
        "says": "The copy is left in test mode.",
        "change": ('.train(mode == "training")', ".eval()"),
        "falls": "assert data.stand_in or dearer - error > 2",
    },
    {
        "claim": MODES,
        "says": "The two modes get other draws of the code.",
        "change": ("    torch.manual_seed(0)\n    batches =", "    batches ="),
        "falls": 'assert extra["MLP"].abs().max()',
    },
    {
        "claim": ONE_MODE,
        "says": "The images of the training are measured in training mode.",
        "change": (
            'in_test_mode = by_mode["convolutional"].test',
            'in_test_mode = by_mode["convolutional"].training',
        ),
        "falls": "assert data.stand_in or dearer > apart / 2",
    },
    {
        "claim": SOONER,
        "says": "Training and test costs change places in the file.",
        "change": (
            '"conv": "convolutional", "train": "training"}',
            '"conv": "convolutional", "train": "test", "test": "training"}',
        ),
        "falls": "assert needed.shape == (2, 3)",
    },
    {
        "claim": WINNER,
        "says": "The best training costs are taken for the test costs.",
        "change": ('"test_loss": "test"}', '"best_train_loss": "test"}'),
        "falls": 'assert runs.test.max()["convolutional"]',
    },
    {
        "claim": OVERFITS,
        "says": "The KL is taken for the cost.",
        "change": ('columns="epoch", values="loss")', 'columns="epoch", values="kl")'),
        "falls": 'assert (fell["training"] > fell["test"])',
    },
    {
        "claim": FEW,
        "says": "It goes on at a thousandth of the rate.",
        "change": ('"batch_size": 50, "lr": 1e-3}', '"batch_size": 50, "lr": 1e-6}'),
        "falls": "assert data.stand_in or tested.idxmin()",
    },
]

NEUTRAL = [
    {
        "says": "The differences are measured on other images.",
        "change": ("data.test.pixels[:300]", "data.test.pixels[300:700]"),
        "holds": 'assert (start["as built"].pct_change()',
    },
]
