"""From logits to ids: temperature, cuts and the draw."""

import numpy as np

from charlstm.nn.arrays import Array

COLDEST = 1e-30
"""A temperature below which dividing by it would overflow, and nothing would change any more."""

MANY = 100
"""From this number of streams on, adding rows takes less time than `np.add.accumulate`, which adds
number by number."""


class Chooser:
    """Draws one of V units for each of K streams, with one uniform number for each.

    The distribution is softmax(logits / temperature), cut to the `top_k` likeliest (0: all) and
    then to the likeliest whose probabilities together reach `top_p`. Temperature 0 takes the
    likeliest, the first of equals. Works in float64: a sum that is 1 only in float32 has no
    business in a cumulative distribution. `plain` promises that the temperature is 1 and that
    the logits can be exponentiated, and the results added, as they are.
    """

    def __init__(
        self,
        K: int,
        V: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        plain: bool = False,
    ) -> None:
        self.temperature, self.plain = temperature, plain
        self.k, self.top_p = min(top_k or V, V), top_p
        self.cut = self.k < V or top_p < 1.0
        self.p, self.place = np.empty((V, K)), np.min_scalar_type(V)
        self.rows = list(zip(self.p[:-1], self.p[1:], strict=True)) if K >= MANY else []

    def __call__(self, logits: Array, numbers: Array, allowed: Array | None = None) -> Array:
        """Ids (K,) by logits (K, V), which are best the transpose of an array (V, K), and uniform
        numbers (K,). Units that are not `allowed` (K, V) have a probability of zero."""
        p, add = self.p, np.add
        self.weigh_(p, logits.T, None if allowed is None else np.ascontiguousarray(allowed.T))
        if not self.rows:
            add.accumulate(p, axis=0, out=p)
        for above, row in self.rows:
            add(above, row, row)
        # the first place whose sum exceeds the draw; a number below 1 times a total rounds to less
        # than the total, so a unit of probability zero is never drawn
        places: Array = add.reduce(p <= numbers * p[-1], axis=0, dtype=self.place)
        return places.astype(np.intp)

    def weigh_(self, p: Array, logits: Array, allowed: Array | None = None) -> None:
        """Fill p, (V, K) or (V,), with what the probabilities are in proportion to."""
        if self.plain:
            p[...] = logits
        else:  # the highest logit must be one that is allowed
            p[...] = logits if allowed is None else np.where(allowed, logits, -np.inf)
            if self.temperature == 0.0:
                units = np.arange(len(p)).reshape(-1, *[1] * (p.ndim - 1))
                p[...] = units == p.argmax(axis=0)
                return
            np.subtract(p, p.max(axis=0), out=p)
            np.divide(p, max(self.temperature, COLDEST), out=p)
        np.exp(p, p)
        if allowed is not None:
            np.multiply(p, allowed, out=p)
        if self.cut:
            cut_(p.reshape(len(p), -1), self.k, self.top_p)


def cut_(p: Array, k: int, top_p: float) -> None:
    """Put zeros in p (V, K) for all but the likeliest: k, or of these as many as it takes to
    reach the share `top_p` of their sum. Of equals, the first are likelier."""
    rising = p.T.copy()
    rising.sort()
    falling = rising[:, : -k - 1 : -1]  # (K, k)
    kept: Array = np.full(len(falling), k)
    if top_p < 1.0:
        cumulative = np.add.accumulate(falling, axis=1)
        before = cumulative - falling  # what stands ahead of each
        more = before[:, 1:] < top_p * cumulative[:, -1:]
        kept = 1 + np.add.reduce(more, axis=1, dtype=np.intp)
    least = falling[np.arange(len(falling)), kept - 1]
    stays = p >= least
    np.multiply(p, stays, out=p)
    surplus = np.add.reduce(stays, axis=0, dtype=np.intp) - kept  # equals that are too many
    for stream in np.flatnonzero(surplus):
        equals = np.flatnonzero(p[:, stream] == least[stream])
        p[equals[-surplus[stream] :], stream] = 0.0
