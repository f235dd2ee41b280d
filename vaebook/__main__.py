"""The command line: ``python -m vaebook train|sample|evaluate|data``."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

import vaebook as vb
from vaebook.checks import as_seed, user_path, wrong
from vaebook.data import NAMES
from vaebook.models.registry import LIKELIHOODS
from vaebook.training.checkpoints import write_file
from vaebook.training.runs import (
    CHECKPOINT,
    TABLE,
    Begun,
    Terminated,
    claimed,
    kept_in,
    settings_in,
    terminable,
)
from vaebook.training.teams import Team, join, one_first, restarted

EXAMPLE = "example: python -m vaebook train --data kmnist --latent-dim 2 --epochs 3 --out run"
EXAMPLE += "; by several processes: torchrun --nproc-per-node 2 -m vaebook train ..."
FIT = ("epochs", "batch_size", "lr", "optimizer", "device", "precision", "seed", "resume")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or after an error or a signal, said in one line, another number.

    2 after an error, and as a shell has it 130 after Ctrl-C and 143 after SIGTERM.
    """
    _use_streams()
    os.environ["MPLBACKEND"] = "Agg"  # no window is opened, whatever matplotlib was told
    arguments, code = Namespace(command=None), 0
    try:
        arguments = _arguments(argv)
        arguments.command(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        code = 2
        stopped = isinstance(error, OSError) and hasattr(error, "history")  # such as a full disk
        kept = f"; {kept_in(user_path('--out', arguments.out))}" if stopped else ""
        _complain(f"{error}{kept}")
    except (KeyboardInterrupt, Terminated) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 143
        kept = kept_in(user_path("--out", arguments.out)) if arguments.command is train else ""
        _complain(f"stopped; {kept}".removesuffix("; "))
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it any more, of which Python would complain when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def train(arguments: Namespace) -> None:
    """Train a model on images and keep it, its history and its pictures in a folder."""
    out, team = user_path("--out", arguments.out), join(arguments.device)
    arguments.resume = arguments.resume or restarted(team)
    # A team is ended by torchrun, and its processes wait for each other where no signal is heard.
    with terminable(team.size == 1), claimed(out, team.rank == 0):
        if (out / CHECKPOINT).exists() and not arguments.resume:
            raise wrong("--out", "another folder, or --resume", f"{out}, which already holds a run")
        _train(arguments, out, team)


def _train(arguments: Namespace, out: Path, team: Team) -> None:
    with one_first(team):  # which downloads what is not here
        data = vb.load(arguments.data, offline=arguments.offline, image_size=arguments.image_size)
    if team.rank == 0:
        _say(data.source)
    torch.manual_seed(as_seed(arguments.seed))
    model = _build(arguments, data.image_shape)
    settings = {name: value for name, value in vars(arguments).items() if name != "command"}
    config = {"data": data.source, "model": model.config, "settings": settings}
    options = {name: settings[name] for name in FIT} | {"checkpoint": out / CHECKPOINT}
    options |= {"objective": vb.NegativeELBO(arguments.beta), "snapshots": 16}
    options |= {"callbacks": [Begun(out, config)]}
    history = vb.fit(model, data.train, validation=data.test, **options)
    if team.rank > 0:
        return  # the first of the processes leaves it all
    write_file(out / TABLE, history.frame.to_csv(index=False).encode())
    if history.interrupted:
        raise KeyboardInterrupt
    if history.rows:
        _draw(model, data, history, out)
    left = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    _say(f"kept in {out}: {', '.join(left)}")


def sample(arguments: Namespace) -> None:
    """Decode draws from the prior to a picture."""
    model = vb.load_model(_checkpoint(arguments.model))
    codes = vb.sample_prior(model, arguments.n, seed=arguments.seed)
    out = user_path("--out", arguments.out)
    vb.plot.images(vb.decode(model, codes)).savefig(out, format=out.suffix[1:] or "png")
    _say(f"{arguments.n} samples in {out}")


def evaluate(arguments: Namespace) -> None:
    """Print the negative ELBO and its parts on held-out images, in nats per image."""
    model = vb.load_model(_checkpoint(arguments.model), vb.pick_device(arguments.device))
    size = arguments.image_size or model.image_shape[1:]
    data = vb.load(arguments.data, offline=arguments.offline, image_size=size)
    kind, held_out = ("training", data.train) if data.test is None else ("test", data.test)
    row = vb.evaluate(model, held_out, seed=arguments.seed)
    _say(f"{data.source}\n{len(held_out):,} {kind} images, nats per image:")
    for name in ("loss", "reconstruction", "kl"):
        _say(f"{name:<15}{row[name]:9.2f}")


def fetch(arguments: Namespace) -> None:
    """Fetch data sets that are not here yet, and say what each is."""
    for name in arguments.names:
        data = vb.load(name, offline=arguments.offline, image_size=arguments.image_size)
        _say(f"{data.source}, {'×'.join(map(str, data.image_shape))}")


def _build(arguments: Namespace, image_shape: tuple[int, int, int]) -> vb.VAE:
    builder: Any = {"conv": vb.conv_vae, "dense": vb.dense_vae}.get(arguments.model)
    lists: Any = {}
    try:
        if builder is None:
            file = user_path("--model", arguments.model)
            builder, lists = vb.layered_vae, json.loads(file.read_text("utf-8"))
        return builder(image_shape, arguments.latent_dim, **lists, likelihood=arguments.likelihood)
    except (OSError, TypeError, UnicodeError, json.JSONDecodeError) as error:
        wanted = "conv, dense, or a JSON file with {'encoder': [...], 'decoder': [...]}"
        raise wrong("--model", wanted, f"{arguments.model} ({error})") from None


def _draw(model: vb.VAE, data: vb.Dataset, history: vb.History, out: Path) -> None:
    shown = (data.train if data.test is None else data.test)[:5000]
    few, labels = shown[:24], shown.labels
    draw: dict[str, Callable[[], Any]] = {
        "loss": lambda: vb.plot.loss_curves(history.frame),
        "evolution": lambda: vb.plot.sample_evolution(history.snapshots),
        "samples": lambda: vb.plot.images(vb.decode(model, vb.sample_prior(model))),
        "reconstructions": lambda: vb.plot.reconstructions(few, vb.reconstruct(model, few)),
    }
    if model.latent_dim > 1:
        method = "pca" if model.latent_dim > 2 else None
        draw["traversal"] = lambda: vb.plot.traversal(model)
        draw["latent"] = lambda: vb.plot.latent_scatter(
            vb.embed(model, shown), labels, data.classes, method=method
        )
    for name, figure in draw.items():
        try:
            figure().savefig(picture := BytesIO(), format="png")
            write_file(out / f"{name}.png", picture.getvalue())
        except Exception as error:  # a picture less, but not a run
            _complain(f"{name}.png is not drawn: {error}")


def _use_streams() -> None:
    """Give the process streams that take every character, where it has closed ones or ASCII."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _say(text: str) -> None:
    with suppress(BrokenPipeError):  # nobody needs to listen
        print(text, flush=True)


def _complain(text: str) -> None:
    with suppress(OSError):
        print("vaebook:", *text.split("\n"), file=sys.stderr, flush=True)


def _checkpoint(given: str) -> Path:
    path = user_path("--model", given)
    return path / CHECKPOINT if path.is_dir() else path


def _size(text: str) -> int | tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().split("x"))
    return sides[0] if len(sides) == 1 else sides


SETS = ", ".join(NAMES)
SIZE = {"type": _size, "metavar": "N|HxW", "help": "scale and crop images to this many pixels"}
COMMANDS = {"train": train, "sample": sample, "evaluate": evaluate, "data": fetch}
# For which commands, the option, and what argparse is to know of it.
OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("sample evaluate", "--model", dict(required=True, help="a run's folder, or a model file")),
    ("train", "--data", dict(help=f"{SETS}, an .npz archive or a folder")),
    ("evaluate", "--data", dict(required=True, help=f"{SETS}, an .npz archive or a folder")),
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
    ("train", "--resume", dict(action="store_true", help="go on with the run in --out")),
    ("sample", "-n", dict(type=int, default=64, help="number of samples")),
    ("sample", "--out", dict(default="samples.png", help="the picture to write")),
    ("train evaluate", "--device", dict(default="auto", help="auto, cpu, cuda or mps")),
    ("train sample evaluate", "--seed", dict(type=int, default=0, help="decides the randomness")),
]


def _arguments(argv: Sequence[str] | None) -> Namespace:
    """Return what was typed; a run that goes on has the settings that it began with."""
    arguments = _parser({}).parse_args(argv)
    if arguments.command is not train:
        return arguments
    if arguments.resume:
        held = settings_in(user_path("--out", arguments.out))
        known = vars(arguments).keys() - {"command", "out", "resume"}
        arguments = _parser({name: held[name] for name in known & held.keys()}).parse_args(argv)
    if arguments.data is None:
        _parser({}).error("the following arguments are required: --data")
    return arguments


def _parser(defaults: dict[str, Any]) -> ArgumentParser:
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
        if action is train:
            command.set_defaults(**defaults)
    return parser


if __name__ == "__main__":
    sys.exit(main())
