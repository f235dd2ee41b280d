import inspect
import io
from itertools import combinations, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import vaebook as vb

HIRAGANA = tuple("おきすつなはまやれを")
RNG = np.random.default_rng(0)
GREY = vb.load("digits", image_size=16).test[:13]
COLOUR = RNG.integers(0, 256, (7, 3, 9, 12), dtype=np.uint8)
MODEL = vb.conv_vae((1, 16, 16), latent_dim=3, width=2)
COLOUR_MODEL = vb.dense_vae((3, 9, 12), latent_dim=2, hidden=(4,))
POINTS = RNG.standard_normal((60, 2)).astype(np.float32)
LABELS = np.arange(60) % 10
POSTERIORS = [(i, torch.randn(9, 3) + i, torch.rand(9, 3)) for i in (0, 50, 100)]
LOSSES = {"loss": 0.0, "reconstruction": 0.0, "kl": 0.0}
FRAME = pd.DataFrame(
    [{"epoch": e, "split": s} | LOSSES for e in (1, 2, 3) for s in ("train", "validation")]
)

FIGURES = {
    "images": lambda **ax: vb.plot.images(GREY, title="a title", **ax),
    "images, one": lambda **ax: vb.plot.images(GREY[0], **ax),
    "images, colour": lambda **ax: vb.plot.images(COLOUR, columns=5, **ax),
    "images, labelled": lambda **ax: vb.plot.images(COLOUR, labels=HIRAGANA[:7], **ax),
    "images, labelled at length": lambda **ax: vb.plot.images(
        GREY, labels=["two\nlines", *(f"{10**i} and {i}" for i in range(12))], title="above", **ax
    ),
    "loss_curves": lambda **ax: vb.plot.loss_curves(FRAME, **ax),
    "loss_curves, no validation": lambda **ax: vb.plot.loss_curves(
        FRAME[FRAME["split"] == "train"], **ax
    ),
    "loss_curves, one epoch": lambda **ax: vb.plot.loss_curves(FRAME[:1], **ax),
    "sample_evolution": lambda **ax: vb.plot.sample_evolution(
        [(1000 * i, GREY[:5]) for i in range(6)], **ax
    ),
    "sample_evolution, colour": lambda **ax: vb.plot.sample_evolution([(0, COLOUR)], **ax),
    "latent_bands": lambda **ax: vb.plot.latent_bands(POSTERIORS, **ax),
    "reconstructions": lambda **ax: vb.plot.reconstructions(
        GREY, vb.reconstruct(MODEL, GREY), **ax
    ),
    "reconstructions, colour": lambda **ax: vb.plot.reconstructions(
        COLOUR, COLOUR, columns=3, **ax
    ),
    "latent_scatter": lambda **ax: vb.plot.latent_scatter(POINTS, LABELS, HIRAGANA, **ax),
    "latent_scatter, no labels": lambda **ax: vb.plot.latent_scatter(POINTS, **ax),
    "latent_scatter, pca": lambda **ax: vb.plot.latent_scatter(
        vb.embed(MODEL, GREY), GREY.labels, HIRAGANA, method="pca", **ax
    ),
    "traversal": lambda **ax: vb.plot.traversal(MODEL, **ax),
    "traversal, colour": lambda **ax: vb.plot.traversal(
        vb.traversal(COLOUR_MODEL, steps=3, spacing="equal"), **ax
    ),
    "architecture": lambda **ax: vb.plot.architecture(MODEL, **ax),
    "architecture, dense": lambda **ax: vb.plot.architecture(
        vb.dense_vae((3, 8, 8), latent_dim=2), **ax
    ),
    "interpolation": lambda **ax: vb.plot.interpolation(
        vb.interpolate(MODEL, GREY[0], GREY[1]), **ax
    ),
}
SEVERAL = {"loss_curves": 3, "latent_bands": 2}  # how many axes a function takes, if not one


def render(fig):
    """Draw a figure; a character that no font has is a warning, and so an error."""
    fig.savefig(io.BytesIO(), format="png", dpi=40)
    return fig


def texts(fig):
    return [text.get_text() for text in fig.findobj(plt.Text) if text.get_text()]


def sheets(fig):
    return [image.get_array() for ax in fig.axes for image in ax.get_images()]


