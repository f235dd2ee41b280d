"""The page for a reader's own pictures, run as it stands on folders that it was not written for."""

import ast

import matplotlib
import numpy as np
import pytest
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from PIL import Image

import vaebook as vb
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
    assert np.isfinite(names["cost"]).all()
    assert names["cost"][names["outliers"]].min() >= np.sort(names["cost"])[-12]
    assert names["listed"]["by −ELBO"][0] == str(names["files"][names["outliers"][0]].name) or (
        "classes" in how
    )
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


@pytest.mark.parametrize(("count", "said"), [(None, 0), (0, 0), (1, 1)])
def test_a_folder_without_pictures_is_told_in_a_sentence_what_to_do(
    count, said, run_page, tmp_path
):
    folder = tmp_path / "mine"
    if count is not None:
        folder.mkdir()
        (folder / "notes.txt").write_text("no picture")
        write_pictures(folder, count, 28, 28, colour=False, suffix=".png")
    with pytest.raises(ValueError, match="VAEBOOK_PICTURES") as error:
        run_page(folder)
    assert str(error.value) == (
        f"The folder {folder} holds {said} pictures, and this page needs 50 or more: "
        "put PNG or JPEG files there, or name another folder by VAEBOOK_PICTURES."
    )


def test_the_names_stand_in_the_order_in_which_the_pictures_are_read(definitions, tmp_path):
    list_pictures = definitions("your-own-pictures")["list_pictures"]
    places = ["b/10.png", "b/9.png", "b-c/1.png", "c/x/1.png", "B/1.png", "a b/.hidden.png"]
    for level, place in enumerate(places):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), 10 * level).save(tmp_path / place)
    read = vb.load(tmp_path).train.pixels[:, 0, 0, 0].tolist()
    listed = [places.index(f.relative_to(tmp_path).as_posix()) for f in list_pictures(tmp_path, 1)]
    assert read == [10 * level for level in listed]


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(28, 28, (28, 28)), (4000, 3000, (48, 64)), (300, 400, (64, 48)), (640, 20, (16, 64))],
)
def test_the_size_is_that_of_the_first_picture_made_small(
    width, height, size, definitions, tmp_path
):
    size_for = definitions("your-own-pictures")["size_for"]
    (tmp_path / "0.png").write_bytes(b"no picture")
    Image.new("RGB", (width, height)).save(tmp_path / "1.png")
    assert size_for([tmp_path / "0.png", tmp_path / "1.png"]) == size
    with pytest.raises(ValueError, match="None of the 1 pictures can be read"):
        size_for([tmp_path / "0.png"])
