"""The functions to use in a notebook (`import sparse_jax as sj`): a thin layer over the rooms below.

Examples use the models in experiments/results/small of a checkout.
"""

import dataclasses
import functools
import math
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.judged import circuit_scores
from sparse_jax.ablation.score import Score, measure_tasks
from sparse_jax.circuits.applied import check_circuit, found_for
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.graph import load_circuit as read_circuit
from sparse_jax.circuits.interventions import Ablate, intervention
from sparse_jax.circuits.node_list import is_node_list, read_node_list
from sparse_jax.circuits.viz_data import read_viz_data, released_circuit
from sparse_jax.copies import on_this_machine
from sparse_jax.data.tokenizer import encode_texts, end_of_text
from sparse_jax.faithfulness.again import ROUNDS
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.faithfulness.scorecard import Scorecard
from sparse_jax.files import user_path
from sparse_jax.inputs import (
    InputError,
    from_mapping,
    require,
    require_utf8,
    whole,
    whole_numbers,
    whole_seed,
)
from sparse_jax.model import generate as sampling
from sparse_jax.model.forward import check_ids, forward
from sparse_jax.model.hooks import Patch
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.runtime.advice import advise
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.find import Spec, as_task
from sparse_jax.tasks.metrics import METRICS
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import task_data
from sparse_jax.training.config import RunConfig
from sparse_jax.training.loop import train as train_run
from sparse_jax.trees import Arrays

Text = str | Sequence[str] | np.ndarray | jax.Array


def train(config: RunConfig, workdir: str | os.PathLike) -> Model:
    """Trains a model in `workdir`, or resumes there; gives the same bits as `python -m experiments.train`.

    config: for example from `sj.presets`. Raises InputError, before any work, for an invalid config or the
    workdir of another run.

    >>> import tempfile
    >>> import sparse_jax as sj
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     changes = {"data.directory": f"{folder}/data", "training.steps": 1}
    ...     config = sj.presets.tiny(data=["sparse_jax/data"], n_layers=1, **changes)
    ...     sj.train(config, f"{folder}/run")
    Model(architecture: 1 layer, 32 wide, ... at step 1, fingerprint: ...)
    """
    require_settings()
    require(isinstance(config, RunConfig), "config", config, "a RunConfig, such as sj.presets.tiny()")
    advise()
    return train_run(config, workdir)


