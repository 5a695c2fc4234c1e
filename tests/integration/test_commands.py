"""The scripts as a user runs them: the main path at its smallest, and wrong inputs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.studies.pair import validation_loss

ROOT = Path(__file__).parents[2]
CONFIGS = "experiments/configs"
TINY = f"--config={CONFIGS}/quickstart.py:size=tiny"
TRAIN = f"--config={CONFIGS}/pretrain.py:size=tiny"


# small batches and one layer, to compute and to compile less
SIZES = ("model.n_layers=1", "training.batch_size=2", "training.evaluation_windows=2")


def sections(workdir):
    """Flags of the two runs that a workdir has."""
    return [
        f"--config.{side}.{field}"
        for side in ("sparse", "dense")
        for field in (f"data.directory={workdir / 'data'}", *SIZES)
    ]


def run(module, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a tiny quickstart and what it printed."""
    workdir = tmp_path_factory.mktemp("quickstart")
    arguments = ["quickstart", TINY, f"--config.workdir={workdir}", *sections(workdir)]
    return workdir, arguments, run(*arguments)


def contents(workdir):
    return {
        path.relative_to(workdir): path.read_bytes()
        for path in workdir.rglob("*")
        if path.is_file() and path.name != "report.html"
    }


def test_the_main_path_writes_circuits_table_and_report(finished):
    workdir, _, result = finished
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    assert "train sparse" in result.stderr and "prune dense class_init" in result.stderr
    rows = [json.loads(line) for line in (workdir / "table.jsonl").read_text().splitlines()]
    assert [row["task"] for row in rows[:2]] == ["class_init", "for_while"]
    assert "class_init" in result.stdout
    for side in ("sparse", "dense"):
        circuit = json.loads((workdir / side / "circuits" / "class_init.json").read_text())
        assert circuit["format"] == "sparse_jax.circuit"
        assert circuit["provenance"]["commit"]
        assert len(circuit["nodes"]) == circuit["counts"]["nodes"]
    dense = json.loads((workdir / "dense" / "config.json").read_text())
    assert dense["training"]["until_loss"] == validation_loss(workdir / "sparse")
    page = (workdir / "report.html").read_text()
    assert "class_init" in page and page.rstrip().endswith("</html>")


def test_repeating_it_changes_nothing(finished, command):
    workdir, arguments, _ = finished
    before = contents(workdir)
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert contents(workdir) == before


