"""Lists the tasks, shows some of their pairs, or measures a model on them.

python -m experiments.tasks --list
python -m experiments.tasks --show=for_while -n 5 [--model=runs/quickstart/sparse]
python -m experiments.tasks --model=runs/quickstart/sparse --output=rows.jsonl
"""

import os
import sys

from absl import flags

from experiments import command
from experiments.flag_types import names_flag, path_flag
from sparse_jax.ablation.score import format_tasks, measure_tasks
from sparse_jax.files import json_lines, require_writable, write_whole
from sparse_jax.inputs import InputError, require
from sparse_jax.models.formats import load_model
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.find import FORMS, find_task
from sparse_jax.tasks.show import characters, list_tasks, show_pairs, tokens_of

LIST = flags.DEFINE_bool("list", False, "every task with what it is about and its completions")
SHOW = flags.DEFINE_string("show", None, f"a task whose pairs to show: {FORMS}")
NUMBER = flags.DEFINE_integer("n", 5, "how many pairs to show", 1, 10_000)
MODEL = path_flag("model", None, "the model: a training run, or any other form")
NAMES = names_flag("tasks", list(TASKS), f"the tasks to measure, each {FORMS}")
SPLIT = flags.DEFINE_string(
    "split", "test", "train, validation, test, shifted, or a kind of shift: words, nesting, distractors"
)
PAIRS = flags.DEFINE_integer("pairs", 256, "how many pairs of each task to measure on", 1, 100_000)
SEED = flags.DEFINE_integer("seed", 0, "of the pairs")
OUTPUT = path_flag("output", None, "where the rows go as JSON lines")
UNUSED = {
    "list": (SHOW, NUMBER, MODEL, NAMES, SPLIT, PAIRS, SEED, OUTPUT),
    "show": (NAMES, PAIRS, OUTPUT),
    "model": (NUMBER,),
}


def main() -> None:
    """Lists, shows or measures, as the flags say."""
    if not LIST.value and SHOW.value is None and MODEL.value is None:
        raise InputError("--list, --show or --model: missing; valid: one of them")
    mode = "list" if LIST.value else "model" if SHOW.value is None else "show"
    for flag in UNUSED[mode]:
        require(not flag.present, f"--{flag.name}", flag.value, f"none with --{mode}")
    if mode == "list":
        print(list_tasks(TASKS.values()))
    elif mode == "show":
        pairs = find_task(SHOW.value).pairs(SPLIT.value, NUMBER.value, SEED.value)
        cut = characters if MODEL.value is None else tokens_of(load_model(MODEL.value).require_tokenizer())
        print(show_pairs(pairs, cut, sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    else:
        tasks = {name: find_task(name) for name in NAMES.value}
        require(len(tasks) > 0, "--tasks", NAMES.value, f"one or more, each {FORMS}")
        if OUTPUT.value is not None:
            require_writable(OUTPUT.value)
        model = load_model(MODEL.value)
        wanted = (SPLIT.value, PAIRS.value, SEED.value, model.require_tokenizer(), model.config.context)
        rows = measure_tasks(model, {name: task.encode(*wanted) for name, task in tasks.items()}, SPLIT.value)
        print(format_tasks(rows))
        if OUTPUT.value is not None:
            write_whole(OUTPUT.value, json_lines(rows))


if __name__ == "__main__":
    command.run(main)
