// One circuit on the page: its size, a slider for the weakest edge, and the picture.

const DRAWN_AT_MOST = 1200;
const SLIDER_STEPS = 200;

// One circuit with its header and slider. Returns {host, circuit, look(node), go(node), draw()}.
function circuitView(circuit, payload, onLook) {
  const note = element("output");
  const frame = element("div", { class: "frame" });
  const slider = thresholdSlider(circuit, () => redraw());
  const host = element(
    "article",
    { class: "circuit" },
    circuitHeader(circuit, payload),
    slider.host,
    searchBox(
      circuit,
      (found) => view.find(found),
      (node) => view.go(node),
    ),
    element("p", { class: "note" }, note, " ", saveButton(circuit, () => view.picture.svg)),
    frame,
  );
  const view = { host, circuit, picture: null, looked: null, found: [] };
  const redraw = () => {
    const edges = drawnEdges(circuit, slider.threshold(), DRAWN_AT_MOST);
    view.picture.drawEdges(edges);
    note.textContent = drawnNote(circuit, edges);
  };
  view.look = (node) => {
    view.looked = node;
    view.picture?.look(node);
  };
  view.find = (found) => {
    view.found = found;
    view.picture?.mark(found);
  };
  view.go = (node) => {
    view.picture.focus(node);
    onLook(view, node, { pinned: true });
  };
  view.draw = whenResized(frame, (width) => {
    view.picture = drawPicture(circuit, Math.max(320, width), (node, how) => onLook(view, node, how));
    frame.replaceChildren(view.picture.svg);
    view.picture.look(view.looked);
    view.picture.mark(view.found);
    redraw();
  });
  return view;
}

function circuitHeader(circuit, payload) {
  const row = payload.table.rows.find((each) => each.task === circuit.task)?.[circuit.model];
  const others = Object.entries(circuit.counts).filter(([name]) => name !== "nodes" && name !== "edges");
  const facts = [
    ...Object.entries(circuit.losses).map(([name, loss]) => [`loss, ${name}`, asLoss(loss)]),
    ...others.map(([name, count]) => [COUNT_MEANING[name] ?? name, asCount(count)]),
    ...circuit.provenance,
  ];
  return element(
    "header",
    {},
    element("h4", {}, swatch(circuit.model), `${circuit.model} model`),
    element(
      "p",
      { class: "size" },
      element("strong", {}, asCount(circuit.size.nodes)),
      ` node${circuit.size.nodes === 1 ? "" : "s"}, `,
      element("strong", {}, asCount(circuit.size.edges)),
      ` edge${circuit.size.edges === 1 ? "" : "s"}`,
      row ? [", loss ", element("strong", {}, asLoss(row.circuit)), " ", verdict(row.reached)] : null,
    ),
    facts.length === 0
      ? null
      : element(
          "details",
          {},
          element("summary", {}, "More about this circuit"),
          element(
            "dl",
            { class: "facts" },
            facts.map(([name, value]) => fact(name, value)),
          ),
        ),
    circuit.scorecard ? scorecardDetails(circuit.scorecard) : null,
    circuit.code ? codeDetails(circuit.code) : null,
  );
}

const COUNT_MEANING = {
  bias: "nonzero biases of kept nodes",
  embedding: "embedding weights read",
  unembedding: "unembedding weights written to",
  query_key: "query and key channels paired",
  constants: "nodes outside it that carry a constant of their own",
};

// The far left of the slider is no threshold; from there |weight| grows by equal factors.
function thresholdSlider(circuit, onChange) {
  const sizes = extent(circuit.edges.map((edge) => Math.abs(edge.weight)).filter((size) => size > 0)) ?? [
    1, 1,
  ];
  const threshold = () =>
    input.value === "0" ? 0 : sizes[0] * (sizes[1] / sizes[0]) ** (input.value / SLIDER_STEPS);
  const label = element("output", {}, "all");
  const input = element("input", {
    type: "range",
    min: 0,
    max: SLIDER_STEPS,
    value: 0,
    disabled: circuit.edges.length < 2,
    oninput: () => {
      label.textContent = threshold() ? `\u2265 ${asWeight(threshold())}` : "all";
      input.setAttribute("aria-valuetext", label.textContent);
      onChange();
    },
  });
  return {
    threshold,
    host: element("label", { class: "slider" }, element("span", {}, "edges with |weight|"), input, label),
  };
}

function drawnNote(circuit, edges) {
  const total = circuit.size.edges;
  const cut =
    circuit.nodes.length < circuit.size.nodes
      ? ` The file holds the ${asCount(circuit.nodes.length)} best scored of ${asCount(circuit.size.nodes)} nodes.`
      : "";
  if (total === 0) return "No edges: no weight of this circuit joins two of its nodes." + cut;
  if (edges.length === total) return "All edges drawn." + cut;
  const least = edges.length ? `, |weight| \u2265 ${asWeight(Math.abs(edges.at(-1).weight))}` : "";
  return `The strongest ${asCount(edges.length)} of ${plural(total, "edge")} drawn${least}.${cut}`;
}
