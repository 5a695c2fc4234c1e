"""The twenty tasks of METHOD 5: a generator of program pairs for each, and a table by name."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sparse_jax.data.programs import branches, loops
from sparse_jax.data.programs.assignments import bind_comparison, bind_membership, bind_number, step, swap
from sparse_jax.data.programs.branches import if_only
from sparse_jax.data.programs.containers import dictionary, nested_list, word_list
from sparse_jax.data.programs.expressions import comparison, condition, digit, operand
from sparse_jax.data.programs.functions import lambda_line
from sparse_jax.data.programs.names import Scope
from sparse_jax.data.programs.opening import HANDLES, open_file, with_file
from sparse_jax.data.programs.strings import label, quote, report, say
from sparse_jax.data.programs.words import FILE_ENDINGS, READ_STEMS, SPEAKERS, WRITE_STEMS
from sparse_jax.inputs import require_choice
from sparse_jax.tasks.controls import CONTROLS, ControlTask
from sparse_jax.tasks.setting import Setting
from sparse_jax.tasks.shifts import SHIFT_SETTINGS, SHIFTS
from sparse_jax.tasks.surroundings import SETTINGS
from sparse_jax.tasks.task import DrawnTask, Member, Task, cut


def single_double_quote(draw: Setting) -> tuple[str, str]:
    """`print('low tree` ends with `')`, `print("low tree` with `")`."""
    before, pad = draw.place(draw.scope(), say, label)
    speaker, text = draw.rng.choice(SPEAKERS), draw.phrase()
    single, double = (f"{before}{pad}{speaker}({mark}{text}«{mark})\n»" for mark in "'\"")
    return single, double


def fstring_brace(draw: Setting) -> tuple[str, str]:
    """`print(f"low tree` continues with ` {`; without the f, the string ends."""
    names = draw.scope()
    before, pad = draw.place(names, say, report)
    speaker, text, mark = draw.rng.choice(SPEAKERS), draw.phrase(), quote(draw.rng)
    return (
        f"{before}{pad}{speaker}(f{mark}{text}« {{»{names.number}}}{mark})\n",
        f"{before}{pad}{speaker}({mark}{text}«{mark})\n»",
    )


def bracket_counting(draw: Setting) -> tuple[str, str]:
    """`rows = [[1, 2` closes with `]]`, `rows = [1, 2` with `]`; likewise for two lists in a list or not."""
    names = draw.scope()
    before, pad = draw.place(names, nested_list, _unmatched)
    target, inner = names.items, draw.elements()
    if draw.rng.random() < 0.3:
        target = f"{names.number}, {names.other}"
        inner = f"{inner}], [{digit(draw.rng)}, {digit(draw.rng)}"
    return (
        f"{before}{pad}{target} = [[{inner}«]]\n»",
        f"{before}{pad}{target} = [{inner}«]\n»",
    )


def _unmatched(rng: Random, names: Scope) -> list[str]:
    """A comment with a bracket that nothing closes."""
    return [f"# {names.text} [ {names.item}"]


def bracket_brace(draw: Setting) -> tuple[str, str]:
    """The first element of a dictionary is followed by a colon, that of a list by a comma."""
    names = draw.scope()
    before, pad = draw.place(names, dictionary, word_list)

    def number() -> str:
        return digit(draw.rng)

    mark, element = draw.rng.choice((('"', draw.noun), ('"', draw.noun), ("", number), ("", draw.variable)))
    first, second = element(), element()
    return (
        f"{before}{pad}{names.items} = {{{mark}{first}«{mark}:» {number()}}}\n",
        f"{before}{pad}{names.items} = [{mark}{first}«{mark},» {mark}{second}{mark}]\n",
    )


def set_or_string(draw: Setting) -> tuple[str, str]:
    """A name bound to `set()` continues with `.add`, one bound to `""` with ` +=`."""
    names = draw.scope()
    return _fill(draw, names, names.text)


def set_or_string_fixedvarname(draw: Setting) -> tuple[str, str]:
    """The same with one name, `current`, in every prompt."""
    return _fill(draw, draw.scope(), "current")


def _fill(draw: Setting, names: Scope, name: str) -> tuple[str, str]:
    before, pad = draw.place(names, _empty_set, _empty_text)
    lines, indent, element = draw.between(names), pad, names.number
    if not lines and draw.rng.random() < 0.67:
        lines, indent, element = [f"for {names.item} in {names.items}:"], f"{pad}    ", names.item
    between = "".join(f"{pad}{line}\n" for line in lines) + indent
    return (
        f"{before}{pad}{name} = set()\n{between}{name}«.add»({element})\n",
        f'{before}{pad}{name} = ""\n{between}{name}« +=» {element}\n',
    )


def _empty_set(rng: Random, names: Scope) -> list[str]:
    return [f"{names.text} = set()"]


def _empty_text(rng: Random, names: Scope) -> list[str]:
    return [f'{names.text} = ""']


def var_swap(draw: Setting) -> tuple[str, str]:
    """`x, y = y,` ends with the first name of the line; so does `y, x = x,`.

    Swaps are in functions, as in the generated programs; only shifted prompts have one under an if.
    """
    one, other = draw.answers(2)
    names = draw.scope(one, other)._replace(number=one, other=other)
    if draw.rng.random() < 0.5:
        names = names._replace(number=other, other=one)
    before, pad = draw.body(names, swap, bind_number)
    first, second = (
        f"{before}{pad}{left}, {right} = {right},« {left}»\n" for left, right in ((one, other), (other, one))
    )
    return first, second


def final_kwarg(draw: Setting) -> tuple[str, str]:
    """After a parameter with a default, the last one has a default too; otherwise the list closes."""
    names = draw.scope()
    start, pad, first = draw.above(_with_default, _without_default), "", ""
    if draw.rng.random() < 0.2:
        start, pad, first = f"{start}class {draw.class_name()}:\n", "    ", "self, "
    start += f"{pad}def {draw.function_name()}({first}{names.number}, {names.items}"
    body = f"{pad}    return {names.number}\n"
    return f"{start}=None, {names.other}«=None»):\n{body}", f"{start}, {names.other}«):\n»{body}"


def _with_default(rng: Random, names: Scope) -> list[str]:
    return [f"def {names.text}({names.number}, {names.items}=None):", f"    return {names.items}"]


def _without_default(rng: Random, names: Scope) -> list[str]:
    return [f"def {names.text}({names.number}, {names.items}):", f"    return {names.items}"]


def lambda_func(draw: Setting) -> tuple[str, str]:
    """`def price` opens its parameters, `lambda price` continues with a colon; at top level or in a class.

    At top level, both programs may contain the start of the lambda's line, `cost = `, which the other one
    completes with a number, so that the lambda's prompt is not always the longer one.
    """
    rng = draw.rng
    target, name = draw.distinct(2)
    start, pad, opening, close = draw.above(lambda_line, _with_default), "", "():\n", ""
    above = f"{target} = {digit(rng)}\n\n" if rng.random() < 0.5 else ""
    if rng.random() < 0.4:
        start, pad, opening, close = f"{start}class {draw.class_name()}:\n", "    ", "(self", "):\n"
        above = ""
    return (
        f"{start}{above}{pad}def {name}«{opening}»{close}{pad}    return 1\n",
        f"{start}{pad}{target} = lambda {name}«:» {name} + 1\n",
    )


def class_init(draw: Setting) -> tuple[str, str]:
    """`self.x =` is followed by the parameter ` x`; sometimes other fields were stored before."""
    rng = draw.rng
    one, other = draw.answers(2)
    extra = draw.distinct(rng.randrange(0, draw.fields_most - 1), one, other)
    parameters = [one, other, *extra]
    rng.shuffle(parameters)
    stored = "".join(f"        self.{field} = {field}\n" for field in extra)
    start = f"{draw.above(_other_class)}class {draw.class_name()}:\n"
    start += f"    def __init__(self, {', '.join(parameters)}):\n{stored}"
    first, second = (f"{start}        self.{name} =« {name}»\n" for name in (one, other))
    return first, second


def _other_class(rng: Random, names: Scope) -> list[str]:
    fields = (names.number, names.other)
    lines = [f"class {names.text.title().replace('_', '')}:", f"    def __init__(self, {', '.join(fields)}):"]
    return lines + [f"        self.{field} = {field}" for field in fields]


def if_ternary(draw: Setting) -> tuple[str, str]:
    """The condition of an if statement ends with a colon, that of a ternary with ` else`.

    In the other program, the words before the ternary's if are either missing or a separate line, so that the
    ternary's prompt is not always the longer one.
    """
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, branches.ternary, branches.if_only)
    test = condition(rng, names)
    above = f"{pad}{names.text} = {names.number}\n" if rng.random() < 0.6 else ""
    return (
        f"{before}{above}{pad}if {test}«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.text} = {names.number} if {test}« else» {operand(rng, names)}\n",
    )


def if_equals(draw: Setting) -> tuple[str, str]:
    """A name is compared after if and bound at the start of a line."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, branches.if_equal, bind_comparison)
    value = operand(rng, names)
    return (
        f"{before}{pad}if {names.number}« ==» {value}:\n{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.number}« =» {value}\n",
    )