def captions(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def geometry(fig):
    """In how many rows and columns the pictures of a figure lie."""
    places = [image.get_extent() for image in fig.axes[0].get_images()]
    return len({round(top, 6) for *_, top in places}), len({round(left, 6) for left, *_ in places})


def assert_captioned(fig, expected):
    """Each picture has its caption in the middle above it, and apart from the next picture."""
    (ax,) = fig.axes
    assert captions(fig) == expected
    for text, image in zip(ax.texts, ax.get_images(), strict=True):
        left, right, bottom, top = image.get_extent()
        x, y = text.get_position()
        assert x == pytest.approx((left + right) / 2)
        assert bottom < top < y < top + 0.1
        assert (text.get_ha(), text.get_va()) == ("center", "bottom")
        height, width, _ = image.get_array().shape
        assert (top - bottom) / (right - left) == pytest.approx(height / width)


def pixels(fig):
    fig.canvas.draw()
    return np.array(fig.canvas.buffer_rgba())


def test_every_public_function_is_drawn_here():
    functions = {
        name
        for name, function in vars(vb.plot).items()
        if inspect.isfunction(function) and function.__module__.startswith("vaebook.plot.")
    }
    assert functions == {name.partition(",")[0] for name in FIGURES} | {"tile"}
    assert functions | {"FONT", "PALETTE", "STYLE"} == set(vb.plot.__all__)


def test_the_style_goes_by_its_name():
    with plt.style.context("vaebook.plot.book"):
        assert vb.plot.STYLE.items() <= plt.rcParams.items()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_comes_back_closed_and_the_settings_stay(name):
    before = dict(plt.rcParams)
    fig = FIGURES[name]()
    assert isinstance(fig, Figure)
    render(fig)
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before
    for ax in fig.axes:
        if ax.axison and ax.get_xticks().size:
            assert ax.get_xlabel() or ax.get_title()
            assert ax.get_ylabel() or ax.get_title()


@pytest.mark.parametrize("name", [name for name in FIGURES if "scatter" not in name])
def test_no_words_overlap_or_are_cut_off(name):
    fig = FIGURES[name]()
    fig.draw_without_rendering()
    words = [t for ax in fig.axes for t in (ax.title, *ax.texts) if t.get_text()]
    boxes = [text.get_window_extent() for text in words]
    for box in boxes:
        assert fig.bbox.x0 <= box.x0 < box.x1 <= fig.bbox.x1
        assert fig.bbox.y0 <= box.y0 < box.y1 <= fig.bbox.y1
    assert not [a for a, b in combinations(boxes, 2) if a.overlaps(b)]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_on_given_axes_and_on_nothing_else(name):
    fig, axes = plt.subplots(2, 3, figsize=(9, 6), dpi=50)
    fig.suptitle("the caller's")
    count = SEVERAL.get(name.partition(",")[0], 1)
    given, others = axes.flat[:count], axes.flat[count:]
    for ax in others:
        ax.plot([0, 1])
    children = [set(ax.get_children()) for ax in given]
    for ax in given:
        ax.set_visible(False)
    before, settings = pixels(fig), dict(plt.rcParams)
    got = FIGURES[name](ax=given if count > 1 else given[0])
    assert got is fig
    assert plt.get_fignums() == [fig.number]
    assert plt.gca() is axes[1, 2]
    assert dict(plt.rcParams) == settings
    assert fig.axes == list(axes.flat)
    np.testing.assert_array_equal(pixels(fig), before)
    for ax, old in zip(given, children, strict=True):
        assert set(ax.get_children()) > old
        ax.set_visible(True)
    assert (pixels(fig) != before).any()


def test_given_axes_keep_their_title_and_get_the_one_asked_for():
    fig, (left, right) = plt.subplots(1, 2)
    left.set_title("kept")
    vb.plot.images(GREY, ax=left)
    vb.plot.images(COLOUR, labels=HIRAGANA[:7], title="new", ax=right)
    assert (left.get_title(), right.get_title(), fig.get_suptitle()) == ("kept", "new", "")


@pytest.mark.parametrize("name", ["images", "loss_curves", "latent_bands", "latent_scatter"])
@pytest.mark.parametrize("wrap", [list, tuple, np.array, lambda axes: np.array(axes)[:, None]])
def test_axes_may_come_in_any_sequence(name, wrap):
    _, axes = plt.subplots(1, SEVERAL.get(name, 1), squeeze=False)
    FIGURES[name](ax=wrap(list(axes.flat)))
    assert all(ax.get_children() for ax in axes.flat)


@pytest.mark.parametrize("name", [name for name in FIGURES if "," not in name])
def test_another_number_of_axes_is_refused(name):
    count = SEVERAL.get(name, 1)
    word = ("one", "two", "three")[count - 1]
    fig, axes = plt.subplots(1, 4)
    before = pixels(fig)
    for wrong in (axes, [], axes[: count + 1], [*axes[: count - 1], "axes"], fig):
        with pytest.raises(ValueError, match=rf"^ax: expected {word} Axes, got \["):
            FIGURES[name](ax=wrong)
    np.testing.assert_array_equal(pixels(fig), before)
    assert plt.get_fignums() == [fig.number]


# --- images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize(("count", "columns"), [(1, None), (5, None), (16, None), (7, 3), (3, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tile_pixel_by_pixel(count, columns, channels, gap):
    pixels = RNG.integers(0, 256, (count, channels, 4, 6), dtype=np.uint8)
    sheet = vb.plot.tile(pixels, columns, gap=gap)
    across = columns or int(np.ceil(count**0.5))
    down = int(np.ceil(count / across))
    expected = np.ones((down * (4 + gap) - gap, across * (6 + gap) - gap, 3))
    for i in range(count):
        top, left = i // across * (4 + gap), i % across * (6 + gap)
        for y, x, c in product(range(4), range(6), range(3)):
            expected[top + y, left + x, c] = pixels[i, c % channels, y, x] / 255
    np.testing.assert_allclose(sheet, expected, atol=1e-6)


def test_images_are_labelled_in_order():
    fig = FIGURES["images, labelled"]()
    assert_captioned(fig, list(HIRAGANA[:7]))
    assert geometry(fig) == (3, 3)
    np.testing.assert_allclose(sheets(fig)[4], COLOUR[4].transpose(1, 2, 0) / 255, atol=1e-6)
    assert geometry(vb.plot.images(COLOUR, labels=HIRAGANA[:7], columns=5)) == (2, 5)
    titled = FIGURES["images"]()
    assert texts(titled) == ["a title"]
    assert titled.axes[0].get_title() == "a title"


@pytest.mark.parametrize(
    "labels",
    [[3, 1, 2], (3, 1, 2), np.array([3, 1, 2]), pd.Index([3, 1, 2]), torch.tensor([3, 1, 2]),
     pd.Series([3, 1, 2], index=[7, 8, 9]), ["3", "1", "2"], np.array(["3", "1", "2"])],
    ids=lambda labels: type(labels).__name__,
)  # fmt: skip
def test_labels_of_images_come_in_any_sequence(labels):
    assert captions(vb.plot.images(GREY[:3], labels=labels)) == ["3", "1", "2"]


@pytest.mark.parametrize("empty", [[], (), np.array([]), pd.Index([]), torch.tensor([])])
def test_empty_labels_of_images_are_none(empty):
    fig = vb.plot.images(GREY[:3], labels=empty)
    assert texts(fig) == []
    assert len(sheets(fig)) == 1


def test_images_refuses_labels_of_another_number():
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 7 images, got 3$"):
        vb.plot.images(COLOUR, labels=np.array(HIRAGANA[:3]))


def test_evolution_shows_each_snapshot_under_its_step():
    fig = FIGURES["sample_evolution"]()
    assert_captioned(fig, [f"step {step}" for step in ("0", *(f"{i},000" for i in range(1, 6)))])
    assert all(np.array_equal(sheet, vb.plot.tile(GREY[:5], gap=1)) for sheet in sheets(fig))
    assert geometry(fig) == (2, 3)
    assert geometry(vb.plot.sample_evolution([(i, GREY[:4]) for i in range(16)])) == (4, 4)


def test_evolution_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^snapshots: "):
        vb.plot.sample_evolution([])


def test_reconstructions_lie_under_their_originals():
    fig = vb.plot.reconstructions(GREY, GREY.pixels.float() / 510, columns=6)
    above, below = sheets(fig)[0::2], sheets(fig)[1::2]
    assert len(above) == len(below) == 3  # 13 images in rows of 6
    for original, dim in zip(above, below, strict=True):
        ink = original < 1
        np.testing.assert_allclose(dim[ink], original[ink] / 2, atol=1e-6)
    assert captions(fig) == ["original", "reconstruction"] * 3
    places = np.array([image.get_extent() for image in fig.axes[0].get_images()])
    assert len(np.unique(places[:, :2], axis=0)) == 1
    bottoms, tops = places[:, 2], places[:, 3]  # y grows downwards
    apart = tops[1:] - bottoms[:-1]
    assert (apart > 0).all()
    assert apart[0::2].max() < apart[1::2].min()  # an original is nearer to its reconstruction
    for text, top, bottom in zip(fig.axes[0].texts, tops, bottoms, strict=True):
        x, y = text.get_position()
        assert fig.axes[0].viewLim.x0 < x < places[0, 0]
        assert y == pytest.approx((top + bottom) / 2)


def test_reconstructions_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"^reconstructed: "):
        vb.plot.reconstructions(GREY, GREY[:12])


