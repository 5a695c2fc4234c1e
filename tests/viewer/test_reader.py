"""What a reader does with the page, in a real Chromium: zoom, choose, compare, take notes, save, print."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from sparse_jax.circuits.graph import load_circuit
from sparse_jax.viewer.circuit_page import report
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.page import write_report
from sparse_jax.viewer.payload import gather

sync = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra 'test' installs")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium"),
]

CIRCUITS = Path(__file__).parents[2] / "experiments" / "results" / "faithfulness" / "circuits"
TEXT = "<img src=x onerror=alert(1)>"


def drawn(circuit, task, model, weights="w", pairs=1):
    """The circuit with everything that a page can show, hostile texts in all of it."""
    names = [node.name for node in circuit.nodes]
    lists = {"excited_by": [[TEXT, 1.5]], "moves": [[TEXT, -1.0]], "answers": {TEXT: -0.25}, "contexts": []}
    said = {"predicate": TEXT, "auc": 0.96, "explained": 0.5}
    values = {name: [[1.0, -1.0], [0.5, 2.0]] * pairs for name in names}
    pattern = [[[0.5], [0.25, 0.25]]] * 2 * pairs
    head = {"layer": 0, "number": 3, "uniform": True, "circuit": pattern, "model": pattern}
    traces = {"prompts": [[TEXT, "b"]] * 2 * pairs, "answers": [TEXT, "c"] * pairs}
    traces |= {"circuit": values, "model": values}
    best = [0.7, 0.6, 0.5, 0.4, 0.2, 0.1]
    effects = {"in_circuit": [0.1, 0.2, 0.3, 0.0, -0.1], "in_model": [0.0] * 5}
    pruning = {"parameters": {"k_coef": 0.1}}
    pruning |= {"nodes": [[0, "mlp_in", 2, 0.5, 1.0], [0, "mlp_neuron", 8, 0.5, 2.0]]}
    pruning |= {"edges": [[0, 1, -1.0]]}
    return TaskCircuit(
        task,
        model,
        dataclasses.replace(circuit, provenance={"weights": weights, "reached": True}),
        meanings={"nodes": [{"node": name, "said": said, **lists} for name in names]},
        code=f"x = {TEXT!r}\n",
        traces={**traces, "heads": [head]},
        contributions={"pairs": 4, "nodes": names, "best": best, **effects},
        prunings={"prunings": [{"number": n, "loss": 0.2 - 0.06 * n, **pruning} for n in (0, 1)]},
    )


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        # one that is installed: nothing is downloaded
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def written(tmp_path, circuit):
    fewer = dataclasses.replace(circuit, nodes=circuit.nodes[1:3], edges=())
    fewer = dataclasses.replace(
        drawn(circuit, TEXT, "sparse, seed 1"),
        circuit=dataclasses.replace(fewer, provenance={"weights": "w", "reached": False}),
    )
    entries = [drawn(circuit, TEXT, "sparse"), fewer, drawn(circuit, "other", "dense", "v")]
    table = {"rows": [{"task": TEXT, "sparse": {"edges": 3}}], "mean": None, "tasks": []}
    path = tmp_path / "page.html"
    write_report(path, gather(TEXT, {TEXT: TEXT}, 0.15, table, {}, entries))
    return path


@contextlib.contextmanager
def opened(browser, written):
    """The page; what it complains about, asks of the network or runs from a text is an error."""
    page, wrong = browser.new_page(accept_downloads=True), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda ask: wrong.append(ask.url) if ask.url.startswith(("http", "ws")) else None)
    page.goto(written.as_uri())
    page.wait_for_selector(".node")
    yield page
    assert page.locator("main img").count() == 0
    page.close()
    assert wrong == []


@pytest.fixture
def reader(browser, written):
    with opened(browser, written) as page:
        yield page


def test_zoom_shows_a_part_and_drags_move_it(reader):
    picture = reader.locator(".picture").first
    whole = picture.get_attribute("viewBox")
    reader.locator(".zoom button").first.click()
    left, top, width, _ = map(float, picture.get_attribute("viewBox").split())
    assert width == pytest.approx(float(whole.split()[2]) / 1.5, rel=1e-3)
    box = picture.bounding_box()
    reader.mouse.move(box["x"] + 200, box["y"] + 100)
    reader.mouse.down()
    reader.mouse.move(box["x"] + 150, box["y"] + 100, steps=4)
    reader.mouse.up()
    moved = float(picture.get_attribute("viewBox").split()[0])
    assert moved == pytest.approx(left + 50 * width / box["width"], abs=1)
    picture.locator(".node").first.press("0")
    assert picture.get_attribute("viewBox") == whole


def test_sliders_hide_nodes_and_edges_and_expand_all_brings_them_back(reader):
    view = reader.locator("article").first
    edges, nodes, opacity = view.locator("input[type=range]").all()
    nodes.fill("3")
    assert view.locator(".node:not(.out)").count() == 3
    opacity.fill("25")
    assert view.locator(".edges").get_attribute("opacity") == "0.25"
    edges.fill("200")  # only the strongest
    nodes.fill("5")
    assert view.locator(".edges path").count() == 1
    view.get_by_role("button", name="Expand all").click()
    assert view.locator(".edges path").count() >= 2 and view.locator(".node.out").count() == 0
    assert view.locator("details:not([open])").count() == 0
    assert "All edges drawn." in view.locator(".note").text_content()


def test_a_point_of_the_loss_curve_draws_the_circuit_of_that_size(reader):
    view = reader.locator("article").first
    view.locator(".sizes summary").first.click()
    chart = view.locator(".sizes svg")
    chart.focus()
    for key in ("ArrowLeft", "ArrowLeft"):
        chart.press(key)
    assert view.locator(".node:not(.out)").count() == 3
    assert "best 3\u00a0nodes: loss 0.400" in view.locator(".sizes output").text_content()


def test_a_pruning_of_the_search_is_drawn_beside_the_circuit(reader):
    view = reader.locator("article").first
    view.locator(".prunings summary").click()
    dot = view.get_by_label("pruning 1")
    dot.focus()
    assert "1\u00a0edge, loss 0.140; k_coef 0.1" in view.locator(".prunings output").text_content()
    reader.locator("article").first.locator(".node circle").first.click()
    reader.locator("[data-note=label]").fill("mine")
    dot.press("Enter")
    added = reader.locator("article").nth(2)
    assert added.locator("h4").first.text_content() == "sparse model, pruning 1"
    assert "2 nodes, 1 edge, validation loss 0.140" in added.locator(".size").text_content()
    assert added.locator(".node").count() == 2 and added.locator(".edges path").count() == 1
    assert "1\u00a0node and 0\u00a0edges are in both" in reader.locator(".comparison").text_content()
    assert added.locator(".node text").first.text_content() == "mine"  # a note is of the model's node
    assert dot.get_attribute("aria-pressed") == "true"
    assert reader.evaluate("document.activeElement.ariaLabel") == "pruning 1"
    view.get_by_label("pruning 0").click()
    assert reader.locator("article").count() == 3
    assert reader.locator("article").nth(2).locator("h4").first.text_content() == "sparse model, pruning 0"
    reader.locator("article").nth(2).locator(".node circle").first.click()
    view.get_by_role("button", name="Take it away").click()
    assert reader.locator("article").count() == 2
    assert "Look into a node" in reader.locator(".panel").text_content()


def test_in_edges_and_out_edges_of_a_node_alone(reader):
    view, near = reader.locator("article").first, reader.locator("article .near-edges path")
    node = view.get_by_label("0.mlp_neuron.7: 2\u00a0inputs, 1\u00a0output")
    node.locator("circle").click()
    assert near.count() == 3 and view.locator(".node.near").count() == 3
    out = reader.get_by_role("button", name="out-edges")
    out.click()
    assert near.count() == 1 and view.locator(".node.near").count() == 1
    assert out.get_attribute("aria-pressed") == "true"
    assert reader.evaluate("document.activeElement.textContent") == "out-edges"
    panel = reader.locator(".panel").text_content()
    assert "Outputs" in panel and "Inputs" not in panel
    node.press("i")
    assert near.count() == 2 and "edges: in" in reader.locator(".spoken[aria-live]").text_content()
    node.press("ArrowDown")  # the side stays
    assert near.count() == 1 and "Outputs" not in reader.locator(".panel").text_content()
    reader.keyboard.press("a")
    assert near.count() == 2  # its edge, and the residual line to its reader


def test_heads_show_where_they_look_pruned_beside_full(reader):
    view = reader.locator("article").first
    view.locator(".heads summary").click()
    assert view.locator(".pattern").count() == 2
    assert "uniform now" in view.locator(".heads figcaption").text_content()
    assert view.locator(".patterns pre").first.text_content() == f"{TEXT}b"
    box = view.locator(".pattern").first.bounding_box()
    reader.mouse.move(box["x"] + 2, box["y"] + 2)  # the row of the first token, which sees itself only
    assert view.locator(".patterns pre").first.text_content() == TEXT
    assert view.locator(".patterns pre span").first.get_attribute("title") == "50\u2009%"


def test_paths_lead_from_one_node_to_another(reader):
    view = reader.locator("article").first
    view.get_by_label("Path from").fill("0.mlp_in.2")
    view.get_by_label("Path to").fill("1.attn_in.3")
    way = "0.mlp_in.2 \u2192 0.mlp_neuron.7 \u2192 0.mlp_out.3 \u2192 1.attn_in.3"
    assert view.locator(".trail-choice output").text_content() == way
    assert view.locator(".node.on-path").count() == 4 and view.locator(".trail path").count() == 3


def test_two_circuits_show_what_they_share(reader):
    shared = reader.locator(".comparison")
    assert "2\u00a0nodes and 0\u00a0edges are in both" in shared.text_content()
    assert reader.locator("article").first.locator(".node.shared").count() == 2
    reader.locator(".beside select").select_option(label="other, dense")
    assert reader.locator("article").count() == 3
    shared.get_by_label("Second circuit").select_option(label="other, dense")
    assert "different models" in shared.text_content()
    assert reader.locator(".node.shared").count() == 0


def test_a_circuit_with_fewer_prompts_shows_its_last_pair(browser, tmp_path, circuit):
    entries = [drawn(circuit, "quotes", "sparse", pairs=3), drawn(circuit, "quotes", "dense", "v")]
    table = {"rows": [{"task": "quotes", "sparse": {"edges": 3}}], "mean": None, "tasks": []}
    write_report(tmp_path / "page.html", gather("Pairs", {}, 0.15, table, {}, entries))
    with opened(browser, tmp_path / "page.html") as page:
        for view in page.locator("article").all():
            view.locator(".heads summary").click()
        page.locator("article").first.get_by_label("Prompts").first.select_option(index=2)
        for view in page.locator("article").all():
            assert view.locator(".heads .patterns").count() == 1


def test_notes_stay_in_the_address_and_go_through_a_file(reader, written, tmp_path):
    reader.locator(".node circle").first.click()
    reader.locator("[data-note=label]").fill("<b>quote</b>")
    reader.locator("[data-note=group]").fill("readers")
    assert reader.locator(".node text").first.text_content() == "<b>quote</b>"
    with reader.expect_download() as download:
        reader.get_by_role("button", name="Save them as a file").click()
    saved = tmp_path / "notes.json"
    download.value.save_as(saved)
    assert list(json.loads(saved.read_text()).values()) == [{"label": "<b>quote</b>", "group": "readers"}]
    reader.reload()
    assert reader.locator(".node text").first.text_content() == "<b>quote</b>"
    # a link to another part of the page keeps them
    address = reader.url
    reader.evaluate("location.hash = '#results'")
    reader.wait_for_function("location.hash !== '#results'")
    assert reader.url == address
    reader.goto("about:blank")
    reader.goto(written.as_uri())
    assert reader.locator(".group-0").count() == 0
    reader.locator("input[type=file]").set_input_files(saved)
    reader.wait_for_selector(".group-0")
    saved.write_text("[1]")
    reader.locator("input[type=file]").set_input_files(saved)
    reader.wait_for_selector("text=these are no notes")
    assert reader.locator(".group-0").count() == 1


@pytest.mark.parametrize(("kind", "begins"), [("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("data", b"{")])
def test_a_circuit_is_saved_as_files(reader, tmp_path, kind, begins):
    with reader.expect_download() as download:
        reader.get_by_role("button", name=f"Save as {kind}").first.click()
    download.value.save_as(tmp_path / kind)
    content = (tmp_path / kind).read_bytes()
    assert content.startswith(begins)
    if kind == "data":
        found = json.loads(content)
        assert len(found["nodes"]) == 5 and found["edges"][0] == {
            "source": "0.mlp_in.2", "target": "0.mlp_neuron.7", "weight": -2,
        }  # fmt: skip


def test_dark_and_printed_pages_differ_and_print_has_no_controls(reader):
    background = "getComputedStyle(document.body).backgroundColor"
    reader.emulate_media(color_scheme="dark")
    assert reader.evaluate(background) == "rgb(21, 23, 27)"
    assert len(reader.screenshot()) > 10_000
    reader.emulate_media(media="print")
    assert reader.evaluate(background) == "rgb(255, 255, 255)"
    for control in (".controls", ".zoom", ".notes-bar", ".tabs", ".trail-choice", ".beside"):
        assert not reader.locator(control).first.is_visible(), control
    assert reader.locator(".picture").first.is_visible()
    style = "getComputedStyle(document.querySelector('.code pre'))"  # all of the code, wrapped
    assert reader.evaluate(f"[{style}.maxHeight, {style}.whiteSpace]") == ["none", "pre-wrap"]


def test_a_page_of_twenty_circuits_opens_in_a_second_of_its_own_time(browser, tmp_path):
    folders = [CIRCUITS / kind / "mean" for kind in ("sparse", "dense")]
    found = [path for folder in folders for path in sorted(folder.glob("*.json"))[:10]]
    assert len(found) == 20
    report([load_circuit(path) for path in found], tmp_path / "twenty.html")
    page = browser.new_page()
    measured = page.context.new_cdp_session(page)
    # of its thread, not of the clock: other programs may use the processor too
    measured.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto((tmp_path / "twenty.html").as_uri())
    page.wait_for_selector(".node")
    figures = {one["name"]: one["value"] for one in measured.send("Performance.getMetrics")["metrics"]}
    page.close()
    assert 0 < figures["TaskDuration"] < 1.0