def var_if(draw: Setting) -> tuple[str, str]:
    """A comparison after if is followed by a colon, and in an assignment by a newline."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, branches.if_only, bind_comparison)
    test = comparison(rng, names) if rng.random() < 0.8 else f"{names.item} in {names.items}"
    return (
        f"{before}{pad}if {test}«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{draw.common(*names)} = {test}«\n»",
    )


def else_elif(draw: Setting) -> tuple[str, str]:
    """Else is followed by a colon, elif by the name that the if compared."""
    rng, number = draw.rng, draw.answers(1)[0]
    names = draw.scope(number)._replace(number=number)
    before, pad = draw.place(names, branches.if_only, branches.if_else)
    body = f"\n{pad}    {step(rng, names)[0]}\n"
    start = f"{before}{pad}if {comparison(rng, names)}:{body}{pad}"
    return (
        f"{start}else«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{start}elif« {number}» == {operand(rng, names)}:{body}",
    )


def for_while(draw: Setting) -> tuple[str, str]:
    """`for price` continues with ` in`, `while price` with a colon."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, loops.for_each, loops.while_name)
    body = f"{pad}    {step(rng, names)[0]}\n"
    return (
        f"{before}{pad}for {names.item}« in» {names.items}:\n{body}",
        f"{before}{pad}while {names.item}«:\n»{body}",
    )