def test_a_traversal_tells_where_its_codes_lie():
    grid = vb.traversal(MODEL, steps=5, spacing="equal", limit=2, dims=(2, 0))
    fig = render(vb.plot.traversal(grid))
    (ax,) = fig.axes
    assert ax.get_xlabel() == "$z_{3}$ (equal steps)"
    assert ax.get_ylabel() == "$z_{1}$"
    ticks = ["−2.0", "−1.0", "0.0", "1.0", "2.0"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ticks
    assert [label.get_text() for label in ax.get_yticklabels()] == ticks
    # The image above the last tick of x, beside the first of y, has the codes these tell.
    left, right, bottom, top = ax.get_images()[0].get_extent()
    assert (left, right, bottom, top) == (0, 5, 0, 5)
    (sheet,) = sheets(fig)
    z = torch.tensor([[-2.0, 0.0, 2.0]])
    expected = vb.decode(MODEL, z)[0, 0]
    np.testing.assert_allclose(sheet[-16:, -16:, 0], expected, atol=1e-5)
    assert ax.get_yticks()[0] == 0.5


def test_a_path_is_labelled_in_percent():
    fig = vb.plot.interpolation(GREY[:11])
    assert_captioned(fig, [f"{share} %" for share in range(0, 101, 10)])
    assert geometry(fig) == (1, 11)


# --- curves and points ------------------------------------------------------------------------


def test_loss_curves_draw_the_numbers_of_the_history():
    frame = FRAME.assign(loss=range(6), reconstruction=range(6, 12), kl=range(12, 18))
    fig = render(vb.plot.loss_curves(frame))
    for ax, column in zip(fig.axes, ["loss", "reconstruction", "kl"], strict=True):
        for line, split in zip(ax.get_lines(), ["train", "validation"], strict=False):
            rows = frame[frame["split"] == split]
            np.testing.assert_array_equal(line.get_xdata(), rows["epoch"])
            np.testing.assert_array_equal(line.get_ydata(), rows[column])
        assert ax.get_xlabel() == "epoch"
        assert ax.get_title()
    assert fig.axes[0].get_ylabel() == "nats per image"
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == [
        "train", "validation",
    ]  # fmt: skip


def scattered(fig):
    """The points of a scatter plot in an order of their own."""
    points = np.concatenate([np.asarray(part.get_offsets()) for part in fig.axes[0].collections])
    return points[np.lexsort(points.T)]


def test_the_scatter_shows_every_point_in_the_frame_of_the_prior():
    outliers = np.array([[9.0, 0], [-4.1, 0], [0, -99]], dtype=np.float32)
    points = np.concatenate([POINTS, outliers])
    fig = render(vb.plot.latent_scatter(points, np.arange(63) % 10, HIRAGANA))
    (ax,) = fig.axes
    assert ax.get_aspect() == 1
    assert ax.get_xlim() == ax.get_ylim() == (-4, 4)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
    np.testing.assert_allclose(scattered(fig), points[np.lexsort(points.T)], rtol=1e-6)
    assert set(HIRAGANA) <= set(texts(fig))
    assert "63 images, 3 outside" in ax.get_title()
    rings = sorted(patch.get_radius() for patch in ax.patches)
    distances = np.linalg.norm(np.random.default_rng(1).standard_normal((100_000, 2)), axis=1)
    inside = [(distances < radius).mean() for radius in rings]
    np.testing.assert_allclose(inside, [0.5, 0.95], atol=0.01)


def test_each_class_has_one_colour_and_its_name_among_its_points():
    centres = np.array([[-2, -2], [2, 2], [2, -2]])
    labels = np.arange(60) % 3
    points = (centres[labels] + 0.1 * POINTS).astype(np.float32)
    (ax,) = vb.plot.latent_scatter(points, torch.from_numpy(labels), ["a", "b", "c"]).axes
    dots = ax.collections[0]
    colours, offsets = dots.get_facecolors(), np.asarray(dots.get_offsets())
    nearest = np.linalg.norm(offsets[:, None] - centres, axis=2).argmin(1)
    found = [np.unique(colours[nearest == label], axis=0) for label in range(3)]
    assert [len(colour) for colour in found] == [1, 1, 1]
    assert len(np.unique(np.concatenate(found), axis=0)) == 3
    names = {text.get_text(): text for text in ax.texts}
    for name, centre, colour in zip("abc", centres, found, strict=True):
        assert np.linalg.norm(np.array(names[name].get_position()) - centre) < 0.5
        edge = names[name].get_bbox_patch().get_edgecolor()
        np.testing.assert_allclose(edge[:3], colour[0, :3])


def test_a_class_outside_the_frame_does_not_squeeze_it():
    inside = render(vb.plot.latent_scatter(POINTS, np.zeros(60, int), ["a"]))
    outside = render(vb.plot.latent_scatter(POINTS + 30, np.zeros(60, int), ["a"]))
    widths = [fig.axes[0].get_window_extent().width for fig in (inside, outside)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_pca_is_the_singular_value_decomposition():
    z = RNG.standard_normal((40, 6)).astype(np.float32) * [5, 1, 1, 3, 1, 1]
    fig = vb.plot.latent_scatter(z.astype(np.float32), method="pca")
    got = scattered(fig)
    u, s, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    flips = [(u * s)[:, :2] * signs for signs in product([1, -1], repeat=2)]
    assert any(np.allclose(got, flip[np.lexsort(flip.T)], atol=1e-3) for flip in flips)
    share = s[0] ** 2 / (s**2).sum()
    assert f"{share:.0%}" in fig.axes[0].get_xlabel()
    assert fig.axes[0].get_aspect() == 1


def test_tsne_by_name():
    z = RNG.standard_normal((50, 5)).astype(np.float32)
    fig = vb.plot.latent_scatter(z, LABELS[:50], HIRAGANA, method="tsne")
    assert scattered(fig).shape == (50, 2)
    assert fig.axes[0].get_xlabel() == "t-SNE 1"


def named(fig):
    """The names and colours of a scatter plot's badges and of its legend, and its dots' colours."""
    (ax,) = fig.axes
    legend = ax.get_legend()
    handles = legend.legend_handles if legend else []
    words = [text.get_text() for text in legend.get_texts()] if legend else []
    badges = {
        text.get_text(): text.get_bbox_patch().get_edgecolor()[:3]
        for text in ax.texts if text.get_bbox_patch()
    }  # fmt: skip
    shown = [tuple(handle.get_facecolor()[0, :3]) for handle in handles]
    dots = ax.collections[0]
    return badges, dict(zip(words, shown, strict=True)), dots.get_facecolors()[:, :3]


def reversed_series(values):
    return pd.Series(values, index=range(len(values), 0, -1))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(list, np.array), (np.array, pd.Index), (torch.tensor, list), (pd.Index, reversed_series),
     (reversed_series, tuple), (tuple, "".join)],
)  # fmt: skip
def test_labels_and_classes_come_in_any_sequence(labels, classes):
    expected = named(vb.plot.latent_scatter(POINTS, LABELS, HIRAGANA))
    assert list(expected[0]) == list(expected[1]) == list(HIRAGANA)
    points = torch.from_numpy(POINTS)
    fig = vb.plot.latent_scatter(points, labels(LABELS.tolist()), classes(HIRAGANA))
    got = named(fig)
    assert got[:2] == expected[:2]
    np.testing.assert_array_equal(got[2], expected[2])


