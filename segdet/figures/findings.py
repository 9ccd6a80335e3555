"""Figures of a study of protocol 2: all comparisons in one picture, and means over seeds along a dial (chapter 11)."""

import numpy as np

from .plots import BLUE, INK, RED, name_rows


def forest(ax, rows, bound=None):
    """Draw findings with their 95 % intervals, one row each: planned ones filled, exploratory ones open.

    Parameters
    ----------
    ax : matplotlib Axes
    rows : list of (label, segdet.analysis.verdicts.Finding, planned, paper)
        `paper` is the paper's number or None; it is a red diamond.
    bound : float, optional
        Differences within so much of 0 are shaded: too small to matter.
    """
    for place, (_, finding, planned, paper) in enumerate(reversed(rows)):
        if np.isfinite(finding.interval).all():  # of one seed it is not
            ax.plot(finding.interval, [place, place], color=BLUE, lw=2.5, solid_capstyle="butt")
        ax.plot(finding.difference, place, "o", color=BLUE, mfc=BLUE if planned else "none")
        if paper is not None:
            ax.plot(paper, place, "D", mfc="none", mec=RED)
    if bound:
        ax.axvspan(-bound, bound, color=INK, alpha=0.2, lw=0)
    ax.axvline(0, color="0.6", lw=1)
    name_rows(ax, [row[0] for row in rows])


def along(ax, rows, x, y, label, colour):
    """The mean of `y` over `x` with the 95 % interval over seeds, from rows (dicts) with ``seed``, `x` and `y`.

    Returns
    -------
    list of (x, mean, low, high)
    """
    from ..analysis.verdicts import seed_means, t_interval

    found = []
    for value in sorted({row[x] for row in rows}):
        here = [row for row in rows if row[x] == value]
        means = seed_means([row[y] for row in here], [row["seed"] for row in here])
        found.append((value, float(means.mean()), *t_interval(means)))
    at, mean, low, high = np.array(found).T
    ax.plot(at, mean, "o-", color=colour, label=label)
    if np.isfinite(low).all():
        ax.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
    return found