@pytest.mark.slow
def test_the_model_writes_text(finished):
    workdir, _, _ = finished
    flags = [f"--workdir={workdir / 'sparse'}", "--prompt=def f(", "--tokens=5", "--samples=2"]
    result = run("generate", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("def f(") == 2
    assert run("generate", *flags).stdout == result.stdout


def test_every_task_is_listed(command):
    result = command("tasks", "--list")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 20
    assert "else_elif" in result.stdout


@pytest.mark.parametrize("arguments", ["--list", "--help"])
def test_what_is_printed_for_nobody_ends_without_a_traceback(arguments):
    reader, writer = os.pipe()
    os.close(reader)  # as after `| head -1`
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "experiments.tasks", arguments]
    with os.fdopen(writer) as nobody:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=nobody, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("module", "flags", "said"),
    [
        (
            "generate",
            ["--workdir={model}", "--prompt=" + "x = 1\n" * 200],
            "prompt: 1000 tokens; valid: at most 128",
        ),
        ("generate", ["--workdir={model}", "--samples=0"], "--samples=0: 0 is not an integer in the range"),
        ("generate", ["--workdir={model}", "--samples=10000000"], "in the range [1, 1000]"),
        ("generate", ["--workdir={model}", "--tokens=10000000"], "valid: 0 to 126 after this prompt"),
        ("generate", ["--workdir={model}", "--prompt=\udcff"], "text has half a surrogate pair"),
        ("generate", ["--workdir=tests/data/gpt2/gpt2_tied"], "gpt2_tied has no tokenizer.json"),
        ("generate", ["--workdir=gs://b/n"], "'gs://b/n' is not valid; valid: gs://BUCKET/NAME"),
        ("tasks", ["--show=for_while", "-n", "0"], "--n=0: 0 is not an integer in the range"),
        ("tasks", ["--show=for_while", "-n", "10000000"], "in the range [1, 10000]"),
        ("tasks", ["--model={model}", "--tasks="], "--tasks: [] is not valid"),
        ("tasks", ["--show=for_while", "--pairs=7"], "--pairs: 7 is not valid; valid: none with --show"),
        ("tasks", ["--show=for_while", "--output=x"], "--output: 'x' is not valid; valid: none with --show"),
        (
            "tasks",
            ["--list", "--tasks=nonsense"],
            "--tasks: ['nonsense'] is not valid; valid: none with --list",
        ),
        (
            "tasks",
            ["--list", "--show=for_while"],
            "--show: 'for_while' is not valid; valid: none with --list",
        ),
        ("tasks", ["--model={model}", "-n", "3"], "--n: 3 is not valid; valid: none with --model"),
        ("tasks", ["--pairs=7"], "--list, --show or --model: missing; valid: one of them"),
        (
            "compare",
            ["--sparse=x", "--dense=x", "--tasks=for_while,if_ternary,for_while"],
            "list: 'for_while' is given 2 times; valid: each once",
        ),
        (
            "removal",
            [
                "--config=experiments/configs/removal.py",
                "--config.tasks=for_while,for_while",
            ],
            "tasks: 'for_while' is given 2 times; valid: each once",
        ),
        ("tasks", ["--show=for_while", "--model=tests/data/gpt2/gpt2_tied"], "has no tokenizer.json"),
        ("tasks", ["--model=tests/data/gpt2/gpt2_tied"], "gpt2_tied has no tokenizer.json"),
        ("convert", ["--from={model}", "--to=s3://b/n", "--format=hf"], "s3:// is not supported"),
        ("prune", ["--config=gs://bucket/prune.py"], "'gs://bucket/prune.py': a program"),
        (
            "train",
            [TRAIN, "--workdir=", "--config.model.d_head=12"],
            "--workdir=: path: empty; valid: a path",
        ),
        ("train", [TRAIN, "--workdir=/nowhere", "--data=s3://b/n"], "s3:// is not supported"),
        ("train", [TRAIN, "--workdir=/nowhere", "--config.model.d_model=None"], "model.d_model: None is a"),
    ],
)
def test_rough_inputs_are_one_line(command, module, flags, said):
    result = command(module, *(flag.format(model="experiments/results/small/sparse") for flag in flags))
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.slow
def test_own_text_alone_is_trained_on_by_one_short_command(tmp_path):
    (tmp_path / "code").mkdir()
    for i in range(30):
        (tmp_path / "code" / f"{i}.py").write_text("".join(f"x_{i}_{j} = {j}\n" for j in range(60)))
    (tmp_path / "notes.txt").write_text("".join(f"a line of text, number {i}\n" for i in range(900)))
    sizes = ["model.vocab_size=300", "training.steps=2", "training.evaluation_windows=2", "model.context=16"]
    flags = [f"--config.{size}" for size in [*sizes, f"data.directory={tmp_path / 'data'}"]]
    data = f"--data={tmp_path / 'code'},{tmp_path / 'notes.txt'}"
    result = run("train", TRAIN, data, *flags, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    sources = json.loads((tmp_path / "run" / "config.json").read_text())["data"]["sources"]
    assert {name: source["kind"] for name, source in sources.items()} == {
        "code": "python_source",
        "text": "text",
    }


def test_pairs_are_shown_with_what_decides_and_what_is_due(command):
    result = command("tasks", "--show=for_while", "-n", "2", "--split=shifted")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("‹for›") == result.stdout.count("‹while›") == 2
    assert result.stdout.count("« in»") == 2


def test_a_model_is_measured_on_tasks_of_all_kinds(finished, command, tmp_path):
    workdir, _, _ = finished
    mine = tmp_path / "mine.jsonl"
    lines = [
        json.dumps(
            {"prompt": f"x = {i}\nif x", "counterfactual": f"x = {i}\nx", "answer": " ==", "wrong": " ="}
        )
        for i in range(40)
    ]
    mine.write_text("\n".join(lines))
    tasks = f"--tasks=for_while,for_while.nonsense,{mine}"
    rows = tmp_path / "rows.jsonl"
    result = command("tasks", f"--model={workdir / 'sparse'}", tasks, "--pairs=4", f"--output={rows}")
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["task"] for row in found] == ["for_while", "for_while.nonsense", str(mine)]
    assert all(0 < row["loss"] < 5 and row["pairs"] == 4 for row in found)