@pytest.mark.parametrize("empty", [[], (), np.array([]), pd.Index([]), torch.tensor([])])
def test_empty_labels_and_classes_are_none(empty):
    plain, unnamed = vb.plot.latent_scatter(POINTS), vb.plot.latent_scatter(POINTS, LABELS)
    for fig, like in (
        (vb.plot.latent_scatter(POINTS, empty, HIRAGANA), plain),
        (vb.plot.latent_scatter(POINTS, LABELS, empty), unnamed),
    ):
        badges, legend, colours = named(fig)
        assert not badges
        assert not legend
        np.testing.assert_array_equal(colours, named(like)[2])


def test_a_negative_label_is_no_class():
    noisy = LABELS.copy()
    noisy[::7], noisy[1::7] = -1, -2
    badges, legend, colours = named(vb.plot.latent_scatter(POINTS, noisy, HIRAGANA))
    usual, _, _ = named(vb.plot.latent_scatter(POINTS, LABELS, HIRAGANA))
    assert badges == usual
    grey = legend.pop("no class")
    assert legend == usual
    assert len(set(grey)) == 1
    assert grey not in usual.values()
    assert (colours == grey).all(1).sum() == (noisy < 0).sum()
    badges, legend, unnamed = named(vb.plot.latent_scatter(POINTS, noisy))
    assert not badges
    assert not legend
    np.testing.assert_array_equal(unnamed, colours)
    badges, legend, colours = named(vb.plot.latent_scatter(POINTS, np.full(60, -1), HIRAGANA))
    assert not badges
    assert legend == {"no class": grey}
    assert (colours == grey).all()


