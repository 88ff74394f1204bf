"""Section 5: how long each gate is nearly closed, and nearly open.

After A. Karpathy, J. Johnson, L. Fei-Fei, Visualizing and understanding recurrent networks, 2015,
figure 4.
"""

from typing import Any

import numpy as np

from charlstm.report.recording import Recording, is_gate

CLOSED, OPEN = 0.1, 0.9
"""Below and above these a gate counts as closed and as open, as in the paper."""


def gates(recording: Recording) -> dict[str, Any]:
    """For each layer and gate, by unit, the share of the text in which it is closed and in which it
    is open."""
    layers: list[dict[str, Any]] = []
    for place, values in recording.values.items():
        if place.layer == len(layers):
            layers.append({})
        if is_gate(recording.cell, place.quantity):
            closed, open_ = (values < CLOSED).mean(axis=0), (values > OPEN).mean(axis=0)
            shares = {"closed": closed, "open": open_}
            layers[place.layer][place.quantity] = {
                what: np.round(share, 3).tolist() for what, share in shares.items()
            }
    limits = {"closed": CLOSED, "open": OPEN}
    return {
        "cell": recording.cell.name,
        "units": len(recording),
        "limits": limits,
        "layers": layers,
    }
