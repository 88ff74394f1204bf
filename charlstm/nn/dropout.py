"""What is left out at random while training, and where the random numbers come from."""

from dataclasses import dataclass

import numpy as np

from charlstm.nn.arrays import Array, DTypeLike, empty, items_per_block


@dataclass(frozen=True)
class Drops:
    """What is left out at random while training, as shares from 0 to below 1."""

    dropout: float = 0.0  # of the values that enter a layer with dense input, or the output
    variational: bool = False  # whether these are the same in all steps of a segment
    weight_drop: float = 0.0
    """Of the recurrent weights Wh, the same in all steps (S. Merity, N. Keskar, R. Socher,
    Regularizing and optimizing LSTM language models, 2018)."""
    input_drop: float = 0.0  # of the characters that are read; each then counts as unknown …
    unknown: int = -1  # … and has this id: that of `<unk>`, where there is such an entry


KEEP_ALL = Drops()


@dataclass(frozen=True)
class Draws:
    """Where the random numbers of a segment come from: from where it stands in the run.

    A run's masks must be the same whichever process makes them, again by another one if that is
    killed, and after a resume; so there is no generator that is drawn from in turn, and no state
    to keep. Philox (J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) turns
    a key and a counter of 256 bits into random bits without any history. The key is the seed of
    the run, and the counter begins at (0, place, stream, step): each place in the network, group
    of streams and step has 2^64 blocks of numbers of its own, which no other one touches.
    """

    seed: int
    step: int = 0  # steps of training before this one
    stream: int = 0  # the first of the streams, counted over all ranks

    def generator(self, place: int) -> np.random.Generator:
        """The numbers of one place in the network: 0 are the characters, 1 + 2k the recurrent
        weights of layer k, 2 + 2k what enters it (or, above the last layer, the output)."""
        counter = np.array([0, place, self.stream, self.step], np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=self.seed))


class Dropout:
    """Inverted dropout (N. Srivastava et al., 2014): x times factors that are 0 with probability p
    and else 1 / (1 - p), which leaves the mean as it was. Without draws, or with p = 0, x."""

    def __init__(
        self, p: float, place: int, shape: tuple[int, ...], dtype: DTypeLike, shared: bool = False
    ) -> None:
        """For x of a `shape`, or with fewer rows; the `place` is that of `Draws.generator`. If
        `shared`, all rows have the same mask: variational dropout (Y. Gal, Z. Ghahramani, A
        theoretically grounded application of dropout in recurrent neural networks, 2016)."""
        self.p, self.place = p, place
        rows = shape[0] if p else 0
        self.out = empty((rows, *shape[1:]), dtype)
        self.mask = empty((min(rows, 1) if shared else rows, *shape[1:]), dtype)
        self.stays = np.empty(min(items_per_block(1, dtype), self.mask.size), bool)
        self.factor = np.array(1.0 / (1.0 - p), dtype)
        self.factors: Array | None = None
        """The mask of the last `forward`; None where nothing was left out."""

    def forward(self, x: Array, draws: Draws | None) -> Array:
        """x * mask, with the mask of these draws, in memory of its own."""
        if draws is None or not self.p:
            self.factors = None
            return x
        self.factors = self.draw(draws.generator(self.place), len(x))
        return np.multiply(x, self.factors, out=self.out[: len(x)])

    def backward(self, dx: Array) -> None:
        """In place: dx * mask, by the last `forward`."""
        if self.factors is not None:
            np.multiply(dx, self.factors, out=dx)

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """The first n rows of the mask, or as many as there are, drawn anew."""
        mask = self.mask[:n]
        flat, block = mask.reshape(-1), len(self.stays)
        for at in range(0, len(flat), block):
            part = flat[at : at + block]
            stays = self.stays[: len(part)]
            rng.random(None, part.dtype, part)
            np.greater_equal(part, self.p, out=stays)
            np.multiply(stays, self.factor, out=part)
        return mask


def drop_characters(ids: Array, drops: Drops, draws: Draws | None) -> Array:
    """The ids (T, B), with those of these draws made unknown; without draws as they are."""
    if draws is None or not drops.input_drop:
        return ids
    dropped = draws.generator(0).random(ids.shape) < drops.input_drop
    return np.where(dropped, drops.unknown, ids)