@pytest.mark.parametrize("labels", [["a"] * 60, [0.5] * 60, [[1]] * 60])
def test_the_scatter_refuses_labels_that_are_no_indices(labels):
    with pytest.raises(ValueError, match=r"^labels: expected whole numbers in a row, got array\("):
        vb.plot.latent_scatter(POINTS, labels)


@pytest.mark.parametrize(("latent_dim", "method"), [(3, None), (1, None), (3, "umap"), (2, "lda")])
def test_the_scatter_refuses(latent_dim, method):
    with pytest.raises(ValueError, match=r"^method: expected 'pca' or 'tsne' for codes of shape"):
        vb.plot.latent_scatter(POINTS[:, [0] * latent_dim], method=method)


def test_the_scatter_refuses_labels_of_another_number():
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 60 codes, got 59$"):
        vb.plot.latent_scatter(POINTS, LABELS[:-1])


def test_bands_hold_every_image_and_a_line_per_dimension():
    fig = vb.plot.latent_bands(POSTERIORS)
    for ax, moment in zip(fig.axes, (1, 2), strict=True):
        values = np.stack([posterior[moment] for posterior in POSTERIORS])
        lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
        assert len(lines) == 3
        for i, (line, band) in enumerate(zip(lines, ax.collections, strict=True)):
            np.testing.assert_allclose(line.get_ydata(), values[:, :, i].mean(1), rtol=1e-5)
            heights = band.get_paths()[0].vertices[:, 1]
            assert heights.min() == pytest.approx(values[:, :, i].min())
            assert heights.max() == pytest.approx(values[:, :, i].max())
    with pytest.raises(ValueError, match=r"^posteriors: expected at least one, got none"):
        vb.plot.latent_bands([])


