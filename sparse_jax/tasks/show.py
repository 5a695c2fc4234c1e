"""Tasks and pairs as text for a terminal or HTML, with the deciding tokens and the answers highlighted."""

import html
from collections.abc import Callable, Iterable

from tokenizers import Tokenizer

from sparse_jax.inputs import InputError
from sparse_jax.tasks.pair import Pair, deciding
from sparse_jax.tasks.task import Task

# Splits a text into characters, or into a model's tokens.
Cut = Callable[[str], list[str]]

_DECIDING, _ANSWER, _PLAIN = "\x1b[33m", "\x1b[1;32m", "\x1b[0m"
_EXAMPLES = 4
_PAIRS = 3


def list_tasks(tasks: Iterable[Task]) -> str:
    """A line per task: name, family, what it is about, and what its prompts are completed with."""
    tasks, lines = list(tasks), []
    widths = [2 + max(map(len, column)) for column in zip(*((t.name, t.family, t.about) for t in tasks))]
    for task in tasks:
        completions = task.completions()
        more = " ..." if len(completions) > _EXAMPLES else ""
        examples = "  ".join(map(repr, completions[:_EXAMPLES]))
        cells = zip((task.name, task.family, task.about), widths)
        lines.append("".join(f"{text:<{width}}" for text, width in cells) + examples + more)
    return "\n".join(lines)


def show_pairs(pairs: Iterable[Pair], cut: Cut, color: bool) -> str:
    """Both prompts of every pair with the answer at the end.

    In color, what decides is yellow and the answer green; otherwise they are marked by ‹ › and « ». A newline
    in an answer is shown as \\n.
    """
    blocks = []
    for number, pair in enumerate(pairs, start=1):
        texts = (pair.prompt, pair.counterfactual)
        pieces = [cut(text) for text in texts]
        spans = deciding(*pieces)
        shown = [
            _member(part, span, due, color)
            for part, span, due in zip(pieces, spans, (pair.answer, pair.wrong))
        ]
        blocks.append(f"--- pair {number}\n" + "\n---\n".join(shown))
    return "\n\n".join(blocks)


def task_html(task: Task) -> str:
    """What a task is about, its splits, and three of its pairs with what decides and the answer highlighted.

    A control has the answers of its task here: it changes them when they are encoded.
    """
    facts = {"task": f"{task.name} ({task.family})", "about": task.about, "splits": ", ".join(task.splits)}
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(said)}</td></tr>" for name, said in facts.items())
    try:
        pairs = task.examples(_PAIRS)
    except InputError as error:  # of the user's function, or too few pairs
        return f"<table>{rows}</table><p>{html.escape(str(error))}</p>"
    texts = [
        f"<td><pre>{_html(pair.prompt, pair.counterfactual, pair.answer)}</pre></td>"
        f"<td><pre>{_html(pair.counterfactual, pair.prompt, pair.wrong)}</pre></td>"
        for pair in pairs
    ]
    head = "<tr><th>prompt and answer</th><th>counterfactual and its answer</th></tr>"
    return f"<table>{rows}</table><table>{head}{''.join(f'<tr>{cells}</tr>' for cells in texts)}</table>"


def _html(prompt: str, other: str, answer: str) -> str:
    span, _ = deciding(prompt, other)
    before, decides, after = map(html.escape, (prompt[: span.start], prompt[span], prompt[span.stop :]))
    decides = f"<mark>{decides}</mark>" if decides else ""
    return f"{before}{decides}{after}<b>{html.escape(repr(answer)[1:-1])}</b>"


def characters(text: str) -> list[str]:
    """Splits a text without a tokenizer."""
    return list(text)


def tokens_of(tokenizer: Tokenizer) -> Cut:
    """Splits a text as `tokenizer` does."""

    def cut(text: str) -> list[str]:
        # tokens that are parts of the same character have the same start, and are shown as one
        encoding = tokenizer.encode(text, add_special_tokens=False)
        starts = sorted({0, *(start for start, _ in encoding.offsets)})
        return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)])]

    return cut


def _member(pieces: list[str], span: slice, answer: str, color: bool) -> str:
    marks = ((_DECIDING, _PLAIN), (_ANSWER, _PLAIN)) if color else (("‹", "›"), ("«", "»"))
    before, decides, after = (
        "".join(part) for part in (pieces[: span.start], pieces[span], pieces[span.stop :])
    )
    (opening, closing), (start, end) = marks
    if decides:
        decides = f"{opening}{decides}{closing}"
    return f"{before}{decides}{after}{start}{repr(answer)[1:-1]}{end}"
