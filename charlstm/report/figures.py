"""Curves as SVG, by matplotlib: what stands still. Numbers are all that is written in them, as
paths; the words are the page's, in its language."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from charlstm.report.page import missing

COLOURS = ("#1d5c97", "#b0305c", "#2f7d4f", "#7a3fb0", "#8a6d00", "#00767a")
"""Of the models, in their order, on paper; the style sheet has the same. None is orange, which
stands for influence and surprise."""

CURVES = COLOURS[3:]
"""Of training, held-out text and learning rate; a model has one only where four are compared."""

QUIET = "#5a5f67"
"""Of axes and numbers."""

WIDTH = 5.0
"""Of a figure, in inches. Its numbers, 10 points high, can still be read on a phone, where the page
shows it half as wide as on a desk."""

LOWEST = 1e-9
"""A relative norm below which nothing is drawn."""

Points = Sequence[Sequence[float]]


def encoded(figure: Any) -> str:
    """The SVG of a figure in base64: the same bytes for the same curves."""
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "charlstm", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return base64.b64encode(file.getvalue()).decode()


def axes(heights: Sequence[float]) -> tuple[Any, list[Any]]:
    """A figure of plots over one another, whose heights are in inches, with a common abscissa."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing("matplotlib") from None
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    rows = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(heights)}
    )
    plots = [row[0] for row in rows]
    for plot in plots:
        plot.grid(color="#c9c5ba", linewidth=0.5)
        plot.set_axisbelow(True)
        plot.tick_params(colors=QUIET, labelsize=10, length=3)
        for side, spine in plot.spines.items():
            spine.set_color(QUIET)
            spine.set_visible(side in ("left", "bottom"))
    return figure, plots


def learning_curves(
    *, train: Points, valid: Points, rate: Points, best: Sequence[float] | None, returns: Points
) -> str:
    """Losses by step, the best one marked, and returns after divergence, from a step to another;
    below, where it is known, the learning rate. Each curve is broken where it goes back."""
    figure, plots = axes([2.4, 0.6] if rate else [2.5])
    losses = plots[0]
    losses.plot(*broken(train), color=CURVES[0], linewidth=1.4)
    marker = "o" if len(valid) < 40 else None
    losses.plot(*broken(valid), color=CURVES[1], linewidth=1.8, marker=marker, markersize=3)
    if best is not None:
        losses.plot(*best, "*", color=CURVES[1], markersize=15, markeredgecolor="#ffffff")
    for start, end in returns:
        losses.axvspan(end, start, color="#c2410c", alpha=0.12, linewidth=0)
        losses.axvline(start, color="#c2410c", linewidth=1.0, linestyle=":")
    if heights := [y for _, y in [*train, *valid]]:
        losses.set_ylim(max(0.0, min(heights) * 0.93), max(heights) * 1.04 + 1e-6)
    if rate:
        plots[1].plot(*broken(rate), color=CURVES[2], linewidth=1.4)
        plots[1].set_ylim(bottom=0)
    plots[-1].xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    return encoded(figure)


def broken(points: Points) -> tuple[list[float], list[float]]:
    """Abscissas and ordinates of a curve, with a gap wherever it goes back."""
    xs: list[float] = []
    ys: list[float] = []
    for x, y in points:
        if xs and x < xs[-1]:
            xs.append(x)
            ys.append(float("nan"))
        xs.append(x)
        ys.append(y)
    return xs, ys


def reach_curves(models: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Relative norms by lag, each model in its colour: its first state bold, the others thin."""
    figure, (plot,) = axes([2.8])
    for states, colour in zip(models, COLOURS * len(models), strict=False):
        for n, values in enumerate(states.values()):
            shown = [value if value >= LOWEST else float("nan") for value in values]
            style = {"linewidth": 2.4} if n == 0 else {"linewidth": 0.9, "linestyle": "--"}
            plot.plot(range(len(values)), shown, color=colour, **style)
    plot.set_yscale("log")
    plot.margins(x=0.01)
    low, high = plot.get_ylim()
    plot.set_ylim(max(low, LOWEST), max(high, 2.0))
    plot.yaxis.set_major_formatter(_share)
    plot.yaxis.set_minor_formatter(lambda value, place: "")
    plot.xaxis.get_major_locator().set_params(integer=True)
    return encoded(figure)


def _share(value: float, _: object) -> str:
    """A share as a percentage, with no more digits than it needs."""
    return f"{100 * value:.10f}".rstrip("0").rstrip(".") + "%"