def test_a_class_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"^classes: expected a name for class 9, got 5"):
        vb.plot.latent_scatter(POINTS, LABELS, HIRAGANA[:5])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20)])
def test_the_picture_of_a_model_names_each_layer_with_its_shape_and_parameters(shape):
    model = vb.conv_vae(shape, latent_dim=5, width=4)
    fig = vb.plot.architecture(model)
    texts = captions(fig)
    assert [texts.pop(texts.index(part)) for part in ("encoder", "decoder")]
    drawn = [layer for layer in vb.summary(model).layers if "Norm" not in layer.kind]
    drawn = [layer for layer in drawn if layer.kind not in ("LeakyReLU", "Flatten")]
    assert len(texts) == 2 * (len(drawn) + 2)  # the image and the code stand before them
    below = [text.split("\n") for text in texts[1::2]]
    assert ["×".join(map(str, shape)), ""] in below
    assert ["5", ""] in below
    for layer in drawn:
        shown = "×".join(map(str, layer.output))
        assert [shown, f"{layer.parameters:,}" if layer.parameters else ""] in below
    for ax in fig.axes:  # nothing is cut off
        for patch in ax.patches:
            assert ax.viewLim.x0 < patch.get_x()
            assert patch.get_x() + patch.get_width() < ax.viewLim.x1
            assert ax.viewLim.y0 < patch.get_y() < patch.get_y() + patch.get_height()
            assert patch.get_y() + patch.get_height() < ax.viewLim.y1


def test_the_encoder_lies_above_the_decoder():
    (ax,) = FIGURES["architecture"]().axes
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert places["image"] > places["decoder"] > places["code"]
    assert places["encoder"] > places["image"]
