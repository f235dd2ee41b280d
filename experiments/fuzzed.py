"""The readers of the package, small real files for each of them, and how to damage these.

A reader must read a file, or raise a ValueError or a FileNotFoundError whose one sentence names the
file or the argument. `make fuzz` and the tests look for files that it answers otherwise.
"""

import argparse
import io
import json
import re
import tempfile
import warnings
import zipfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

import vaebook as vb
from tests import mutate
from vaebook import __main__ as command_line

HALF = [{"kind": "dense", "size": 6, "bias": False, "activation": "relu"}]
CONV = [{"kind": "conv", "channels": 2, "kernel": 3, "stride": 2, "padding": [1, 1], "norm": True}]
CONV += [{"kind": "residual"}, {"kind": "pool", "size": 2}]
UP = [{"kind": "dense", "size": 16}, {"kind": "reshape", "shape": [1, 4, 4]}]
UP += [{"kind": "transposed_conv", "channels": 1, "stride": 2, "padding": 1, "output_padding": 0}]
ODD = [*mutate.ODD, *HALF, *CONV, *UP, 2, 3, [1, 1], [10**5, 10**5], 10**5, -(10**40), {"kind": []}]
KINDS = [".png", ".gif", ".jpg", ".bmp", ".tif", ".webp", ".tga", ".ppm", ".jp2", ".ico", ".dds"]
NAMES = ["a", "b", "train", "test", "val", "VALID", "a/b", "train/a", "test/a", ".h", "x.png"]
NAMES += ["y.gif", "a/z.jpg", "no.txt", "é", "1.PNG", "loop"]


class Finding(Exception):
    """A file that was not answered as it should be."""


@contextmanager
def answered(*names):
    """Let pass an error, or warnings, of one sentence that holds one of the names."""
    told = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except (ValueError, FileNotFoundError) as error:
            told.append(str(error))
    for text in told + [str(warning.message) for warning in caught]:
        if "\n" in text or len(text) > 1500 or not any(name in text for name in names):
            raise Finding(f"{text:.300}")


def read_model(path):
    with answered(str(path)):
        vb.load_model(path)


def read_run(path):
    with answered(str(path)):
        mutate.run(path, resume=True)


def read_archive(path):
    with answered(path.name):
        vb.load(path, image_size=8)


def read_picture(path):
    with answered(path.parent.name):
        vb.load(path.parent, image_size=8)


def read_layers(path):
    given = argparse.Namespace(model=str(path), latent_dim=2, likelihood="bernoulli")
    with answered("encoder", "decoder", path.name):
        vb.embed(command_line._build(given, (1, 8, 8)), mutate.IMAGES[:2])


def read_settings(path):
    """Go on with a run whose checkpoint is whole, by damaged settings."""
    path.rename(path.with_name("config.json"))
    path.with_name("model.safetensors").write_bytes(of_run()[1])
    with redirect_stdout(said := io.StringIO()), redirect_stderr(said), suppress(SystemExit):
        command_line.main(["train", "--resume", "--out", str(path.parent)])
    if len(re.findall("^vaebook: ", said.getvalue(), re.M)) > 1:
        raise Finding(f"several lines: {said.getvalue():.300}")


def read_folder(path):
    """Read a folder of which each pair of bytes tells a name and what is there."""
    data, whole = path.read_bytes(), pictures()
    path.unlink()
    for name, kind in zip(data[::2], data[1::2], strict=False):
        place, which = path.parent / NAMES[name % len(NAMES)], kind // 4
        with suppress(OSError):  # another is in the way
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind % 4 == 0:
                place.symlink_to(path.parent / NAMES[which % len(NAMES)])
            elif kind % 4 == 1:
                place.mkdir()
            else:
                place.write_bytes(whole[which % len(whole)] if kind % 4 == 2 else b"none")
    with answered(path.parent.name):
        vb.load(path.parent, image_size=8 if len(data) % 2 else None)


def by_field(data, rng, mutated):
    return mutate.mutated(rng, data)


def by_tree(data, rng, mutated):
    mutate.swapped(rng, tree := json.loads(data), ODD)
    return json.dumps(tree).encode()


def by_member(data, rng, mutated):
    """Mutate an array in an archive, whose checksums are then right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members])
    members[name] = mutated(members[name])
    with zipfile.ZipFile(changed := io.BytesIO(), "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return changed.getvalue()


@cache
def pictures():
    """Return small pictures of every kind that Pillow writes, grey and in colour."""
    grey, colour = np.arange(64, dtype=np.uint8).reshape(8, 8), np.zeros((8, 9, 3), np.uint8)
    found = []
    for kind, array in [(kind, array) for kind in KINDS for array in (grey, colour)]:
        with suppress(OSError, KeyError):  # this Pillow has been built without it
            Image.fromarray(array).save(file := io.BytesIO(), Image.registered_extensions()[kind])
            found.append(file.getvalue())
    return found


def archives():
    arrays = [dict(images=np.zeros((3, 8, 9, 3), np.uint8), labels=np.arange(3))]
    arrays += [dict(images=np.ones((2, 8, 8), np.float32))]
    found = [io.BytesIO() for _ in arrays]
    for file, held in zip(found, arrays, strict=True):
        np.savez(file, **held)
    return [file.getvalue() for file in found]


def folders():
    return [bytes([0, 2, 1, 6]), bytes([2, 2, 3, 6, 7, 10, 1])]


def layers():
    lists = [(HALF, [*HALF, *UP]), (CONV, UP), ([], UP)]
    return [json.dumps(dict(encoder=a, decoder=b)).encode() for a, b in lists]


@cache
def of_models(name):
    """Return a model, or the file of a run."""
    with tempfile.TemporaryDirectory() as folder:
        mutate.sources(Path(folder))
        return [Path(folder, name).read_bytes()]


@cache
def of_run():
    """Return the settings and the checkpoint of a run of the command line."""
    folder = Path(tempfile.mkdtemp())  # which the settings name
    (folder / "few.npz").write_bytes(archives()[0])
    train = f"train --data {folder}/few.npz --model dense --epochs 1 --device cpu --out {folder}"
    with redirect_stdout(io.StringIO()), patch.object(command_line, "_draw"):
        command_line.main(train.split())
    return [(folder / name).read_bytes() for name in ("config.json", "model.safetensors")]


# What reads a file, what damages one, and files that are whole.
READERS = {
    "model": (read_model, by_field, lambda: of_models("model")),
    "run": (read_run, by_field, lambda: of_models("run")),
    "archive": (read_archive, by_member, archives),
    "picture": (read_picture, None, pictures),
    "folder": (read_folder, None, folders),
    "layers": (read_layers, by_tree, layers),
    "settings": (read_settings, by_tree, lambda: of_run()[:1]),
}