def enumerate_range(draw: Setting) -> tuple[str, str]:
    """Two loop variables iterate over `enumerate`, one over `range`."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, loops.for_enumerate, loops.for_range)
    index = loops.loop_index(rng, names)
    item = draw.common(*names, index)
    body = f"{pad}    {step(rng, names)[0]}\n"
    return (
        f"{before}{pad}for {index}, {item} in« enumerate»({names.items}):\n{body}",
        f"{before}{pad}for {index} in« range»({digit(rng)}):\n{body}",
    )


def indent_for(draw: Setting) -> tuple[str, str]:
    """The line after a for line is indented one level more, the line after an assignment as before.

    The tokenizer joins the last space of an indentation to the next word.
    """
    rng, names = draw.rng, draw.scope()
    flag = draw.common(*names)
    before, pad = draw.function(names, loops.for_each, bind_membership)
    return (
        f"{before}{pad}for {names.item} in {names.items}:\n«{pad}   » {step(rng, names)[0]}\n",
        f"{before}{pad}{flag} = {names.item} in {names.items}\n«{pad[1:]}» return {flag}\n",
    )


def while_return_true(draw: Setting) -> tuple[str, str]:
    """Inside a branch, the line after `while True:` is indented more, that after `return True` less."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.branch(names, loops.while_true, if_only)
    return (
        f"{before}{pad}while True:\n«{pad}   » {step(rng, names)[0]}\n",
        f"{before}{pad}return True\n«{pad[5:]}» return False\n",
    )


def with_as(draw: Setting) -> tuple[str, str]:
    """After the call, a with statement continues with ` as`, an assignment with a newline.

    The tokenizer joins a closing bracket and a newline after it, so the choice is already made at the
    bracket: `")` before ` as`, `")\\n` at the end of an assignment.
    """
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, with_file, open_file)
    handle = rng.choice(HANDLES)
    if rng.random() < 0.6:
        stems, mode = rng.choice(((READ_STEMS, "r"), (WRITE_STEMS, "w")))
        call, close = f'open("{rng.choice(stems)}{_ending(draw)}", "{mode}', '")'
    else:
        call, close = f"open({names.text}", ")"
    return (
        f"{before}{pad}with {call}«{close}» as {handle}:\n{pad}    {handle}.close()\n",
        f"{before}{pad}{handle} = {call}«{close}\n»",
    )


