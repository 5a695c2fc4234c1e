"""The page in a real browser: it starts without an error and draws what the payload says."""

import re
import shutil
import subprocess

import pytest

from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.page import write_report
from sparse_jax.viewer.payload import gather

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_browser_draws_the_report(tmp_path, circuit):
    text = "<img src=x>"
    told = {
        node.name: [{"before": text, "token": text, "after": text, "value": 1.0}] for node in circuit.nodes
    }
    measured = {"unpruned": 0.01, "circuit": 0.14, "nodes": 5, "edges": 3, "reached": True}
    rows = [{"task": text, "sparse": measured, "dense": measured | {"edges": 48}, "ratio": 16.0}]
    table = {"rows": rows, "mean": {**rows[0], "task": "mean"}, "tasks": [text]}
    runs = {
        "sparse": [{"step": s, "loss": 3.0 - s, "fraction_kept": 0.5, "validation/web": 2.0} for s in (0, 1)]
    }
    figure = {
        "name": text,
        "ablation": "mean",
        "value": 0.125,
        "low": 0.1,
        "high": float("nan"),
        "unit": "nats",
    }
    card = {"verdict": [f"Necessary {text}."], "pairs": 8, "figures": [figure]}
    meant = {
        "said": {"predicate": f"token is {text!r}", "auc": 0.96, "explained": 0.5},
        "excited_by": [[text, 1.5]],
        "moves": [],
        "answers": {text: -0.25},
        "contexts": [{"quantile": 1.0, "before": text, "token": text, "value": 2.0}],
    }
    meanings = {"nodes": [{"node": node.name, **meant} for node in circuit.nodes]}
    code = f"x = {text!r}\ny = 2\n"
    values = {node.name: [[1.0, -1.0]] for node in circuit.nodes}
    traces = {"prompts": [[text, "b"]], "answers": [text], "circuit": values, "model": values}
    pattern = [[[50], [25, 25]]]
    traces["heads"] = [{"layer": 0, "number": 0, "uniform": True, "circuit": pattern, "model": pattern}]
    found = (told, card, meanings, code, traces)
    drawn = [TaskCircuit(text, model, circuit, *found) for model in ("sparse", "dense")]
    write_report(tmp_path / "report.html", gather("Title", {"seed": 0}, 0.15, table, runs, drawn))

    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *FLAGS, profile, "--dump-dom", (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    page = done.stdout
    assert len(re.findall('class="node[" ]', page)) == 2 * len(circuit.nodes)
    assert page.count('class="positive"') >= 2 and page.count('class="negative"') >= 2
    assert page.count('class="stream"') == 2 + 1  # one link in each picture, and the legend
    assert len(re.findall('<path class="curve[^>]*d="M[0-9]', page)) >= 3
    assert "16.0×" in page and "All edges drawn." in page
    assert "<img" not in page
    assert page.count("Necessary &lt;img src=x&gt;.") == 2 and "0.100 to –" in page
    assert page.count("The circuit as code, 2\u00a0lines".replace("\u00a0", "&nbsp;")) == 2
    assert page.count("x = '&lt;img src=x&gt;'\ny = 2") == 2
    assert "All 1 figures, on 8\u00a0test pairs" in page.replace("&nbsp;", "\u00a0")
