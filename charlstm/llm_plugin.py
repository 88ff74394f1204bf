"""A model for the command `llm` (https://llm.datasette.io): `llm -m charlstm "The lamp"`.

It is the model that `charlstm sample` reads. The prompt is the seed, and what comes back is its
continuation, character by character. `pip install 'charlstm[llm]'` installs both.
"""

import os
from collections.abc import Iterator
from typing import Any

import llm
from pydantic import Field

from charlstm.errors import CharLSTMError


class CharLSTM(llm.Model):
    """The model in `$CHARLSTM_MODEL`, or else in charlstm.npz."""

    model_id = "charlstm"
    can_stream = True

    class Options(llm.Options):
        """Keys of the configuration's section `sample`, and the seed of the random numbers."""

        temperature: float | None = Field(
            None, description="Below 1 safer, above 1 wilder; 0 takes the likeliest."
        )
        length: int | None = Field(None, description="Characters, bytes or words to generate.")
        rng_seed: int | None = Field(None, description="The same number gives the same text.")

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str]:
        """The continuation of a prompt, in pieces. What came before in a conversation is not read.
        Raises `llm.ModelError` with the line that `charlstm` would print."""
        from charlstm.api import load

        options = prompt.options.model_dump(exclude_none=True)
        try:
            model = load(os.environ.get("CHARLSTM_MODEL") or "charlstm.npz")
            yield from model.sample(prompt.prompt, **options)
        except CharLSTMError as e:
            raise llm.ModelError(str(e)) from None


@llm.hookimpl
def register_models(register: Any) -> None:
    """What `llm` calls."""
    register(CharLSTM())
