"""Pairs as token arrays, checked: every completion is one token after its prompt."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.data.tokenizer import encode_texts
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import check_ids
from sparse_jax.tasks.pair import Pair, check_pair

_MULTIPLE = 8  # lengths are rounded up, so that few different shapes are ever compiled
_PAD = 0  # any id serves: no result depends on what stands behind a prompt


class EncodedPairs(NamedTuple):
    """P pairs as arrays; member 0 is the prompt, member 1 the counterfactual.

    tokens: int32 [P, 2, T], padded on the right. last: int32 [P, 2], the index of each member's last token.
    candidates: int32 [P, 2, 2], the right and then the wrong next token of each member.
    """

    tokens: np.ndarray
    last: np.ndarray
    candidates: np.ndarray

    def flat(self) -> "Prompts":
        """All members one after the other, each a prompt of its own."""
        two = self.candidates.reshape(-1, 2)
        return Prompts(self.tokens.reshape(-1, self.tokens.shape[-1]), self.last.reshape(-1), two)


class Prompts(NamedTuple):
    """B prompts: tokens [B, T], the index of the last token [B], right and wrong next token [B, 2]."""

    tokens: np.ndarray
    last: np.ndarray
    candidates: np.ndarray


def encode_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer, context: int, task_name: str) -> EncodedPairs:
    """Encodes `pairs`; T is the longest prompt rounded up to a multiple of 8, but at most `context`.

    Raises InputError if there are no pairs, a pair's members or answers are equal, a prompt is longer
    than `context` tokens, or a completion is not one token after either prompt; and for a tokenizer
    that loses characters.
    """
    if not pairs:
        raise InputError(f"{task_name}: 0 pairs; valid: at least one pair")
    for pair in pairs:
        check_pair(pair, task_name)
    prompts = [text for pair in pairs for text in (pair.prompt, pair.counterfactual)]
    prompt_ids = encode_texts(tokenizer, prompts)
    _check_nothing_lost(tokenizer, prompts, prompt_ids, task_name)
    longest = max(map(len, prompt_ids))
    if longest > context:
        prompt = prompts[[len(ids) for ids in prompt_ids].index(longest)]
        raise InputError(
            f"{task_name}: a prompt of {longest} tokens, {prompt!r}; valid: at most the context, {context}"
        )
    answers = _completion_ids(tokenizer, [pair.answer for pair in pairs], prompts, prompt_ids, task_name)
    wrongs = _completion_ids(tokenizer, [pair.wrong for pair in pairs], prompts, prompt_ids, task_name)
    right_wrong = np.stack([answers, wrongs], axis=-1)
    padded = min(-(-longest // _MULTIPLE) * _MULTIPLE, context)
    tokens = np.full((len(prompts), padded), _PAD, np.int32)
    for row, ids in zip(tokens, prompt_ids, strict=True):
        row[: len(ids)] = ids
    return EncodedPairs(
        tokens=tokens.reshape(len(pairs), 2, padded),
        last=np.array([len(ids) - 1 for ids in prompt_ids], np.int32).reshape(-1, 2),
        candidates=np.stack([right_wrong, right_wrong[:, ::-1]], axis=1),
    )


def check_pairs(config: ModelConfig, pairs: EncodedPairs) -> None:
    """Raises InputError for pairs with tokens that the model does not have, of a larger vocabulary."""
    check_ids(config, pairs.tokens, "pairs")
    check_ids(config, pairs.candidates, "pairs: answers")


def _check_nothing_lost(
    tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[list[int]], task_name: str
) -> None:
    for text, back in zip(texts, tokenizer.decode_batch(list(ids), skip_special_tokens=False)):
        if back != text:
            raise InputError(
                f"tokenizer: {task_name}: {text!r} comes back as {back!r}; "
                "valid: a tokenizer that can represent every text"
            )


def _completion_ids(
    tokenizer: Tokenizer,
    completions: list[str],
    prompts: list[str],
    prompt_ids: list[list[int]],
    task_name: str,
) -> np.ndarray:
    """The token of each pair's completion, int32 [P], the same after both of its prompts."""
    doubled = [text for text in completions for _ in range(2)]
    wholes = [prompt + text for prompt, text in zip(prompts, doubled, strict=True)]
    whole_ids = encode_texts(tokenizer, wholes)
    for prompt, text, before, whole in zip(prompts, doubled, prompt_ids, whole_ids, strict=True):
        if whole[:-1] != before:
            raise InputError(_several_tokens(tokenizer, prompt, text, before, whole, task_name))
    # prompts lose nothing, as was checked before: one text for each completion is enough
    once = {text: (whole, ids) for text, whole, ids in zip(doubled, wholes, whole_ids)}
    checked = list(once.values())
    _check_nothing_lost(tokenizer, [whole for whole, _ in checked], [ids for _, ids in checked], task_name)
    return np.array([whole[-1] for whole in whole_ids[::2]], np.int32)


def _several_tokens(
    tokenizer: Tokenizer, prompt: str, completion: str, before: list[int], whole: list[int], task_name: str
) -> str:
    """Says how prompt and completion tokenize around their seam, and which tokens are like the completion."""
    same = next((i for i, (a, b) in enumerate(zip(before, whole)) if a != b), min(len(before), len(whole)))
    start = min(same, len(before) - 1)
    pieces = [tokenizer.decode([token], skip_special_tokens=False) for token in whole[start:]]
    texts = {tokenizer.decode([token]) for token in tokenizer.get_vocab().values()}
    close = difflib.get_close_matches(completion, sorted(texts - {""}), n=5, cutoff=0.5)
    near = ", ".join(map(repr, close)) or "no token is like it"
    return (
        f"{task_name}: completion {completion!r} after {prompt[-20:]!r} is not one token of its own, "
        f"the text is read as {pieces}; valid: one token of the vocabulary; near: {near}"
    )
