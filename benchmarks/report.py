"""The report of the benchmark: its file, its table and its picture."""

import json
import statistics

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.sections import flop_per_image
from experiments.records import write_text
from vaebook.plot import PALETTE, STYLE

# What makes a row another one, where several sections add to one list.
SETTINGS = {
    "speed": ("network", "contender", "batch_size", "image_size", "images"),
}
ORDER = (
    "provenance", "data", "ceiling", "flop_per_image", "speed", "test_pass", "growth",
    "precision", "tried", "import", "cuda",
)  # fmt: skip
NAMES = {
    "vaebook": "vaebook", "float32": "vaebook in float32", "loop": "hand-written loop",
    "recipe": "usual recipe", "pythae": "pythae",
}  # fmt: skip


def merged(report, found):
    """Return the report with what a section found; a row for the same setting is replaced."""
    report = dict(report)
    for key, value in found.items():
        if key in SETTINGS:
            both = {
                tuple(row[k] for k in SETTINGS[key]): row for row in report.get(key, []) + value
            }
            value = [*both.values()]
        report[key] = value
    return {key: report[key] for key in ORDER if key in report}


def finished(report):
    """Return the report in few digits, with the share of the ceiling that each speed is."""
    report = _round(report)
    for row in report.get("speed", []):
        own = row["contender"] == "vaebook"
        top = report.get("ceiling", {}).get(report["provenance"]["precision"] if own else "float32")
        flop = flop_per_image(row["network"], (1, row["image_size"], row["image_size"]))
        share = row["images_per_second"] * flop / 1e9 / top if top else None
        row["share_of_ceiling"] = _round(share)
    return report


def keep(report, path):
    """Write the report, each entry on a line of its own."""
    parts = []
    for key, value in report.items():
        rows = isinstance(value, list) and value
        text = ",\n".join(f"  {_dump(row)}" for row in value) if rows else _dump(value)
        parts.append(f" {json.dumps(key)}: " + (f"[\n{text}\n ]" if rows else text))
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _dump(value):
    return json.dumps(value, ensure_ascii=False)


def _round(value):
    if isinstance(value, dict):
        return {key: _round(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_round(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def show(report):
    """Print the report as a table of speeds and a line for each of the rest."""
    run = report["provenance"]
    print(f"\n{run['processor']}, {run['device']}, {run['threads']} threads, torch {run['torch']}")
    print(report["data"])
    heads = "network", "contender", "side", "batch", "images/s", "vaebook is", "of ceiling", "runs"
    print("\n{:<8}{:<10}{:>5}{:>7}{:>11}{:>13}{:>12}{:>6}".format(*heads))
    for row in report.get("speed", []):
        share = "" if row["share_of_ceiling"] is None else f"{row['share_of_ceiling']:.0%}"
        print(
            f"{row['network']:<8}{row['contender']:<10}{row['image_size']:>5}"
            f"{row['batch_size']:>7}{row['images_per_second']:>11,.0f}"
            f"{row['vaebook_is']:>7.2f} times{share:>12}{len(row['seconds']):>6}"
        )
    print()
    for key in ("ceiling", "flop_per_image", "test_pass", "precision", "import"):
        if key in report:
            print(f"{key}: {json.dumps(report[key])}")
    for key in ("growth", "cuda"):
        for row in report.get(key, []):
            print(f"{key}: {json.dumps(row)}")
    for row in report.get("tried", []):
        times = row["milliseconds"]
        taken = f"{statistics.median(times):.1f} ms, {row['relative']:.2f} times" if times else ""
        print(f"tried: batch {row['batch_size']}, {row['step']}: {taken}", row["note"])


def draw(report, path):
    """Draw images per second against the batch size, a panel for each network."""
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharex=True)
        for ax, (network, flop) in zip(axes, report["flop_per_image"].items(), strict=True):
            rows = [r for r in report["speed"] if (r["network"], r["image_size"]) == (network, 28)]
            _draw_network(ax, rows)
            _draw_ceilings(ax, report["ceiling"], flop)
            ax.set(title=f"{network}: {flop / 1e6:.1f} MFLOP per image", xlabel="images in a batch")
        axes[0].set_ylabel("images per second")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        fig.savefig(path, dpi=150)
        plt.close(fig)


def _draw_network(ax, rows):
    for (name, label), color, marker in zip(NAMES.items(), PALETTE, "osD^v", strict=False):
        found = {r["batch_size"]: r["images_per_second"] for r in rows if r["contender"] == name}
        sizes = sorted(found)
        ax.plot(sizes, [found[n] for n in sizes], marker=marker, color=color, label=label)
    sizes = sorted({row["batch_size"] for row in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_ceilings(ax, ceilings, flop):
    for precision, gflops in ceilings.items():
        most = gflops * 1e9 / flop
        ax.axhline(most, color="#666666", linestyle="--", linewidth=1)
        where = dict(xy=(1.01, most), xycoords=("axes fraction", "data"), ha="left", va="center")
        ax.annotate(f"ceiling in\n{precision}", fontsize=8, color="#666666", **where)
