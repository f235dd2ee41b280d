"""Figures that a reader can touch: the pretrained model "mnist-2d" runs in the page itself.

A chapter writes::

    ```{live} latent-plane
    ---
    alt: What the picture shows that stands here in print and without JavaScript.
    ---
    The caption.
    ```

The build writes the weights, the codes of some test images and the still pictures into
``_static/live``, beside the scripts. Only pages with a live figure load them.
"""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from matplotlib.patches import Circle, Ellipse
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

import vaebook as vb

MODEL = "mnist-2d"
CODES = 500  # test images that are shown as points
LIMIT = 3.2  # of the plane, as in live.js
FOLDER = "_static/live"
WEIGHTS = "live-weights.js"
HELP = {
    "latent-plane": (
        "Point at the plane to look, click to place the code, drag to leave a path. Or select the "
        "plane with Tab: the arrow keys move the code (with Shift: small steps), A and B pin it as "
        "an end of the walks, Home returns to the middle."
    ),
    "draw-your-own": (
        "Draw a digit with a mouse, a finger or a stylus. It replaces the test image; the button "
        "shows the next one. Or select the pad with Tab: the arrow keys move a pen, Space puts it "
        "down and lifts it, Backspace takes back a stroke."
    ),
}
STILL = "This picture is still. Where JavaScript runs, the page shows a live figure here."


# --- what the scripts need ------------------------------------------------------------------


def network(model, modules, shape):
    """Return the layers of a network as the scripts read them, and their numbers in a row.

    Batch norm is folded into the convolution before it. A transposed convolution has its input
    channels last, so that a filter lies together in memory.
    """
    layers, numbers, x = [], [], torch.zeros(1, *shape)
    for module in modules:
        into, x = list(x.shape[1:]), module(x)
        if isinstance(module, torch.nn.LeakyReLU):
            layers[-1]["leak"] = module.negative_slope
        elif isinstance(module, torch.nn.BatchNorm2d):
            scale = module.weight / (module.running_var + module.eps).sqrt()
            weights, bias = numbers[-1]
            numbers[-1] = (
                weights * scale.view(-1, 1, 1, 1),
                module.bias + scale * (bias - module.running_mean),
            )
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)):
            up, dense = isinstance(module, torch.nn.ConvTranspose2d), module.weight.ndim == 2
            out = list(x.shape[1:])
            if dense:
                into, out = [into[0], 1, 1], [out[0], 1, 1]
            sizes = (1, 1, 0) if dense else (module.kernel_size, module.stride, module.padding)
            kernel, stride, padding = (s if dense else s[0] for s in sizes)
            layers.append(
                {"into": into, "out": out, "kernel": kernel, "stride": stride, "padding": padding,
                 "transposed": up, "leak": 1}
            )  # fmt: skip
            weights = module.weight.permute(1, 2, 3, 0) if up else module.weight
            weights = weights[..., None, None] if dense else weights
            bias = torch.zeros(out[0]) if module.bias is None else module.bias
            numbers.append((weights, bias))
        elif not isinstance(module, (torch.nn.Flatten, torch.nn.Unflatten)):
            raise ExtensionError(f"live figures: no script knows the layer {module}")
    return layers, torch.cat([part.flatten() for pair in numbers for part in pair])


def both_networks(model):
    """Return encoder and decoder in the same way; mean and log-variance are one dense layer."""
    heads = model.encoder.mean, model.encoder.log_var
    head = torch.nn.Linear(heads[0].in_features, 2 * model.latent_dim)
    with torch.no_grad():
        head.weight.copy_(torch.cat([h.weight for h in heads]))
        head.bias.copy_(torch.cat([h.bias for h in heads]))
        encoder = network(model, [*model.encoder.body, head], model.image_shape)
        return encoder, network(model, model.decoder, (model.latent_dim,))


def badges(z, labels):
    """Return for each class where its name may stand: in its middle, but not on another's."""
    classes = np.unique(labels)
    middles = np.array([np.median(z[labels == c], axis=0) for c in classes])
    for _ in range(100):  # push those apart that would overlap
        between = middles[:, None] - middles
        distance = np.linalg.norm(between, axis=2)
        push = np.clip(0.45 - distance, 0, None) / np.maximum(distance, 1e-6)
        middles += 0.5 * (push[..., None] * between).sum(axis=1)
    return [[*middle.round(3).tolist(), int(c)] for middle, c in zip(middles, classes, strict=True)]


def weights_script(model, data):
    """Return the script that hands the model and the test images to the figures, as text."""
    (encoder, first), (decoder, second) = both_networks(model)
    half = torch.cat([first, second]).numpy().astype("<f2")
    if not np.isfinite(half).all():
        raise ExtensionError("live figures: a weight is too large for float16")
    test = data.test[:CODES]
    labels, z = test.labels.numpy(), vb.embed(model, test)
    _, one_each = np.unique(labels, return_index=True)
    codes = zip(z.round(3).tolist(), labels.tolist(), strict=True)
    card = vb.pretrained_card(MODEL)
    content = {
        "encoder": encoder, "decoder": decoder,
        "weights": base64.b64encode(half.tobytes()).decode(), "adler32": zlib.adler32(half),
        "images": base64.b64encode(test.pixels[one_each].numpy().tobytes()).decode(),
        "codes": [[*code, label] for code, label in codes], "badges": badges(z, labels),
        "classes": list(data.classes), "source": data.source, "palette": vb.plot.PALETTE,
        "card": {name: card[name] for name in ("loss", "reconstruction", "kl")},
    }  # fmt: skip
    return f"window.vaebookLiveData = {json.dumps(content, ensure_ascii=False)};\n"


# --- the still pictures ---------------------------------------------------------------------


