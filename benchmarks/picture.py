"""Draw a run: `python picture.py RESULTS.json PICTURE.svg`, where matplotlib is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

PANELS = (
    ("small.rate", "1 KB answers a second, 64 connections", 1.0),
    ("large.volume", "2.1 MB answers, MB/s, 16 connections", 1e-6),
    ("one.p50", "p50 at 1 connection, ms", 1e3),
    ("rest", "memory at rest, MB", 1e-6),
)
WHO = {
    "nginx": "nginx (plain proxy)",
    "gateway": "Image Gateway",
    "elsewhere": "Image Gateway, store elsewhere",
    "portkey": "Portkey",
    "litellm": "LiteLLM",
}
WIDE = 20
ACCENT, OTHERS = "#1f6feb", "#8c959f"


def main() -> None:
    """Read the figures, draw a panel each."""
    told = json.loads(Path(sys.argv[1]).read_text())
    figures = {name: value for section in told["sections"] for name, value in section["figures"].items()}
    panels = [panel for panel in PANELS if any(f"{panel[0]}.{who}" in figures for who in WHO)]
    if not panels:
        sys.exit("nothing in this run can be drawn")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9})
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 1.5 * len(panels)), layout="constrained", squeeze=False)
    for (name, title, unit), axis in zip(panels, axes[:, 0], strict=True):
        found = {label: figures[f"{name}.{who}"] * unit for who, label in WHO.items() if f"{name}.{who}" in figures}
        bars = axis.barh(
            list(found), list(found.values()), color=[ACCENT if "Image" in who else OTHERS for who in found]
        )
        axis.bar_label(bars, labels=[f" {value:,.2f}" if value < 10 else f" {value:,.0f}" for value in found.values()])
        wide = max(found.values()) > WIDE * min(found.values())
        axis.set_title(f"{title}{' (logarithmic)' if wide else ''}", loc="left", fontsize=9)
        axis.set_xscale("log" if wide else "linear")
        axis.margins(x=0.15)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"One core, everything on; {told['when']}", fontsize=9, x=0.01, ha="left")
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