@pytest.mark.slow
def test_a_control_of_the_model_is_pruned_on_kinds_of_shift_as_well(finished, tmp_path):
    source, control = f"--from={finished[0] / 'sparse'}", tmp_path / "control"
    flags = [source, f"--to={control}", "--format=compact", "--control=random_weights"]
    assert run("convert", *flags).returncode == 0
    sizes = ["steps=3", "pairs_per_step=4", "train_pairs=8", "validation_pairs=4", "test_pairs=4"]
    flags = [f"--config.{size}" for size in (*sizes, "mean_windows=4", "shifts=words,nesting")]
    flags += [f"--model={control}", "--tasks=for_while", f"--output={tmp_path / 'out'}"]
    result = run("prune", f"--config={CONFIGS}/prune.py", *flags)
    assert result.returncode == 0, result.stderr
    assert "for_while: a control; the full model is at" in result.stderr
    missed, header, *_ = result.stdout.splitlines()
    assert missed.startswith("for_while: target 0.15 not reached")
    # of one model, without columns of a sparse and a dense one
    assert header.split() == ["task", "full", "valid.", "test", "nodes", "edges"]
    about = json.loads((tmp_path / "out" / "for_while.json").read_text())["provenance"]
    assert about["control"].startswith("random weights of model ") and about["model"] == str(control)
    assert about["pruning"]["shifts"] == ["words", "nesting"]


