"""The command line: ``python -m vaebook train|sample|evaluate|data``."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import vaebook as vb
from vaebook.data.load import NAMES

CHECKPOINT = "model.safetensors"
EXAMPLE = "example: python -m vaebook train --data kmnist --latent-dim 2 --epochs 3 --out run"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 after an error said in one line."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"vaebook: {error}", file=sys.stderr)
        return 2
    return 0


def train(arguments: argparse.Namespace) -> None:
    """Train a model on images and keep it, its history and its pictures in a folder."""
    out = Path(arguments.out)
    if (out / CHECKPOINT).exists() and not arguments.resume:
        raise ValueError(f"--out: {out} already holds a run; choose another folder, or --resume it")
    data = vb.load(arguments.data, offline=arguments.offline, image_size=arguments.image_size)
    print(data.source)
    torch.manual_seed(arguments.seed)
    builder = {"conv": vb.conv_vae, "dense": vb.dense_vae}[arguments.model]
    model = builder(data.image_shape, arguments.latent_dim)
    out.mkdir(parents=True, exist_ok=True)
    history = vb.fit(
        model,
        data.train,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        lr=arguments.lr,
        validation=data.test,
        objective=vb.NegativeELBO(arguments.beta),
        device=arguments.device,
        precision=arguments.precision,
        seed=arguments.seed,
        snapshots=16,
        checkpoint=out / CHECKPOINT,
        resume=arguments.resume,
    )
    settings = {name: value for name, value in vars(arguments).items() if name != "command"}
    config = {"data": data.source, "model": model.config, "settings": settings}
    config |= {"provenance": history.provenance}
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), "utf-8")
    history.frame.to_csv(out / "history.csv", index=False)
    if history.rows:
        _draw(model, data, history, out)
    print(f"kept in {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def sample(arguments: argparse.Namespace) -> None:
    """Decode draws from the prior to a picture."""
    model = vb.load_model(_checkpoint(arguments.model))
    codes = vb.sample_prior(model, arguments.n, seed=arguments.seed)
    vb.plot.images(vb.decode(model, codes)).savefig(arguments.out)
    print(f"{arguments.n} samples in {arguments.out}")


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the negative ELBO and its parts on held-out images, in nats per image."""
    model = vb.load_model(_checkpoint(arguments.model), vb.pick_device(arguments.device))
    size = arguments.image_size or model.image_shape[1:]
    data = vb.load(arguments.data, offline=arguments.offline, image_size=size)
    held_out = data.train if data.test is None else data.test
    row = vb.evaluate(model, held_out, seed=arguments.seed)
    print(data.source)
    print(
        f"{len(held_out):,} {'training' if data.test is None else 'test'} images, nats per image:"
    )
    print(*(f"{name:<15}{row[name]:9.2f}" for name in ("loss", "reconstruction", "kl")), sep="\n")


def fetch(arguments: argparse.Namespace) -> None:
    """Fetch data sets that are not here yet, and say what each is."""
    for name in arguments.names:
        print(vb.load(name, offline=arguments.offline, image_size=arguments.image_size))


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
        figures["latent"] = vb.plot.latent_scatter(
            vb.embed(model, shown),
            shown.labels,
            data.classes,
            method="pca" if model.latent_dim > 2 else None,
        )
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png")


def _checkpoint(path: str) -> Path:
    return Path(path) / CHECKPOINT if Path(path).is_dir() else Path(path)


def _size(text: str) -> int | tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().split("x"))
    return sides[0] if len(sides) == 1 else sides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m vaebook",
        description="Train a variational autoencoder and use it.",
        epilog=EXAMPLE,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(action: Callable[[argparse.Namespace], None], name: str) -> Callable[..., Any]:
        summary = (action.__doc__ or "").strip()
        sub = commands.add_parser(
            name, help=summary, description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(command=action)
        return sub.add_argument

    add = command(train, "train")
    _add_data(add)
    add("--out", default="run", help="the folder to leave everything in")
    add("--model", choices=("conv", "dense"), default="conv", help="the kind of networks")
    add("--latent-dim", type=int, default=16, help="number of latent dimensions")
    add("--epochs", type=int, default=10, help="passes over the images")
    add("--batch-size", type=int, default=128, help="images per step")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate")
    add("--beta", type=float, default=1.0, help="weight of the KL")
    add("--precision", default="auto", help="auto, float32 or bfloat16")
    add("--resume", action="store_true", help="go on with the run that --out holds")
    _add_device_and_seed(add)

    add = command(sample, "sample")
    _add_model(add)
    add("-n", type=int, default=64, help="number of samples")
    add("--out", default="samples.png", help="the picture to write")
    add("--seed", type=int, default=0, help="decides the draws")

    add = command(evaluate, "evaluate")
    _add_model(add)
    _add_data(add)
    _add_device_and_seed(add)

    add = command(fetch, "data")
    add("names", nargs="+", metavar="NAME", help=f"{', '.join(NAMES)}, or a path")
    _add_offline_and_size(add)
    return parser


def _add_model(add: Callable[..., Any]) -> None:
    add("--model", required=True, help="a folder that train left, or a model file")


def _add_data(add: Callable[..., Any]) -> None:
    add(
        "--data", required=True, help=f"{', '.join(NAMES)}, an .npz archive or a folder of pictures"
    )
    _add_offline_and_size(add)


def _add_offline_and_size(add: Callable[..., Any]) -> None:
    add("--offline", metavar="NAME", help="data set to use when the named one cannot be had")
    add(
        "--image-size",
        type=_size,
        metavar="N|HxW",
        help="scale and crop images to this many pixels",
    )


def _add_device_and_seed(add: Callable[..., Any]) -> None:
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--seed", type=int, default=0, help="decides every random number")


if __name__ == "__main__":
    sys.exit(main())
