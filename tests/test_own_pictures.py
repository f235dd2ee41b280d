"""The page for a reader's own pictures, run as it stands on folders that it was not written for."""

import ast
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from PIL import Image

from tests.browser import BOOK, load

PAGE = "22-your-own-pictures"


@pytest.fixture
def run_page(monkeypatch, tmp_path):
    """Return a function that runs the page's code on a folder: its names and what it shows."""
    cells = load("make_notebooks").read_chapter(BOOK / f"{PAGE}.md").cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    monkeypatch.chdir(tmp_path)

    def run(folder):
        monkeypatch.setenv("VAEBOOK_PICTURES", str(folder))
        names, shown = {}, []
        with matplotlib.rc_context():
            for number, source in enumerate(sources):
                tree = ast.parse(source)
                last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
                exec(compile(tree, f"cell {number}", "exec"), names)
                if last is not None:
                    code = compile(ast.Expression(last.value), f"cell {number}", "eval")
                    shown.append(eval(code, names))
        return names, shown

    return run


def write_pictures(folder, count, height, width, *, colour, suffix, classes=("",)):
    """Write pictures of a bright box on a dark ground: each box, and each ground, is another."""
    rng = np.random.default_rng(0)
    for number in range(count):
        ground = rng.integers(0, 90, 3 if colour else 1)
        picture = np.full((height, width, len(ground)), ground, np.uint8)
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        picture[top : top + height // 3, left : left + width // 3] = ground + 150
        file = folder / classes[number % len(classes)] / f"{number:03d}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture if colour else picture[..., 0]).save(file)


FOLDERS = {
    "grey 28×28, flat": ((1, 28, 28), dict(count=60, suffix=".png")),
    "colour 64×64, JPEG, classes": ((3, 64, 64), dict(count=70, suffix=".jpg", classes="ab")),
    "colour 48×64, flat": ((3, 48, 64), dict(count=55, suffix=".png")),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_the_page_runs_unchanged_on_a_folder_of_pictures(kind, run_page, tmp_path):
    (channels, height, width), how = FOLDERS[kind]
    folder = tmp_path / "mine"
    write_pictures(folder, height=height, width=width, colour=channels == 3, **how)
    names, shown = run_page(folder)
    count, shape = how["count"], (channels, height, width)
    assert names["data"].image_shape == shape
    assert len(names["data"].train) == count
    assert len(names["train"]) + len(names["validation"]) == count
    for pictures in (names["samples"], names["mixed"]):
        assert pictures.shape == (24, *shape)
        assert torch.isfinite(pictures).all()
        assert pictures.std() > 0.01
    for ranked in (names["outliers"], names["by_pca"]):
        assert len(set(ranked.tolist())) == len(ranked) == names["asked"]
    held_out = np.isin(np.arange(count), names["order"][: names["held"]])
    for part in (held_out, ~held_out):  # a list has the most expensive pictures of each part
        listed = np.isin(np.flatnonzero(part), names["outliers"])
        nats = names["nats"][part]
        assert np.isfinite(nats).all()
        assert 0 < listed.sum() <= round(12 * part.mean()) + 1
        assert nats[listed].min() > nats[~listed].max()
    files = [str(file.relative_to(folder)) for file in names["data"].files]
    assert names["listed"]["by −ELBO"] == [files[i] for i in names["outliers"]]
    assert names["plane"].shape == (count, 2)
    assert (names["plane"].std(axis=0) > 0).all()
    figures = [value for value in shown if isinstance(value, Figure)]
    assert len(figures) == 7  # pictures, loss, samples, outliers, busyness, map, neighbours
    for figure in figures:
        figure.canvas.draw()
    told = " ".join(value.data for value in shown if isinstance(value, Markdown))
    assert f"{height}×{width} pixels" in told
    assert "planted" not in told.partition("there are no planted")[0]
    losses = names["losses"].validation
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.slow
def test_a_picture_is_judged_by_a_pca_that_was_fitted_on_others(run_page, tmp_path):
    write_pictures(tmp_path / "mine", 60, 28, 28, colour=False, suffix=".png")
    names, _ = run_page(tmp_path / "mine")
    held_out = names["missed"][names["order"][: names["held"]].numpy()]
    trained_on = names["missed"][names["order"][names["held"] :].numpy()]
    fitted = names["pca_error"](names["pca"], names["as_rows"](names["train"]))
    assert np.median(fitted) < 0.5 * np.median(held_out)  # which a list would then prefer
    assert 0.5 < np.median(trained_on) / np.median(held_out) < 2


@pytest.fixture
def read_pictures(definitions):
    """Return the page's way from a folder to its pictures."""
    page = definitions("your-own-pictures")
    return lambda folder, **how: page["read_pictures"](folder, page["size_for"](folder), **how)


@pytest.mark.parametrize("count", [0, 1, 49])
def test_a_folder_without_enough_pictures_is_told_in_a_sentence_what_to_do(
    count, run_page, tmp_path
):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    write_pictures(folder, count, 28, 28, colour=False, suffix=".png")
    with (
        warnings.catch_warnings(action="ignore"),  # of the notes
        pytest.raises(ValueError, match="VAEBOOK_PICTURES") as error,
    ):
        run_page(folder)
    assert str(error.value) == (
        f"The folder {folder} holds {count} readable pictures to train on, and this page needs "
        "50 or more: put PNG or JPEG files there, or name another folder by VAEBOOK_PICTURES."
    )


def test_a_folder_that_does_not_exist_is_said_not_to(run_page, tmp_path):
    with pytest.raises(ValueError, match="VAEBOOK_PICTURES") as error:
        run_page(tmp_path / "typo")
    assert str(error.value) == (
        f"The folder {tmp_path / 'typo'} does not exist: make it and put PNG or JPEG files there, "
        "or name another folder by VAEBOOK_PICTURES."
    )


def test_sixty_copies_of_a_picture_have_no_variation(run_page, tmp_path):
    for number in range(60):
        Image.new("L", (28, 28), 99).save(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match=r"The 60 pictures in .* show no variation"):
        run_page(tmp_path)


def test_a_name_is_that_of_the_file_which_the_picture_was_read_from(read_pictures, tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "mine"
    for place, shades in {elsewhere: range(0, 60, 10), folder / "b": range(60, 120, 10)}.items():
        place.mkdir(parents=True)
        for shade in shades:
            Image.new("L", (20, 20), shade).save(place / f"{shade}.png")
    (folder / "a").symlink_to(elsewhere)
    (folder / "b" / "100.png").write_bytes(b"no picture")
    (folder / "b" / "notes.txt").write_text("no picture")
    with warnings.catch_warnings(action="ignore"):  # of both
        data = read_pictures(folder, least=5)
    names = [str(file.relative_to(folder)) for file in data.files]
    assert len(names) == len(data.train) == 11
    assert [int(Path(name).stem) for name in names] == data.train.pixels[:, 0, 0, 0].tolist()
    assert {name[:2] for name in names} == {"a/", "b/"}


def test_beside_a_test_folder_only_the_training_pictures_count(read_pictures, tmp_path):
    write_pictures(tmp_path / "train", 60, 40, 30, colour=True, suffix=".png", classes="ab")
    write_pictures(tmp_path / "test", 90, 300, 300, colour=True, suffix=".png", classes="ab")
    data = read_pictures(tmp_path)
    assert data.image_shape == (3, 40, 30)
    assert {file.relative_to(tmp_path).parts[0] for file in data.files} == {"train"}
    assert len(data.files) == len(data.train) == 60


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(28, 28)], (28, 28)),
        ([(4000, 3000)], (48, 64)),
        ([(640, 20)], (16, 64)),
        ([(20, 20), (300, 400), (300, 400), (300, 400), (900, 100)], (64, 48)),  # the median
        ([(10, 50)] + 300 * [(40, 30)], (30, 40)),
    ],
)
def test_the_size_is_the_median_of_the_pictures_made_small(sizes, size, definitions, tmp_path):
    size_for = definitions("your-own-pictures")["size_for"]
    assert size_for(tmp_path / "nothing") is None
    (tmp_path / "000.png").write_bytes(b"no picture")
    assert size_for(tmp_path) is None
    for number, (width, height) in enumerate(sizes, 1):
        Image.new("L", (width, height)).save(tmp_path / f"{number:03d}.png")
    assert size_for(tmp_path) == size


def test_a_picture_on_its_side_one_too_large_and_links_in_a_circle_do_no_harm(
    definitions, tmp_path, monkeypatch
):
    size_for = definitions("your-own-pictures")["size_for"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("L", (60, 40)).save(tmp_path / "1.jpg", exif=exif)
    Image.new("L", (400, 400)).save(tmp_path / "2.png")
    for name in ("up", "again"):
        (tmp_path / name).symlink_to(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)  # twice which is an error
    assert size_for(tmp_path) == (60, 40)
