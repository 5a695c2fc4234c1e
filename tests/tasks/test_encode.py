"""Pairs as arrays: what is in them, and what is refused."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.inputs import InputError
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.encode import encode_pairs
from sparse_jax.tasks.pair import Pair
from tests.tasks import drawn

PAIRS = [
    Pair("x = 1\nprint('tree", 'x = 1\nprint("tree', "')\n", '")\n'),
    Pair('print("a', "print('a", '")\n', "')\n"),
]


def letters(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer of single letters, read letter by letter."""
    tokenizer.decoder = decoders.Fuse()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def refusal(pairs, tokenizer, context=32) -> str:
    with pytest.raises(InputError) as caught:
        encode_pairs(pairs, tokenizer, context, "quotes")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_completion_of_every_task_is_one_token(task, tokenizer):
    shifted = [pair for split in ("shifted", *task.shifts) for pair in drawn.pairs(task.name, split, 15)]
    pairs = [*drawn.pairs(task.name, "train", 60), *shifted]
    encoded = encode_pairs(pairs, tokenizer, 256, task.name)
    assert encoded.tokens.dtype == encoded.last.dtype == encoded.candidates.dtype == np.int32
    for row, pair in enumerate(pairs):
        members = ((pair.prompt, pair.answer, pair.wrong), (pair.counterfactual, pair.wrong, pair.answer))
        for member, (prompt, right, wrong) in enumerate(members):
            length = encoded.last[row, member] + 1
            ids = encoded.tokens[row, member]
            assert tokenizer.decode(ids[:length].tolist()) == prompt
            assert not ids[length:].any()
            right_id, wrong_id = encoded.candidates[row, member]
            assert tokenizer.encode(prompt + right).ids == [*ids[:length], right_id]
            assert tokenizer.encode(prompt + wrong).ids == [*ids[:length], wrong_id]


def test_arrays_of_two_pairs(small_tokenizer):
    encoded = encode_pairs(PAIRS, small_tokenizer, 32, "quotes")
    lengths = [[len(small_tokenizer.encode(t).ids) for t in (p.prompt, p.counterfactual)] for p in PAIRS]
    single, double = (small_tokenizer.token_to_id(mark + ")Ċ") for mark in "'\"")
    np.testing.assert_array_equal(encoded.last, np.array(lengths) - 1)
    assert encoded.tokens.shape == (2, 2, -(-np.max(lengths) // 8) * 8)
    np.testing.assert_array_equal(
        encoded.candidates,
        [[[single, double], [double, single]], [[double, single], [single, double]]],
    )


def test_the_length_is_a_multiple_of_eight_up_to_the_context(small_tokenizer):
    longest = int(encode_pairs(PAIRS, small_tokenizer, 32, "quotes").last.max()) + 1
    assert longest % 8
    assert encode_pairs(PAIRS, small_tokenizer, longest, "quotes").tokens.shape[-1] == longest


def test_a_completion_of_several_tokens_is_shown_with_its_neighbors(small_tokenizer):
    message = refusal([Pair("x = [1", "x = (1", "]zz", ")zz")], small_tokenizer)
    assert message.startswith("quotes: completion ']zz' after 'x = [1' is not one token of its own")
    assert "']', 'z', 'z'" in message
    message = refusal([Pair("for x", "while x", " inn", ":\n")], small_tokenizer)
    assert "near: ' in'" in message


def test_a_completion_that_changes_the_prompts_last_token_is_refused(small_tokenizer):
    """`self.nam` + `e` reads as other tokens than its halves."""
    message = refusal([Pair("self.value = value", "self.count = valu", "\n", "e")], small_tokenizer)
    assert "completion 'e'" in message and "' value'" in message


def test_a_prompt_longer_than_the_context_is_refused(small_tokenizer):
    length = len(small_tokenizer.encode(PAIRS[0].prompt).ids)
    message = refusal(PAIRS, small_tokenizer, context=length - 1)
    assert f"a prompt of {length} tokens" in message and f"at most the context, {length - 1}" in message


@pytest.mark.parametrize("end", [{}, {END_OF_TEXT: 0}, {END_OF_TEXT: 3}, {END_OF_TEXT: 50256}])
def test_the_end_of_text_may_have_any_id_or_none(end):
    ids = [i for i in range(5) if i not in end.values()][:4]
    words = Tokenizer(models.WordLevel({**dict(zip("xyab", ids)), **end}, unk_token="x"))
    encoded = encode_pairs([Pair("x", "y", "a", "b")], letters(words), 8, "letters")
    assert encoded.tokens[0, :, 0].tolist() == ids[:2] and not encoded.last.any()
    assert encoded.candidates[0].tolist() == [ids[2:], ids[:1:-1]]


def test_a_first_token_of_a_post_processor_is_not_added():
    words = letters(Tokenizer(models.WordLevel({"x": 0, "y": 1, "a": 2, "b": 3, "[S]": 4}, unk_token="x")))
    words.post_processor = processors.TemplateProcessing("[S] $A", special_tokens=[("[S]", 4)])
    assert words.encode("x").ids == [4, 0]
    encoded = encode_pairs([Pair("x", "y", "a", "b")], words, 8, "letters")
    assert encoded.tokens[0, :, 0].tolist() == [0, 1] and not encoded.last.any()


def test_a_tokenizer_that_loses_text_is_refused():
    words = Tokenizer(models.WordLevel({END_OF_TEXT: 0, "x": 1, "?": 2}, unk_token="?"))
    message = refusal([Pair("y", "x", "x", "?")], words)
    assert message.startswith("tokenizer: quotes: 'y' comes back as '?'; valid: a tokenizer that can")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "quotes: 0 pairs; valid: at least one pair"),
        ([Pair("x", "x", "a", "b")], "quotes: prompt and counterfactual are both 'x'"),
        ([Pair("x", "y", "a", "a")], "quotes: answer and wrong are both 'a'"),
        ([Pair("", "y", "a", "b")], "quotes: prompt is empty"),
    ],
)
def test_pairs_that_ask_nothing_are_refused(pairs, message, small_tokenizer):
    assert refusal(pairs, small_tokenizer).startswith(message)


def test_a_tokenizer_that_loses_an_answer_is_refused():
    words = letters(Tokenizer(models.WordLevel({"x": 0, "y": 1, "a": 2, "?": 3}, unk_token="?")))
    for pair in (Pair("x", "y", "a", "b"), Pair("x", "y", "b", "c")):
        message = refusal([pair], words)
        assert message.startswith("tokenizer: quotes: 'yb' comes back as 'y?'"), message
    words.normalizer = normalizers.Lowercase()
    assert "'yA' comes back as 'ya'" in refusal([Pair("x", "y", "A", "a")], words)
