"""A pair of prompts with opposite answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """After `prompt` the next token is `answer`, not `wrong`; after `counterfactual` it is `wrong`."""

    prompt: str
    counterfactual: str
    answer: str
    wrong: str
