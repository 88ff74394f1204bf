"""Several models as one: what `mix` gives has the methods of a model."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from charlstm.api import AdaptingModel, LanguageModel
from charlstm.errors import UsageError
from charlstm.nn.mixture import Mixture
from charlstm.nn.model import Model
from charlstm.scoring.mixed import MixedScorer
from charlstm.scoring.scorers import Scorer


class MixedModel(LanguageModel):
    """Models over one vocabulary as one. The probability of a unit is the mean of theirs; all else,
    such as settings and how often a unit occurs, is as in the first of them."""

    def __init__(self, members: Sequence[LanguageModel], models: Sequence[Model]) -> None:
        super().__init__(members[0].checkpoint)
        self.config, self.standard_input = members[0].config, members[0].standard_input
        self.members, self.model = members, Mixture(models)

    @cached_property
    def scorer(self) -> Scorer:
        """The mean of what the members have for scorers: they may adapt."""
        return MixedScorer([member.scorer for member in self.members])

    def adapting(self, **options: Any) -> AdaptingModel:
        """Raises `UsageError`: each model adapts by itself, and is mixed then."""
        raise UsageError("a mixture does not adapt itself; mix models that do")


def mix(members: Sequence[LanguageModel], names: Sequence[str] = ()) -> MixedModel:
    """Several models as one, whose probabilities are the mean of theirs. They may have different
    sizes and cells, but must have the same units in the same order, and the same normal form.

    Settings are those of the first as they are now. `names` are what errors call the models.
    Raises `UsageError` where there are fewer than two, or one does not go with the first.
    """
    if len(members) < 2:
        raise UsageError("a mixture is of two models or more")
    names = names or [f"model {n}" for n in range(1, len(members) + 1)]
    models: list[Model] = []
    for member, name in zip(members, names, strict=True):
        why = _difference(members[0], member)
        if why:
            raise UsageError(f"{names[0]} and {name} cannot be mixed: {why}")
        if not isinstance(member.model, Model):
            raise UsageError(f"{name} is a mixture; mix the models that it is made of")
        models.append(member.model)
    return MixedModel(list(members), models)


def _difference(one: LanguageModel, other: LanguageModel) -> str | None:
    """Why two models have no vocabulary in common."""
    v, w = one.vocabulary, other.vocabulary
    if v.unit != w.unit:
        return f"one is of {v.name}s, the other of {w.name}s"
    if not v.has_units_of(w):
        return f"their vocabularies are not equal ({len(v):,} and {len(w):,} {v.name}s)"
    if v.normalize != w.normalize:
        return f"their normal forms are not equal ({v.normalize} and {w.normalize})"
    return None
