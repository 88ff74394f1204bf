"""Where a run of training stands: typed values, read strictly from a checkpoint's metadata."""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, NamedTuple, Self, get_args, get_origin, get_type_hints

import numpy as np

from charlstm.storage.archive import damaged


class TextIdentity(NamedTuple):
    """What a corpus is recognised by: a digest, and the units trained on and held out."""

    sha256: str
    train: int
    valid: int


NO_TEXT = TextIdentity("0" * 64, 1, 0)
"""That of a model that was imported, until it is trained on a text."""


class Since(NamedTuple):
    """What was trained on since the last evaluation."""

    nats: float
    units: int


class Score(NamedTuple):
    """The held-out loss after a step, in nats per unit."""

    step: int
    nats: float


class Evaluated(NamedTuple):
    """An evaluation on the way: losses in nats per unit."""

    step: int
    train: float
    valid: float


class Return(NamedTuple):
    """A return to a good state: the step that diverged, what showed it, the step of that state."""

    step: int
    what: str
    to: int


LATER = frozenset(("environment", "setbacks", "final", "rollbacks", "adapted"))
"""Keys that files of older versions lack. Their values are the defaults; setbacks are counted."""


@dataclass(kw_only=True)
class Progress:
    """Where a run stands after a step, by default before the first one. The order of the fields is
    that of the file."""

    corpus: TextIdentity
    environment: dict[str, str] = field(default_factory=dict)
    """See `charlstm.training.resume.environment`."""
    ranks: int
    step: int = 0  # steps done
    position: int = 0  # units read from each stream
    random: Mapping[str, Any]  # state of NumPy's PCG64
    since: Since = field(default=Since(0.0, 0))
    best: Score | None = None  # the best evaluation on the way
    looks: int = 0  # evaluations since the best
    setbacks: int = 0  # evaluations in all that brought no new best
    history: list[Evaluated] = field(default_factory=list)
    final: Score | None = None  # the evaluation at the end of a run, where its weights are the best
    rollbacks: list[Return] = field(default_factory=list)
    adapted: int = 0  # units that the weights in use have learnt from while they were scored

    @classmethod
    def read(cls, document: Any) -> Self:
        """The progress in a checkpoint's metadata. Raises `BadArchive` for anything else."""
        types = _TYPES[cls]
        needed, known = types.keys() - LATER, types.keys()
        if not isinstance(document, dict) or not needed <= document.keys() <= known:
            raise damaged("progress is missing")
        document = {k: v for k, v in document.items() if k != "setbacks" or v is not None}
        values: dict[str, Any] = {}
        for name in (name for name in types if name in document):
            value = document[name]
            try:
                values[name] = _SPECIAL.get(name, _typed)(value, types[name])
            except ValueError:
                raise damaged(f"{name} is {value!r:.40}") from None
        losses = [row.valid for row in values["history"]]
        lowest = itertools.accumulate(losses, min)
        setbacks = sum(valid >= best for valid, best in zip(losses[1:], lowest, strict=False))
        return cls(**{"setbacks": setbacks, **values})

    def to_dict(self) -> dict[str, Any]:
        """What `read` takes, to be written as JSON."""
        return {**vars(self), "corpus": self.corpus._asdict()}

    def count_step(self, nats: float, units: int) -> None:
        """Add a step and what it was trained on."""
        self.step, self.final = self.step + 1, None
        self.since = Since(self.since.nats + nats, self.since.units + units)

    def copy(self) -> Self:
        """A copy that does not change with this one: only the history is changed in place."""
        return dataclasses.replace(self, history=self.history.copy())

    @property
    def in_use(self) -> Score | None:
        """The score of the weights in use; None before the first evaluation."""
        return self.final or self.best


# --- reading ------------------------------------------------------------------------------------
# Functions of a JSON value and its type; they raise `ValueError` where it is of another.


def is_count(value: Any, low: int = 0) -> bool:
    """Whether a JSON value is a whole number from `low` up that a float holds exactly."""
    return type(value) is int and low <= value < 2**53


def _checked(value: Any, good: bool) -> Any:
    if not good:
        raise ValueError
    return value


def _typed(value: Any, kind: Any) -> Any:
    if kind is int:
        return _checked(value, is_count(value))
    if kind is float:
        whole = type(value) is int and abs(value) < 2**53
        return float(_checked(value, whole or (type(value) is float and math.isfinite(value))))
    if kind is str:
        return _checked(value, isinstance(value, str) and len(value) < 1000)
    if get_origin(kind) is UnionType:  # with None
        return None if value is None else _typed(value, get_args(kind)[0])
    _checked(value, isinstance(value, list))
    if get_origin(kind) is list:
        return [_typed(row, get_args(kind)[0]) for row in value]
    types = _TYPES[kind].values()
    return kind(*(_typed(v, t) for v, t in zip(value, types, strict=True)))


def _identity(value: Any, kind: Any) -> TextIdentity:
    _checked(value, isinstance(value, dict) and value.keys() == {*TextIdentity._fields})
    identity: TextIdentity = _typed([value[name] for name in TextIdentity._fields], kind)
    known = re.fullmatch("[0-9a-f]{64}", identity.sha256) is not None and identity.train > 0
    return _checked(identity, known)  # type: ignore[no-any-return]


def _environment(value: Any, kind: Any) -> dict[str, str]:
    _checked(value, isinstance(value, dict) and all(name.isidentifier() for name in value))
    return {name: _typed(version, str) for name, version in value.items()}


def _random(value: Any, kind: Any) -> dict[str, Any]:
    """A state that a generator accepts, and returns unchanged."""
    bits = np.random.default_rng().bit_generator
    try:
        bits.state = value
    except Exception:  # of many kinds, all with one meaning
        raise ValueError from None
    same = json.dumps(bits.state, sort_keys=True) == json.dumps(value, sort_keys=True)
    return _checked(value, same and value["has_uint32"] in (0, 1))  # type: ignore[no-any-return]


_ROWS = (TextIdentity, Since, Score, Evaluated, Return)
_TYPES = {kind: get_type_hints(kind) for kind in (*_ROWS, Progress)}
"""The types of all fields; known beforehand, as reading a file must evaluate no code."""

_SPECIAL: dict[str, Callable[[Any, Any], Any]] = {
    "corpus": _identity,
    "environment": _environment,
    "random": _random,
    "ranks": lambda value, kind: _checked(value, is_count(value, 1)),
}
"""What reads a key whose type alone does not say enough."""
