"""No task gives its answer away; a task that does is found out."""

import numpy as np
import pytest

from sparse_jax.data.programs.holdout import held_out
from sparse_jax.data.simple_python import programs
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.encode import EncodedPairs
from tests.tasks.leakage import leaks

PAIRS = 2000
HELD_OUT = PAIRS // 2


# every third in the gate: what they share (names, layout, splits) is seen by any
CHOSEN = [
    pytest.param(task, id=name, marks=[pytest.mark.slow] if number % 3 else [])
    for number, (name, task) in enumerate(TASKS.items())
]


@pytest.mark.parametrize("task", CHOSEN)
def test_no_task_tells_its_answer_by_context_or_layout(task, small_tokenizer):
    found = leaks(task.encode("train", PAIRS, 0, small_tokenizer, 256))
    assert found["context"] <= 0.5 + 4 * 0.5 / np.sqrt(HELD_OUT)
    assert found["layout"] <= 0.5 + 4 * 0.5 / np.sqrt(2 * HELD_OUT)


def planted(length, context) -> EncodedPairs:
    """Token 9 decides for answer 1 and token 8 for answer 2; `length` and `context` may tell as well."""
    rng = np.random.default_rng(0)
    tokens, last, candidates = np.zeros((400, 2, 40), np.int32), [], []
    for row in range(400):
        first = rng.integers(2)
        answers = (1, 2) if first else (2, 1)
        common = [context(answers[0]), *rng.integers(3, 6, rng.integers(5, 12))]
        texts = [[*common, *[6] * length(answer), 10 - answer] for answer in answers]
        for member, text in enumerate(texts):
            tokens[row, member, : len(text)] = text
        last.append([len(text) - 1 for text in texts])
        candidates.append([answers, answers[::-1]])
    return EncodedPairs(tokens, np.array(last), np.array(candidates))


def test_a_planted_leak_is_found():
    clean = leaks(planted(lambda answer: 1, lambda first: 7))
    assert 0.35 < clean["context"] < 0.65 and clean["layout"] == 0.5
    longer = leaks(planted(lambda answer: 8 * answer, lambda first: 7))
    assert longer["layout"] > 0.9 and longer["context"] < 0.65
    told = leaks(planted(lambda answer: 1, lambda first: 10 + first))
    assert told["context"] > 0.95 and told["layout"] == 0.5


def test_no_test_prompt_stands_in_the_generated_programs():
    """A prompt begins with a whole line: only where a program's line ends so can it occur at all."""
    texts = list(programs(seed=0, count=3000))
    lines = {line for text in texts for line in text.split("\n")}
    assert not any(map(held_out, lines))
    endings = {line[start:] for line in lines for start in range(len(line))}
    text = "\n".join(texts)
    for task in TASKS.values():
        for seed in (0, 1):
            for pair in task.pairs("test", 250, seed):
                for prompt in (pair.prompt, pair.counterfactual):
                    assert held_out(prompt.partition("\n")[0])
                    if prompt.partition("\n")[0] in endings:
                        assert prompt not in text