def with_open(draw: Setting) -> tuple[str, str]:
    """`input.txt` is opened to read, `output.txt` to write."""
    rng = draw.rng
    before, pad = draw.place(draw.scope(), with_file, open_file)
    handle, ending = rng.choice(HANDLES), _ending(draw)
    start, rest = (
        ("with open(", f'") as {handle}:\n{pad}    {handle}.close()\n')
        if rng.random() < 0.5
        else (f"{handle} = open(", '")\n')
    )
    to_read, to_write = (
        f'{before}{pad}{start}"{rng.choice(stems)}{ending}", "«{mode}»{rest}'
        for stems, mode in ((READ_STEMS, "r"), (WRITE_STEMS, "w"))
    )
    return to_read, to_write


def _ending(draw: Setting) -> str:
    """What follows the first word of a file's name: `_planets.txt`, or `.txt`."""
    middle = f"_{draw.plural(draw.noun())}" if draw.rng.random() < 0.6 else ""
    return f"{middle}.{draw.rng.choice(FILE_ENDINGS)}"


Generate = Callable[[Setting], tuple[str, str]]
_SETTINGS: dict[str, type[Setting]] = {**SETTINGS, **SHIFT_SETTINGS}


@dataclass(frozen=True, repr=False)
class BuiltInTask(DrawnTask):
    """A built-in task; besides the main splits it has `shifted`, with other names, lengths and depths, and
    splits for each kind of shift alone.

    `generate` draws two complete programs that differ only in what decides; in each, the token to be
    predicted is marked by « and ». A prompt's split is that of its first line (`data/programs/holdout.py`),
    so no training program contains the first line of a test prompt.
    """

    generate: Generate

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(_SETTINGS)

    @property
    def shifts(self) -> tuple[str, ...]:
        return tuple(SHIFTS)

    def draw(self, rng: Random, split: str) -> tuple[Member, Member]:
        one, other = self.generate(_SETTINGS[split](rng))
        return cut(one), cut(other)

    def belongs(self, prompt: str, split: str) -> bool:
        return _SETTINGS[split].accepts(prompt, split)


def _task(family: str, about: str, generate: Generate) -> BuiltInTask:
    return BuiltInTask(generate.__name__, family, about, generate)


_ALL = (
    _task("strings", "close a text with the quote that opened it", single_double_quote),
    _task("strings", "a brace appears only in an f-string", fstring_brace),
    _task("brackets", "close one bracket or two", bracket_counting),
    _task("brackets", "a colon in a dictionary, a comma in a list", bracket_brace),
    _task("variables", "a set is added to, a string grows", set_or_string),
    _task("variables", "the same, always named current", set_or_string_fixedvarname),
    _task("variables", "end a swap with its first name", var_swap),
    _task("definitions", "a last parameter with or without default", final_kwarg),
    _task("definitions", "what follows a name after def or lambda", lambda_func),
    _task("definitions", "copy the name of a stored field", class_init),
    _task("branches", "the end of an if or of a ternary's condition", if_ternary),
    _task("branches", "compare after if, bind at a line's start", if_equals),
    _task("branches", "the end of a comparison: if or assignment", var_if),
    _task("branches", "a colon after else, a condition after elif", else_elif),
    _task("loops", "what follows a name after for or while", for_while),
    _task("loops", "enumerate for two loop variables, range for one", enumerate_range),
    _task("loops", "indentation after a for line or an assignment", indent_for),
    _task("loops", "indentation after while True or return True", while_return_true),
    _task("files", "the end of a call of open: with or assignment", with_as),
    _task("files", "read or write, by the file's name", with_open),
)
TASKS: dict[str, BuiltInTask] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task `name`, or its control for "name.control".

    Raises InputError with the nearest names if there is no such task or control.
    """
    base, dot, control = name.partition(".")
    require_choice("task", base, TASKS)
    if not dot:
        return TASKS[base]
    require_choice(f"control of task {base!r}", control, CONTROLS)
    return ControlTask.of(TASKS[base], control)