def draw_plane(ax, data, z):
    """Draw the codes of the test images and the circle that holds 95 % of the prior."""
    labels = data.test.labels[: len(z)].numpy()
    ax.scatter(*z.T, s=5, c=[vb.plot.PALETTE[c % len(vb.plot.PALETTE)] for c in labels])
    ax.add_patch(Circle((0, 0), np.sqrt(-2 * np.log(0.05)), fill=False, ls=":", ec="#333333"))
    for x, y, c in badges(z, labels):
        box = {"boxstyle": "circle,pad=0.2", "fc": "white", "ec": vb.plot.PALETTE[c % 10]}
        ax.text(x, y, data.classes[c], ha="center", va="center", bbox=box)
    ax.spines[:].set_visible(True)
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", xticks=[], yticks=[])


def still_plane(model, data):
    """Draw the points over the decoded map, and a code with its image."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 4.4), width_ratios=[3, 1])
    middles = LIMIT * ((2 * torch.arange(15) + 1) / 15 - 1)
    grid = torch.cartesian_prod(-middles, middles).flip(1)
    tiles = vb.decode(model, grid).view(15, 15, 28, 28).permute(0, 2, 1, 3).reshape(420, 420)
    image = vb.decode(model, torch.tensor([[0.4, 0.6]]))[0, 0]
    extent = (-LIMIT, LIMIT, -LIMIT, LIMIT)
    left.imshow(tiles.numpy(), extent=extent, cmap="gray_r", alpha=0.35)
    draw_plane(left, data, vb.embed(model, data.test[:CODES]))
    left.plot(0.4, 0.6, "o", ms=9, color="#cc3355", mec="white")
    right.imshow(image.numpy())
    right.set_title("decoded", size=10)
    right.set_axis_off()
    return fig


def still_drawing(model, data):
    """Draw a test image, its posterior in the plane and its reconstruction."""
    fig, axes = plt.subplots(1, 3, figsize=(6.5, 2.9), width_ratios=[1, 2, 1])
    image = data.test[:1]
    mean, std = vb.posterior(model, image)
    for ax, pixels, title in zip(
        axes[::2], (image.pixels[0, 0], vb.reconstruct(model, image)[0, 0]),
        ("drawing", "reconstruction"), strict=True,
    ):  # fmt: skip
        ax.imshow(pixels.numpy())
        ax.set_title(title, size=10)
        ax.set_axis_off()
    draw_plane(axes[1], data, vb.embed(model, data.test[:CODES]))
    axes[1].add_patch(Ellipse(mean[0].tolist(), *(2 * std[0]).tolist(), color="#cc3355"))
    axes[1].plot(*mean[0].tolist(), "o", ms=14, mfc="none", mec="#cc3355", mew=2)
    return fig


STILLS = {"latent-plane": still_plane, "draw-your-own": still_drawing}


def write(folder):
    """Write the weights and the still pictures into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = vb.pretrained(MODEL)
    data = vb.load("mnist", offline="digits", download=False)
    (folder / WEIGHTS).write_text(weights_script(model, data), encoding="utf-8")
    with plt.rc_context(vb.plot.STYLE):
        for name, draw in STILLS.items():
            fig = draw(model, data)
            fig.savefig(folder / f"{name}.png", dpi=150)
            plt.close(fig)


# --- the directive --------------------------------------------------------------------------


class live_figure(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """A live figure; its children are the caption."""


class Live(SphinxDirective):
    """``{live} NAME``, with the caption as its content."""

    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012 (as docutils has it)

    def run(self):
        """Return the figure, or say what is wrong with it."""
        name = self.arguments[0]
        if name not in HELP:
            raise self.error(f"live: expected one of {', '.join(HELP)}, got {name!r}")
        if not self.options.get("alt") or not self.content:
            raise self.error(f"live: {name} needs an :alt: text and a caption")
        figure = live_figure("", kind=name, alt=self.options["alt"])
        figure += self.parse_content_to_nodes()
        return [figure]


def markup(name, alt, folder):
    """Return the HTML of a figure up to its caption; `folder` is where the still pictures are."""
    return (
        f'<figure class="live-figure" data-live="{name}">\n'
        f'<img class="live-still" loading="lazy" src="{folder}/{name}.png" alt="{alt}">\n'
        '<div class="live-stage" hidden></div>\n'
        f'<p class="live-help">{HELP[name]}</p>\n<p class="live-still-note">{STILL}</p>\n'
        "<figcaption>"
    )


def visit(translator, node):
    """Open the figure in a page."""
    page = translator.builder.get_target_uri(translator.builder.current_docname)
    folder, alt = relative_uri(page, FOLDER), translator.attval(node["alt"])
    translator.body.append(markup(node["kind"], alt, folder))


def depart(translator, node):
    """Close the figure."""
    translator.body.append("</figcaption>\n</figure>\n")


def skip(translator, node):
    """Show only the caption where there are no pages."""


def add_scripts(app, pagename, templatename, context, doctree):
    """Let a page with live figures load their style, the weights and the scripts."""
    kinds = [node["kind"] for node in doctree.findall(live_figure)] if doctree else []
    if kinds:
        app.add_css_file("live/live.css")
        for name in dict.fromkeys([WEIGHTS, "live.js", *(f"{kind}.js" for kind in kinds)]):
            app.add_js_file(f"live/{name}", loading_method="defer")


def write_for_pages(app):
    """Write what the pages load; before them, so that their links carry its checksum."""
    if app.builder.format == "html":
        write(Path(app.outdir) / FOLDER)


def setup(app):
    """Register the directive with Sphinx."""
    other = (skip, skip)
    app.add_node(live_figure, html=(visit, depart), latex=other, text=other, man=other)
    app.add_directive("live", Live)
    app.connect("builder-inited", write_for_pages)
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