@pytest.mark.slow
def test_the_small_pair_is_published(tmp_path, finished):
    workdir, _, _ = finished
    flags = [f"--config={CONFIGS}/small.py:size=tiny", f"--config.workdir={workdir}"]
    result = run("small", *flags, *sections(workdir), f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "tasks below 0.15 nats" in result.stdout
    assert len((tmp_path / "tasks.jsonl").read_text().splitlines()) == 2 * 2 * 20
    shown = run("generate", f"--workdir={tmp_path / 'dense'}", "--prompt=def f(", "--tokens=3")
    assert shown.returncode == 0 and "def f(" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [TRAIN, "--config.model.n_layres=2"],
            "--config.model.n_layres: 'n_layres' is unknown; did you mean 'n_layers'? valid: activation, ",
        ),
        ([TRAIN, "size=tiny"], "size=tiny: not a flag"),
        ([TRAIN, "--config.model.n_layers=two"], "n_layers"),
        ([TRAIN, "--config.model.d_head=12"], "model.d_head: 12 does not divide model.d_model 32; valid: "),
        ([TRAIN, "--config.sparsity.fraction=0.02"], "sparsity.fraction: "),
        ([f"--config={CONFIGS}/pretrain.py:size=huge"], "error: config argument 'size=huge': valid: "),
        (
            [f"--config={CONFIGS}/prune.py:size=tiny"],
            "error: flag --config=experiments/configs/prune.py:size=tiny: T",
        ),
        (["--config=README.md"], "error: invalid character"),
        ([f"--config={CONFIGS}/nothing.py"], "nothing.py"),
        ([TRAIN, "--workdri=x"], "workdri"),
    ],
)
def test_a_wrong_training_run_ends_with_one_line_and_nothing_written(command, tmp_path, arguments, said):
    data = [f"--config.data.directory={tmp_path / 'data'}"] if TRAIN in arguments else []
    result = command("train", *arguments, *data, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_source_directory_is_named(command, tmp_path):
    (tmp_path / "empty").mkdir()
    config = tmp_path / "mine.py"
    config.write_text(
        "from experiments.configs import pretrain\n"
        "def get_config():\n"
        "    config = pretrain.get_config('size=tiny')\n"
        f"    source = {{'kind': 'python_source', 'paths': ({str(tmp_path / 'empty')!r},)}}\n"
        "    config.data.sources = {'mine': source}\n"
        f"    config.data.directory = {str(tmp_path / 'data')!r}\n"
        "    return config\n"
    )
    result = command("train", f"--config={config}", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and str(tmp_path / "empty") in result.stderr
    assert not (tmp_path / "run").exists()


def test_other_configs_tasks_and_checkpoints_are_refused_and_leave_the_run_alone(finished, command, tmp_path):
    workdir, arguments, _ = finished
    before = contents(workdir)
    sparse = f"--workdir={workdir / 'sparse'}"
    same = [f"--config.{size}" for size in (f"data.directory={workdir / 'data'}", *SIZES)]
    other = command("train", TRAIN, *same, sparse, "--config.training.steps=30")
    assert other.returncode == 2 and "another config (training.steps 20 there, 30 here)" in other.stderr
    prune = [f"--config={CONFIGS}/prune.py", f"--model={workdir / 'sparse'}", f"--output={tmp_path / 'out'}"]
    nothing = command("prune", *prune, "--tasks=")
    assert nothing.returncode == 2 and "--tasks: [] is not valid" in nothing.stderr
    unknown = command("prune", *prune, "--tasks=single_double_qoute")
    assert unknown.returncode == 2 and "single_double_quote" in unknown.stderr
    foreign = command("generate", f"--workdir={tmp_path}")
    assert foreign.returncode == 2 and "no model was found there" in foreign.stderr
    assert contents(workdir) == before


@pytest.mark.slow
def test_a_circuit_gets_a_scorecard_a_file_and_a_page(tmp_path):
    results = "experiments/results"
    file = f"{results}/faithfulness/circuits/sparse/mean/single_double_quote.json"
    flags = [f"--model={results}/small/sparse", f"--circuit={file}", "--pairs=4", f"--output={tmp_path}"]
    result = run("scorecard", *flags, f"--report={tmp_path / 'card.html'}")
    assert result.returncode == 0 and "Warning" not in result.stderr, result.stderr
    card = json.loads((tmp_path / "single_double_quote.json").read_text())
    assert card["task"] == "single_double_quote" and card["verdict"] and card["verdict"][0] in result.stdout
    named = {(figure["name"], figure["ablation"]) for figure in card["figures"]}
    assert {("loss of the circuit", kind) for kind in ("mean", "resample", "adversarial_shared")} <= named
    assert json.dumps(card["verdict"][0])[1:-1] in (tmp_path / "card.html").read_text()


def test_a_scorecard_of_nothing_is_refused(finished, command, tmp_path):
    workdir, _, _ = finished
    file = workdir / "sparse" / "circuits" / "class_init.json"
    for flags, said in (
        ([], "--circuit: None is not valid; valid: one or more files"),
        ([f"--circuit={tmp_path / 'no.json'}"], "no.json"),
        (
            [f"--circuit={file}", "--tasks=for_while,if_ternary"],
            "--tasks: ['for_while', 'if_ternary'] is not",
        ),
        (
            [f"--circuit={file}", "--tasks=for_while"],
            "task: 'for_while' has other pairs than the circuit was found on",
        ),
    ):
        result = command("scorecard", f"--model={workdir / 'sparse'}", *flags)
        assert result.returncode == 2 and said in result.stderr, result.stderr
    results = "experiments/results"
    folder = f"{results}/faithfulness/circuits/dense/mean"
    paths = [f"{folder}/for_while.json", f"{folder}/indent_for.json"]
    result = command("scorecard", f"--model={results}/small/dense", f"--circuit={','.join(paths)}")
    assert result.returncode == 2 and f"{paths[1]}: circuit: 'no nodes' is not valid" in result.stderr
    assert not result.stdout  # the first was not measured


@pytest.mark.slow
def test_a_truncated_checkpoint_is_named_in_one_line(finished, tmp_path):
    workdir, _, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(workdir / "sparse", copy)
    largest = max((copy / "checkpoints" / "20" / "params" / "d").iterdir(), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])
    result = run("generate", f"--workdir={copy}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: checkpoint: ") and "truncated" in line


def test_a_circuit_is_exported_in_three_forms(command, tmp_path):
    found = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    circuit = json.loads((ROOT / found).read_text())
    circuit["provenance"]["pruning"]["test_pairs"] = 16
    del circuit["provenance"]["pairs"]  # fewer are others
    (tmp_path / "circuit.json").write_text(json.dumps(circuit))
    common = ["--model=experiments/results/small/sparse", f"--circuit={tmp_path / 'circuit.json'}"]
    code = command("export", *common, "--format=code")
    assert code.returncode == 0, code.stderr
    imports = [line for line in code.stdout.splitlines() if "import" in line]
    assert imports == ["from math import erf", "import numpy as np"]
    answers = {}
    exec(code.stdout, answers)
    found = answers["logits"](["else"])
    assert max(found, key=found.get) == ":\n"
    compact = command("export", *common, "--format=compact", f"--output={tmp_path / 'compact'}")
    assert compact.returncode == 0, compact.stderr
    assert {path.name for path in (tmp_path / "compact").iterdir()} == {"circuit.json", "circuit.safetensors"}
    target = f"--output={tmp_path / 'graph.json'}"
    graph = command("export", *common, "--format=circuit-tracer", target, "--prompt=if x:\n    y = 1\nelse")
    assert graph.returncode == 0, graph.stderr
    assert json.loads((tmp_path / "graph.json").read_text())["metadata"]["prompt"].endswith("else")
    for wrong, message in (
        (["--format=compact"], "error: --output: None is not valid; valid: a path, with --format=compact"),
        (["--format=code", "--prompt=x"], "error: --prompt: 'x' is not valid; valid: none with"),
        (["--format=svg", "--output=x", "--least=0.1"], "--least: 0.1 is not valid; valid: none with"),
        (["--format=svg", "--output=x", "--tolerance=0.1"], "--tolerance: 0.1 is not valid; valid: none"),
        (["--format=svg", "--output=x", "--task=for_while"], "--task: 'for_while' is not valid; valid: none"),
        (["--format=compact", f"--output={tmp_path / 'compact'}"], "exists"),
    ):
        ended = command("export", *common, *wrong)
        assert ended.returncode == 2 and message in ended.stderr, ended.stderr


@pytest.mark.slow
def test_the_nodes_of_a_circuit_are_explained(finished, command, tmp_path):
    workdir, _, _ = finished
    path = sorted((workdir / "sparse" / "circuits").glob("*.json"))[0]
    flags = [f"--model={workdir / 'sparse'}", f"--circuit={path}", f"--output={tmp_path / 'out'}"]
    result = run("explain", *flags, "--steps=2", f"--report={tmp_path / 'page.html'}")
    assert result.returncode == 0, result.stderr
    assert "def logits(tokens):" in (tmp_path / "page.html").read_text()
    (row,) = map(json.loads, (tmp_path / "out" / "bits.jsonl").read_text().splitlines())
    nodes = json.loads((tmp_path / "out" / path.name).read_text())["nodes"]
    assert row["nodes"] == len(nodes) == len(json.loads(path.read_text())["nodes"])
    wrong = command("explain", *flags[:1], f"--circuit={path},{path}", flags[2])
    assert wrong.returncode == 2 and "files with different names" in wrong.stderr


def test_two_models_circuits_are_compared_and_drawn(command, tmp_path):
    circuits = "experiments/results/faithfulness/circuits"
    flags = [f"--sparse={circuits}/sparse/strict", f"--figure={tmp_path / 'edges.png'}"]
    result = command("compare", *flags, f"--dense={circuits}/dense/strict")
    assert result.returncode == 0, result.stderr
    # as in the table of the study that found them
    assert "18 tasks where both need an edge: " in result.stdout and "sparse 24.9 [" in result.stdout
    assert result.stdout.endswith("of the models, nats a token: sparse 1.747, dense 1.742\n")
    assert (tmp_path / "edges.png").read_bytes().startswith(b"\x89PNG")
    two = command("compare", *flags[:1], f"--dense={circuits}/dense/strict", "--tasks=for_while,with_open")
    # 721 edges over 34, and 698 over 37
    assert "2 tasks where both need an edge: " in two.stdout and "sparse 20.0 [18.9, 21.2]" in two.stdout
    unknown = command("compare", *flags[:1], f"--dense={circuits}/dense/strict", "--tasks=for_wile")
    assert unknown.returncode == 2 and "--tasks: 'for_wile' is unknown; did you mean" in unknown.stderr
    wrong = command("compare", *flags, f"--dense={circuits}/dense/mean")
    assert wrong.returncode == 2 and "valid: one target, objective, ablation and confidence" in wrong.stderr
    wider = "--sparse=experiments/results/wider_pair/circuits/sparse/strict"
    unequal = command("compare", wider, f"--dense={circuits}/dense/strict")
    assert unequal.returncode == 2 and "validation losses sparse 1.877, dense 1.742; valid" in unequal.stderr


PROGRAMS = (ROOT / "experiments").glob("*.py")
COMMANDS = sorted(path.stem for path in PROGRAMS if "command.run(" in path.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_flag_of_a_command(command, name):
    text = (ROOT / "experiments" / f"{name}.py").read_text()
    own = re.findall(r"(?:(?:paths?|names)_flag|flags\.DEFINE_\w+)\(\s*\"(\w+)\"", text)
    said = command(name, "--help").stdout
    listed = re.findall(r"^  --(?:\[no\])?(\w+):", said, re.MULTILINE)
    assert set(own) <= set(listed)
