"""Characters a second in sampling one stream: charlstm and PyTorch on one thread each, interleaved.

Both draw character after character at temperature 0.8, each fed back, and turn ids into text: this
package through its public generator, PyTorch as such loops are written, with `nn.LSTMCell` (or
another cell), a linear layer, softmax and `multinomial` in inference mode.

    python tests/benchmarks/sample_speed.py --require 4
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import common  # first: one thread each, before NumPy is loaded
import numpy as np

from charlstm.corpus import Vocabulary
from charlstm.model import Model
from charlstm.sampling import generate

CHARACTERS = 2000
"""Of one text."""
TEMPERATURE = 0.8

Run = Callable[[], object]


def vocabulary(V: int) -> Vocabulary:
    """V printable characters, equally frequent."""
    return Vocabulary(np.arange(ord("!"), ord("!") + V, dtype=np.uint32), np.ones(V, np.int64))


def charlstm_text(cell: str, V: int, H: int) -> Run:
    """One text by this package."""
    model = Model(cell, V, H)
    model.initialise(np.random.default_rng(0))
    characters, rng, seed = vocabulary(V), np.random.default_rng(1), np.zeros(1, np.int32)

    def text() -> object:
        pieces = generate(model, characters, seed, rng, length=CHARACTERS, temperature=TEMPERATURE)
        written = "".join(piece.text for piece in pieces)
        assert len(written) == CHARACTERS
        return written

    return text


def torch_text(torch: Any, cell: str, V: int, H: int) -> Run:
    """One text by PyTorch."""
    torch.manual_seed(0)
    kind = {"rnn": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[cell]
    recurrent, linear, eye = kind(V, H), torch.nn.Linear(H, V), torch.eye(V)
    characters = vocabulary(V).characters

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def text() -> object:
        zero = torch.zeros(1, H)
        state: Any = (zero, zero) if cell == "lstm" else zero
        last, written = 0, []
        for _ in range(CHARACTERS):
            state = recurrent(eye[last : last + 1], state)
            logits = linear(state[0] if cell == "lstm" else state)
            last = torch.multinomial(torch.softmax(logits / TEMPERATURE, 1), 1).item()
            written.append(characters[last])
        return "".join(written)

    run: Run = text
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--require", type=float, default=4.0, help="least ratio of the bests")
    o = parser.parse_args()
    torch = common.torch_or_none()
    runs = {"charlstm": charlstm_text(o.cell, o.vocabulary, o.hidden)}
    if torch:
        runs["PyTorch"] = torch_text(torch, o.cell, o.vocabulary, o.hidden)
    work = dict.fromkeys(runs, float(CHARACTERS))
    rates = common.interleave(runs, work, rounds=o.rounds)
    print(
        f"{o.cell}, hidden {o.hidden}, vocabulary {o.vocabulary}, one stream, temperature 0.8, "
        "float32, one thread; characters/s\n"
    )
    rows = [[name, f"{rate.best:,.0f}", f"{rate.median:,.0f}"] for name, rate in rates.items()]
    print(common.table(["", "best", "median"], rows))
    if not torch:
        print("\nPyTorch is not installed: no ratio")
        return 0
    ratio = rates["charlstm"].best / rates["PyTorch"].best
    middle = rates["charlstm"].median / rates["PyTorch"].median
    print(f"\ncharlstm / PyTorch: {ratio:.2f} (bests), {middle:.2f} (medians)")
    return common.judge(ratio, o.require)


if __name__ == "__main__":
    raise SystemExit(main())
