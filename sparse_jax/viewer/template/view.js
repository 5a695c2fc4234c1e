// One circuit on the page: its size, what is drawn of it, and the picture.

const DRAWN_AT_MOST = 1200;

// One circuit with its header and controls; `choice` says on which prompts (`heads.js`) and which side of a node is
// shown. `onPruning(one or null)` is told which pruning of its search is wanted beside it. Returns {host, circuit, look(node), go(node), mark(class, nodes),
// trail(steps), best(k), annotate(), heads, draw()}.
function circuitView(circuit, choice, notes, onLook, onPruning) {
  const note = element("output");
  const frame = element("div", { class: "frame" });
  const state = { looked: null, marked: {}, steps: [], limit: DRAWN_AT_MOST };
  const view = { host: null, circuit, picture: null, heads: circuit.traces ? headsDetails(circuit, choice) : null };
  const redraw = () => {
    const nodes = new Set(circuit.ranked.slice(0, sliders.nodes.value()));
    const edges = drawnEdges(circuit, nodes, sliders.edges.threshold(), state.limit);
    view.picture?.show(nodes, edges);
    view.picture?.fade(sliders.opacity.value() / 100);
    note.textContent = drawnNote(circuit, nodes, edges);
  };
  const sliders = {
    edges: edgeSlider(circuit, () => redraw()),
    nodes: nodeSlider(circuit, () => redraw()),
    opacity: opacitySlider(() => redraw()),
  };
  view.look = (node) => {
    state.looked = node;
    view.picture?.look(node, choice.side);
  };
  view.mark = (kind, nodes) => {
    state.marked[kind] = nodes;
    view.picture?.mark(kind, nodes);
  };
  view.trail = (steps) => {
    state.steps = steps;
    view.picture?.trail(steps);
  };
  view.go = (node) => {
    if (!circuit.ranked.slice(0, sliders.nodes.value()).includes(node)) view.best(circuit.nodes.length);
    view.picture.focus(node);
    onLook(view, node, { pinned: true });
  };
  view.annotate = () => view.picture?.annotate(notes);
  view.best = (count) => sliders.nodes.set(count);
  const expand = () => {
    state.limit = Infinity;
    for (const details of view.host.querySelectorAll("details")) details.open = true;
    sliders.edges.set(0);
    view.best(circuit.nodes.length);
  };
  view.draw = whenResized(frame, (width) => {
    view.picture = drawPicture(circuit, Math.max(320, width), (node, how) => onLook(view, node, how));
    frame.replaceChildren(view.picture.svg);
    view.picture.look(state.looked, choice.side);
    for (const [kind, nodes] of Object.entries(state.marked)) view.picture.mark(kind, nodes);
    view.picture.trail(state.steps);
    view.annotate();
    redraw();
  });
  view.host = element(
    "article",
    { class: "circuit" },
    circuitHeader(circuit),
    element(
      "div",
      { class: "controls" },
      sliders.edges.host,
      sliders.nodes.host,
      sliders.opacity.host,
      searchBox(circuit, notes, (found) => view.mark("found", found), view.go),
    ),
    pathChoice(circuit, view),
    element(
      "p",
      { class: "note" },
      zoomButtons(() => view.picture),
      element("button", { type: "button", class: "go", onclick: expand }, "Expand all"),
      saveButtons(circuit, () => view.picture),
      element("span", {}, note),
    ),
    frame,
    circuit.contributions ? sizesDetails(circuit, view) : null,
    circuit.prunings.length ? pruningsDetails(circuit, onPruning) : null,
    view.heads?.host ?? null,
  );
  return view;
}

function circuitHeader(circuit) {
  // a pruning of a search was judged on the validation split alone
  const [measured, loss] = circuit.owner
    ? ["validation loss", circuit.losses.validation]
    : ["loss", circuit.losses.circuit];
  const others = Object.entries(circuit.counts).filter(([name]) => name !== "nodes" && name !== "edges");
  const facts = [
    ...Object.entries(circuit.losses).map(([name, loss]) => [`loss, ${name}`, asLoss(loss)]),
    ...others.map(([name, count]) => [COUNT_MEANING[name] ?? name, asCount(count)]),
    ...circuit.provenance,
  ];
  return element(
    "header",
    {},
    element("h4", {}, swatch(circuit.model), modelTitle(circuit.model)),
    element(
      "p",
      { class: "size" },
      element("strong", {}, asCount(circuit.size.nodes)),
      ` node${circuit.size.nodes === 1 ? "" : "s"}, `,
      element("strong", {}, asCount(circuit.size.edges)),
      ` edge${circuit.size.edges === 1 ? "" : "s"}`,
      isMissing(loss) ? null : [`, ${measured} `, element("strong", {}, asLoss(loss)), " ", verdict(circuit.reached)],
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

// "sparse, seed 1" -> "sparse model, seed 1"
function modelTitle(model) {
  const [kind, ...rest] = model.split(",");
  return [`${kind} model`, ...rest].join(",");
}

const COUNT_MEANING = {
  bias: "nonzero biases of kept nodes",
  embedding: "embedding weights read",
  unembedding: "unembedding weights written to",
  query_key: "query and key channels paired",
  constants: "nodes outside it that carry a constant of their own",
};

function drawnNote(circuit, nodes, edges) {
  const total = circuit.size.edges;
  const cut =
    circuit.nodes.length < circuit.size.nodes
      ? ` The file holds the ${asCount(circuit.nodes.length)} best scored of ${asCount(circuit.size.nodes)} nodes.`
      : "";
  if (total === 0) return "No edges: no weight of this circuit joins two of its nodes." + cut;
  if (edges.length === total) return "All edges drawn." + cut;
  const among = nodes.size < circuit.nodes.length ? ` among the ${plural(nodes.size, "best node")}` : "";
  const least = edges.length ? `, |weight| \u2265 ${asWeight(Math.abs(edges.at(-1).weight))}` : "";
  return `The strongest ${asCount(edges.length)} of ${plural(total, "edge")} drawn${among}${least}.${cut}`;
}
