"""The models that come with the package. Writes vaebook/weights/*.

    python -m experiments.pretrain            train what is missing
    python -m experiments.pretrain --model mnist-2d
    python -m experiments.pretrain --list     say what is there and what is missing

Both are trained on all 60,000 training images of MNIST, from seed 0, by Adam with a learning rate
that falls to 0 in a straight line, in the precision that `vb.fit` chooses for the machine:

* ``mnist-2d``: 2 latent dimensions, for pictures of the whole latent space.
* ``mnist-32d``: 32 latent dimensions, for reconstructions and paths.

An interrupted training goes on from its last epoch, kept in runs/. What is finished is left alone;
delete its file to train it again. When a training ends, its card goes into cards.json, with the
test loss, the versions and a checksum, and README.md is written from all cards. Fifteen minutes
for each model on one CPU core.
"""

import argparse
import json
from datetime import date
from hashlib import sha256
from pathlib import Path

import torch

import vaebook as vb
from experiments.records import fit, write_text
from vaebook.zoo import WEIGHTS

RUNS = Path(__file__).parents[1] / "runs"
SHARED = {"batch_size": 128, "lr": 2e-3, "seed": 0}
MODELS = {
    "mnist-2d": {"latent_dim": 2, "width": 16, "epochs": 15, **SHARED},
    "mnist-32d": {"latent_dim": 32, "width": 24, "epochs": 12, **SHARED},
}
ABOUT = {
    "mnist-2d": "Handwritten digits in a plane: for pictures of a whole latent space.",
    "mnist-32d": "Handwritten digits in 32 dimensions: for reconstructions and paths.",
}
LICENCE = "MIT, as the package"


def train(name, data, *, runs=RUNS, **changed):
    """Train one model, going on from its checkpoint if there is one; return it and its card."""
    s = MODELS[name] | changed
    torch.manual_seed(s["seed"])
    model = vb.conv_vae(data.image_shape, s["latent_dim"], width=s["width"])
    history = fit(
        model, data.train, epochs=s["epochs"], batch_size=s["batch_size"],
        lr=lambda done: s["lr"] * (1 - done), seed=s["seed"], device="cpu",
        checkpoint=runs / f"{name}.safetensors", resume=True,
    )  # fmt: skip
    return model, card(name, model, data, history, s)


def card(name, model, data, history, settings):
    """Say what a model is, how it was made and what it reaches on the test images."""
    row = vb.evaluate(model, data.test, seed=settings["seed"])
    seconds = sum(row["seconds"] for row in history.rows)
    ink = vb.decode(model, torch.zeros(1, model.latent_dim)).sum().item()
    return {
        "about": ABOUT[name], "data": data.source,
        "train_images": len(data.train), "test_images": len(data.test),
        "loss": round(row["loss"], 3), "reconstruction": round(row["reconstruction"], 3),
        "kl": round(row["kl"], 3), "ink": round(ink, 2),
        "builder": model.config["builder"], **settings,
        "schedule": "lr falls to 0 in a straight line",
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "training_minutes": round(seconds / 60, 1), **history.provenance,
        "licence": LICENCE, "date": date.today().isoformat(),
    }  # fmt: skip


def keep(name, model, card, *, folder=WEIGHTS):
    """Write a model, its card and the README, each whole or not at all."""
    path = folder / f"{name}.safetensors"
    vb.save(model, path)
    content = path.read_bytes()
    cards = read_cards(folder)
    cards[name] = card | {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    write_text(folder / "cards.json", json.dumps(dict(sorted(cards.items())), indent=1) + "\n")
    write_text(folder / "README.md", readme(read_cards(folder)))


def read_cards(folder=WEIGHTS):
    """Return the cards by name, or none where there are none yet."""
    path = folder / "cards.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def readme(cards):
    """Return the cards as a page for people."""
    parts = [
        "# Trained models\n",
        "What `vb.pretrained(name)` loads, and the cards that `vb.pretrained_card(name)` returns.",
        "Made by `python -m experiments.pretrain`; this page is written from `cards.json`.",
        "Losses are of the test images, in nats per image, at one draw from each posterior.",
        "",
    ]
    for name, card in cards.items():
        parts += [f"## {name}\n", "| | |", "| --- | --- |"]
        parts += [f"| {key.replace('_', ' ')} | {value} |" for key, value in card.items()]
        parts += [""]
    return "\n".join(parts)


def done(name, folder=WEIGHTS):
    """Say whether a model and its card are there."""
    return name in read_cards(folder) and (folder / f"{name}.safetensors").exists()


def main(argv=None):
    """Train what is missing, or say what is there; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pretrain", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", choices=MODELS, help="train this one only")
    parser.add_argument("--list", action="store_true", help="train nothing, say what is missing")
    arguments = parser.parse_args(argv)
    names = [arguments.model] if arguments.model else list(MODELS)
    if arguments.list:
        for name in names:
            print(f"{name}: {'done' if done(name) else 'missing'}")
        return 0
    missing = [name for name in names if not done(name)]
    data = vb.load("mnist") if missing else None
    for name in missing:
        model, found = train(name, data)
        keep(name, model, found)
        print(f"{name}: {found['loss']} nats per test image, in {WEIGHTS}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