def run(
    model: Model,
    text: Text,
    *,
    capture: str | Sequence[str] = (),
    ablate: Ablate = (),
    add: Arrays | None = None,
    patch: Mapping[str, Patch] | None = None,
    circuit: Circuit | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs the model -> (float32 logits [B, T, V], captured values by site, [L, B, T, N]).

    text: a text, several texts (padded on the right to the longest, so logits after the end of a text are
    meaningless), or token ids [T] or [B, T]. ablate: nodes or sites by name ("1.mlp_neuron.17", "0.attn_in",
    "q"), ablated to their mean over training text, or a mapping from names to "mean" or "zero". add: values
    to add, by site or "layer.site". patch: by site. circuit: everything outside of it is ablated as when it
    was found, and its frozen norms and calibration are applied.

    Raises InputError for names, shapes and tokens that do not fit the model, and for a circuit of another
    model.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> logits, acts = sj.run(model, "for x", capture=("q",))
    >>> logits.shape, acts["q"].shape
    ((1, 2, 1024), (2, 1, 2, 256))
    """
    require_settings()
    tokens = token_ids(model, text)
    require(isinstance(capture, Iterable), "capture", capture, "names of sites")
    capture = (capture,) if isinstance(capture, str) else tuple(capture)
    params, hooks, calibrate = intervention(model, tokens, ablate, add, patch, circuit)
    hooks = dataclasses.replace(hooks, capture=capture)
    logits, captured = _compiled_forward(model.config)(params, tokens, hooks)
    return calibrate(logits), captured


def generate(
    model: Model,
    prompt: str = "",
    tokens: int = 64,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
    ablate: Ablate = (),
    add: Arrays | None = None,
    patch: Mapping[str, Patch] | None = None,
    circuit: Circuit | None = None,
) -> str:
    """The prompt followed by at most `tokens` tokens that the model generates.

    Without a prompt the model begins a new text, after its tokenizer's end of text, which is then part of
    what is returned. temperature 0 takes the most likely token. ablate, add, patch and circuit as in `run`,
    except that additions and patches are the same at every position, a circuit's calibration is not used, and
    one with frozen norms is refused. Raises InputError as `run` does, and past the model's context.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> sj.generate(model, "for item in", 1, temperature=0)
    'for item in items'
    """
    require_settings()
    require(isinstance(prompt, str), "prompt", prompt, "one text")
    tokens, seed = whole("tokens", tokens), whole_seed("seed", seed)
    start = end_of_text(model.require_tokenizer()) if prompt == "" else []
    ids = token_ids(model, np.array(start) if start else prompt)
    sampling.check_prompt(model.config, ids.shape[1])
    room = model.config.context - ids.shape[1]
    require(0 <= tokens <= room, "tokens", tokens, f"0 to {room} after this prompt")
    params, hooks, _ = intervention(model, ids, ablate, add, patch, circuit)
    key = jax.random.key(seed)
    found = sampling.generate(model.config, params, ids, tokens, key, temperature, top_k, hooks)
    return model.require_tokenizer().decode(found[0].tolist(), skip_special_tokens=False)


def token_ids(model: Model, text: Text) -> jax.Array:
    """Token ids [B, T] of a text, of texts, or of ids; of a text as `encode_texts` gives them.

    Raises InputError for what the model cannot read: no tokens, or ids that are not in its vocabulary.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> sj.token_ids(model, ["for x", "while"]).tolist()
    [[384, 359], [544, 0]]
    """
    if isinstance(text, str) or (isinstance(text, (list, tuple)) and text and isinstance(text[0], str)):
        texts = [text] if isinstance(text, str) else list(text)
        for one in texts:
            require(isinstance(one, str), "text", one, "texts only, or token ids only")
            require_utf8(one, "text")
        rows = encode_texts(model.require_tokenizer(), texts)
        longest = max(map(len, rows))
        ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int32)
    else:
        valid = "texts, or rows of token ids of one length"
        ids = np.atleast_2d(whole_numbers("text", text, valid))
    require(ids.ndim == 2 and ids.size > 0, "text", np.shape(ids), "a text of at least one token")
    check_ids(model.config, ids, "text")
    return jnp.asarray(ids, jnp.int32)


def task(spec: Spec) -> Task:
    """A task: its name (`sj.task_names()`), NAME.CONTROL, a .jsonl file, "FILE.py:FUNCTION", or pairs.

    A pair is a mapping with prompt, counterfactual, answer and wrong, or a sequence of these four. Raises
    InputError naming the fault and the nearest valid choice.

    >>> import sparse_jax as sj
    >>> sj.task("for_while").about
    'what follows a name after for or while'
    """
    return as_task(spec)


def task_names() -> tuple[str, ...]:
    """The names of the twenty built-in tasks.

    >>> import sparse_jax as sj
    >>> len(sj.task_names()), "for_while" in sj.task_names()
    (20, True)
    """
    return tuple(TASKS)


def score(
    model: Model,
    task: Spec,
    *,
    circuit: Circuit | None = None,
    ablation: str | None = None,
    draws: int = 1,
    split: str = "test",
    pairs: int = 256,
    seed: int = 0,
) -> Score:
    """Scores the model on a task or, with `circuit`, that circuit.

    It is calibrated only if its size was chosen by the loss after calibration. It may be the circuit of
    another task; the score then says of which.

    ablation: what the nodes outside the circuit carry, a kind of `ablation/kinds.py`: "mean", "zero",
    "resample" (their value in another pair's prompt), "resample_position", "resample_text", "stochastic" (a
    random share of their own value), "adversarial" or "adversarial_shared" (the worst such share); default:
    "zero" if the circuit was found with that, else "mean". Of several, joined as in "mean+resample", the
    score is that under the kind with the largest loss. draws: how often a random kind is drawn for each pair,
    which gets the mean of them.

    Raises InputError for a task that the model's tokenizer cannot represent, for a circuit of another model,
    and for draws of what is not random.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> sj.score(model, "for_while", pairs=32).accuracy
    1.0
    """
    require_settings()
    chosen = as_task(task)
    encoded = chosen.encode(split, pairs, seed, model.require_tokenizer(), model.config.context)
    require(ablation is None or circuit is not None, "ablation", ablation, "None without a circuit")
    draws = whole("draws", draws)
    if circuit is None:
        require(draws == 1, "draws", draws, "1 without a circuit")
        (row,) = measure_tasks(model, {chosen.name: encoded}, split)
        of_all = {name: (row[name], row[f"{name}_error"]) for name in METRICS}
        return Score(chosen.name, split, pairs, "full model", of_all)
    kind, scores = circuit_scores(model, circuit, encoded, ablation, seed, draws)
    found = {name: (mean, None if math.isnan(error) else error) for name, (mean, error) in scores.items()}
    other = found_for(model, circuit, chosen)
    said = [f"circuit of {counted(len(circuit.edges), 'edge')}", f"found for {other}" if other else ""]
    if ablation is not None:
        said.append(f"{kind} ablation" + (f" (the worst of {ablation})" if kind != ablation else ""))
    return Score(chosen.name, split, pairs, ", ".join(filter(None, said)), found, other)


def prune(
    model: Model,
    task: Spec | Sequence[str | os.PathLike[str] | Task],
    *,
    lanes: int = 1,
    search: int = 0,
    edges: bool = False,
    directory: str | os.PathLike | None = None,
    **settings: object,
) -> Circuit | list[Circuit]:
    """The smallest circuit found that performs a task at `target_loss`; for a list of tasks, one each.

    lanes: prunings side by side, from different seeds; the smallest circuit is returned. search: rounds of a
    hyperparameter search, with `lanes` prunings each; more than one need Optuna (`pip install optuna`).
    edges: also prune single edges, inside the circuit of nodes.
    directory: where circuits and unfinished work are saved and looked up again, as by `python -m
    experiments.prune`. settings: fields of PruneConfig (`target_loss`, `steps`, `k_coef`, ...).
    `circuit.provenance["reached"]` says whether the target was reached.

    Raises InputError for unknown or invalid settings, for a search without Optuna, and for a task on which
    the full model misses the target.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> sj.prune(model, "for_while", stepz=3)
    Traceback (most recent call last):
    sparse_jax.inputs.InputError: pruning.stepz: unknown field; did you mean 'steps'? ...
    """
    require_settings()
    config = from_mapping(PruneConfig, settings, "pruning")
    lanes, search = whole("lanes", lanes), whole("search", search)
    require(lanes >= 1, "lanes", lanes, "at least 1")
    require(search >= 0, "search", search, "a number of rounds, 0 for none")
    edge_prune = config if edges else None
    recipe = Recipe(config, SearchConfig(lanes, search), edge_prune=edge_prune, edge_lanes=lanes)
    if isinstance(task, (list, tuple)) and all(isinstance(one, (str, os.PathLike, Task)) for one in task):
        require(len(task) > 0, "tasks", [], "at least one task")
        chosen, several = [as_task(one) for one in task], True
    else:
        chosen, several = [as_task(task)], False
    tokenizer = model.require_tokenizer()
    data = [task_data(one, tokenizer, model.config.context, config.counts) for one in chosen]
    advise()
    found = prune_tasks(model, None, data, recipe, directory, leave_out=False)
    circuits = [one for one in found if one is not None]  # all of them: leave_out is False
    return circuits if several else circuits[0]


def scorecard(
    model: Model,
    circuit: Circuit,
    task: Spec,
    *,
    pairs: int = 128,
    seed: int = 0,
    again: bool = False,
    rounds: int = ROUNDS,
) -> Scorecard:
    """Is the circuit what the model uses? Figures, most with a 95 % interval, and a verdict in words.

    Sufficiency under every kind of ablation; necessity against random nodes; answers flipped by swapping
    values with the counterfactual's; how far kept nodes behave as in the model; shifted splits (METHOD 8).
    P-values and sizes of single circuits (of the control, of backups) have no interval.
    again: also prunes again, as long as that takes: from other seeds, for a control with arbitrary answers,
    and up to `rounds` times without the nodes found so far (backups). The model's training text is needed,
    and prepared if it is not there. Raises InputError for a circuit of another model or task, fewer than two
    pairs, and rounds without `again`.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    >>> circuit = sj.load_circuit(path, model)
    >>> card = sj.scorecard(model, circuit, "else_elif", pairs=8)
    >>> card.verdict[0]
    'Sufficient under mean, ...
    """
    require_settings()
    advise()
    numbers = whole("pairs", pairs), whole_seed("seed", seed)
    return measure_circuit(model, circuit, as_task(task), *numbers, again, whole("rounds", rounds))


def load_circuit(path: str | os.PathLike, model: Model | None = None) -> Circuit:
    """The circuit in a file: what `Circuit.save` wrote, or a released one.

    A released circuit is a `viz_data.pt`, or `NAME_nodes.txt` beside `NAME_edges.csv` (either can be given).
    model: the model that the circuit has to be of; a `viz_data.pt` says only which nodes were kept, so that
    it cannot do without. Raises InputError for a missing or foreign file, and a circuit of another model.

    >>> import sparse_jax as sj
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    >>> sj.load_circuit(path, sj.load("experiments/results/small/sparse"))
    Circuit(single_double_quote in experiments/results/small/sparse: 17 nodes, 12 edges; nats: ...
    """
    path = user_path(path, "circuit")
    if path.is_file():
        with on_this_machine(path) as copy:
            if zipfile.is_zipfile(copy):  # as torch.save writes them
                if model is None:
                    valid = "load_circuit(path, model), with its model"
                    raise InputError(f"{path}: a released circuit; valid: {valid}")
                return released_circuit(read_viz_data(copy, model.config), model)
    if is_node_list(path):
        return read_node_list(path, model)
    circuit = read_circuit(path)
    if model is not None:
        check_circuit(model, circuit)
    return circuit


@functools.cache
def _compiled_forward(config):
    return jax.jit(functools.partial(forward, config))
