"""Section 5: how long each gate is nearly closed, and nearly open, and how much it moves.

After A. Karpathy, J. Johnson, L. Fei-Fei, Visualizing and understanding recurrent networks, 2015,
figure 4.
"""

from typing import Any

import numpy as np

from charlstm.report.recording import Recording, is_gate

CLOSED, OPEN = 0.1, 0.9
"""Below and above these a gate counts as closed and as open, as in the paper."""

STILL = 0.1
"""A gate whose standard deviation is below this counts as one that hardly moves."""


def gates(recording: Recording) -> dict[str, Any]:
    """For each layer and gate, by unit, the share of the text in which it is closed and in which it
    is open, its mean and its standard deviation."""
    layers: list[dict[str, Any]] = []
    for place, values in recording.values.items():
        if place.layer == len(layers):
            layers.append({})
        if is_gate(recording.cell, place.quantity):
            measured = {
                "closed": (values < CLOSED).mean(axis=0),
                "open": (values > OPEN).mean(axis=0),
                "mean": values.mean(axis=0, dtype=np.float64),
                "deviation": values.std(axis=0, dtype=np.float64),
            }
            layers[place.layer][place.quantity] = {
                what: np.round(value, 3).tolist() for what, value in measured.items()
            }
    limits = {"closed": CLOSED, "open": OPEN, "still": STILL}
    return {
        "cell": recording.cell.name,
        "units": len(recording),
        "limits": limits,
        "layers": layers,
    }
