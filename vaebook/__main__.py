"""The command line: ``python -m vaebook train|sample|evaluate|data``."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import vaebook as vb
from vaebook.checks import wrong
from vaebook.data import NAMES
from vaebook.models.registry import LIKELIHOODS
from vaebook.training.teams import join, one_first, restarted

CHECKPOINT = "model.safetensors"
EXAMPLE = "example: python -m vaebook train --data kmnist --latent-dim 2 --epochs 3 --out run"
EXAMPLE += "; by several processes: torchrun --nproc-per-node 2 -m vaebook train ..."
FIT = ("epochs", "batch_size", "lr", "optimizer", "device", "precision", "seed", "resume")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 after an error said in one line."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("vaebook:", *str(error).split("\n"), file=sys.stderr)
        return 2
    return 0


def train(arguments: Namespace) -> None:
    """Train a model on images and keep it, its history and its pictures in a folder."""
    out, team = Path(arguments.out).expanduser(), join(arguments.device)
    arguments.resume = arguments.resume or restarted(team)
    if (out / CHECKPOINT).exists() and not arguments.resume:
        raise wrong("--out", "another folder, or --resume", f"{out}, which already holds a run")
    with one_first(team):  # which downloads what is not here
        data = vb.load(arguments.data, offline=arguments.offline, image_size=arguments.image_size)
    if team.rank == 0:
        print(data.source)
    torch.manual_seed(arguments.seed)
    model = _build(arguments, data.image_shape)
    settings = {name: value for name, value in vars(arguments).items() if name != "command"}
    options = {name: settings[name] for name in FIT} | {"checkpoint": out / CHECKPOINT}
    options |= {"objective": vb.NegativeELBO(arguments.beta), "snapshots": 16}
    history = vb.fit(model, data.train, validation=data.test, **options)
    if team.rank > 0:
        return  # the first of the processes leaves it all
    out.mkdir(parents=True, exist_ok=True)  # only now: a wrong argument leaves nothing behind
    config = {"data": data.source, "model": model.config, "settings": settings}
    config |= {"provenance": history.provenance}
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), "utf-8")
    history.frame.to_csv(out / "history.csv", index=False)
    if history.rows:
        _draw(model, data, history, out)
    print(f"kept in {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def sample(arguments: Namespace) -> None:
    """Decode draws from the prior to a picture."""
    model = vb.load_model(_checkpoint(arguments.model))
    codes = vb.sample_prior(model, arguments.n, seed=arguments.seed)
    vb.plot.images(vb.decode(model, codes)).savefig(arguments.out)
    print(f"{arguments.n} samples in {arguments.out}")


def evaluate(arguments: Namespace) -> None:
    """Print the negative ELBO and its parts on held-out images, in nats per image."""
    model = vb.load_model(_checkpoint(arguments.model), vb.pick_device(arguments.device))
    size = arguments.image_size or model.image_shape[1:]
    data = vb.load(arguments.data, offline=arguments.offline, image_size=size)
    kind, held_out = ("training", data.train) if data.test is None else ("test", data.test)
    row = vb.evaluate(model, held_out, seed=arguments.seed)
    print(f"{data.source}\n{len(held_out):,} {kind} images, nats per image:")
    for name in ("loss", "reconstruction", "kl"):
        print(f"{name:<15}{row[name]:9.2f}")


def fetch(arguments: Namespace) -> None:
    """Fetch data sets that are not here yet, and say what each is."""
    for name in arguments.names:
        data = vb.load(name, offline=arguments.offline, image_size=arguments.image_size)
        print(f"{data.source}, {'×'.join(map(str, data.image_shape))}")


def _build(arguments: Namespace, image_shape: tuple[int, int, int]) -> vb.VAE:
    builder: Any = {"conv": vb.conv_vae, "dense": vb.dense_vae}.get(arguments.model)
    lists: Any = {}
    try:
        if builder is None:
            builder, lists = vb.layered_vae, json.loads(Path(arguments.model).read_text("utf-8"))
        return builder(image_shape, arguments.latent_dim, **lists, likelihood=arguments.likelihood)
    except (OSError, TypeError, UnicodeError, json.JSONDecodeError) as error:
        wanted = "conv, dense, or a JSON file with {'encoder': [...], 'decoder': [...]}"
        raise wrong("--model", wanted, f"{arguments.model} ({error})") from None


def _draw(model: vb.VAE, data: vb.Dataset, history: vb.History, out: Path) -> None:
    shown = (data.train if data.test is None else data.test)[:5000]
    figures = {
        "loss": vb.plot.loss_curves(history.frame),
        "evolution": vb.plot.sample_evolution(history.snapshots),
        "samples": vb.plot.images(vb.decode(model, vb.sample_prior(model))),
        "reconstructions": vb.plot.reconstructions(shown[:24], vb.reconstruct(model, shown[:24])),
    }
    if model.latent_dim > 1:
        figures["traversal"] = vb.plot.traversal(model)
        codes, method = vb.embed(model, shown), "pca" if model.latent_dim > 2 else None
        figures["latent"] = vb.plot.latent_scatter(codes, shown.labels, data.classes, method=method)
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png")


def _checkpoint(path: str) -> Path:
    return Path(path) / CHECKPOINT if Path(path).is_dir() else Path(path)


def _size(text: str) -> int | tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().split("x"))
    return sides[0] if len(sides) == 1 else sides


SETS = ", ".join(NAMES)
SIZE = {"type": _size, "metavar": "N|HxW", "help": "scale and crop images to this many pixels"}
COMMANDS = {"train": train, "sample": sample, "evaluate": evaluate, "data": fetch}
# For which commands, the option, and what argparse is to know of it.
OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("sample evaluate", "--model", dict(required=True, help="a run's folder, or a model file")),
    ("train evaluate", "--data", dict(required=True, help=f"{SETS}, an .npz archive or a folder")),
    ("data", "names", dict(nargs="+", metavar="NAME", help=f"{SETS}, or a path")),
    ("train evaluate data", "--offline", dict(metavar="NAME", help="stand-in without a network")),
    ("train evaluate data", "--image-size", SIZE),
    ("train", "--out", dict(default="run", help="the folder to leave everything in")),
    ("train", "--model", dict(default="conv", help="conv, dense, or a JSON file of layers")),
    ("train", "--likelihood", dict(choices=LIKELIHOODS, default="bernoulli", help="p(x|z)")),
    ("train", "--latent-dim", dict(type=int, default=16, help="number of latent dimensions")),
    ("train", "--epochs", dict(type=int, default=10, help="passes over the images")),
    ("train", "--batch-size", dict(type=int, default=128, help="images per step")),
    ("train", "--lr", dict(type=float, default=1e-3, help="the learning rate")),
    ("train", "--optimizer", dict(default="adam", help="adam, or muon for dense networks")),
    ("train", "--beta", dict(type=float, default=1.0, help="weight of the KL")),
    ("train", "--precision", dict(default="auto", help="auto, float32 or bfloat16")),
    ("train", "--resume", dict(action="store_true", help="go on with the run that --out holds")),
    ("sample", "-n", dict(type=int, default=64, help="number of samples")),
    ("sample", "--out", dict(default="samples.png", help="the picture to write")),
    ("train evaluate", "--device", dict(default="auto", help="auto, cpu, cuda or mps")),
    ("train sample evaluate", "--seed", dict(type=int, default=0, help="decides the randomness")),
]


def _parser() -> ArgumentParser:
    about = "Train a variational autoencoder and use it."
    parser = ArgumentParser("python -m vaebook", description=about, epilog=EXAMPLE)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action in COMMANDS.items():
        about = action.__doc__ or ""
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(command=action)
        for users, option, settings in OPTIONS:
            if name in users.split():
                default = " (default: %(default)s)" if "default" in settings else ""
                command.add_argument(option, **settings | {"help": settings["help"] + default})
    return parser


if __name__ == "__main__":
    sys.exit(main())
