// How good the best k nodes are, for every k; the circuit of a size is drawn when its point is chosen.

const ROWS_OF_EFFECTS = 12;

function sizesDetails(circuit, view) {
  const found = circuit.contributions;
  const chart = element("div", { class: "chart" });
  const told = element("output", { class: "muted" });
  const choose = (k) => {
    view.best(k);
    tell(k);
  };
  const tell = (k) => (told.textContent = `best ${plural(k, "node")}: loss ${asLoss(found.best[k])}`);
  whenResized(chart, (width) => chart.replaceChildren(sizesChart(circuit, width, choose, tell)));
  tell(found.nodes.length);
  return element(
    "details",
    { class: "sizes" },
    element("summary", {}, `Loss against size, and what each node adds (${plural(found.pairs, "test pair")})`),
    element("p", {}, "Choose a point to draw the circuit of that size: by click, or with the arrow keys. ", told),
    element("div", { class: "sizes-parts" }, chart, element("div", {}, effectsTable(circuit, view))),
  );
}

function sizesChart(circuit, width, choose, tell) {
  const { best } = circuit.contributions;
  const last = best.length - 1;
  const high = Math.max(...best, circuit.losses.target ?? 0) * 1.05;
  const across = { range: [0, last], ticks: rounded(linearTicks(0, last, 6)), label: "nodes" };
  const up = { range: [0, high], ticks: linearTicks(0, high, 4), label: "loss, nats", written: (tick) => String(tick) };
  const drawn = plot(width, across, up);
  levelLine(drawn, width, circuit.losses.target, "target");
  const dots = best.map((loss, k) => graphic("circle", { cx: drawn.x(k), cy: drawn.y(loss), r: last > 80 ? 1.5 : 3 }));
  const line = best.map((loss, k) => `${k ? "L" : "M"}${drawn.x(k).toFixed(1)} ${drawn.y(loss).toFixed(1)}`).join("");
  const state = { k: last };
  const set = (k) => {
    state.k = Math.max(1, Math.min(last, k));
    dots.forEach((dot, i) => dot.classList.toggle("chosen", i === state.k));
    choose(state.k);
  };
  const nearest = (event) => {
    const box = drawn.svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) * width) / box.width;
    return Math.max(0, Math.min(last, Math.round(((at - drawn.x(0)) / (drawn.x(last) - drawn.x(0))) * last)));
  };
  drawn.svg.append(
    graphic("path", { class: `curve model-${circuit.model.split(",")[0]}`, d: line }),
    graphic("g", { class: `dots model-${circuit.model.split(",")[0]}` }, dots),
  );
  drawn.svg.setAttribute("tabindex", "0");
  drawn.svg.addEventListener("pointermove", (event) => tell(nearest(event)));
  drawn.svg.addEventListener("pointerleave", () => tell(state.k));
  drawn.svg.addEventListener("click", (event) => set(nearest(event)));
  drawn.svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    set(state.k + step);
  });
  return drawn.svg;
}

// The nodes whose ablation costs most, in the circuit and in the full model.
function effectsTable(circuit, view) {
  const { nodes, in_circuit, in_model } = circuit.contributions;
  const byName = new Map(circuit.nodes.map((node) => [node.name, node]));
  const rows = nodes
    .map((name, i) => ({ name, own: in_circuit[i], full: in_model[i] }))
    .filter(({ name }) => byName.has(name))
    .toSorted((a, b) => b.own - a.own);
  const row = ({ name, own, full }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, goButton(byName.get(name), view.go)),
      element("td", { class: "number" }, asChange(own)),
      element("td", { class: "number" }, asChange(full)),
    );
  const heads = ["without", "loss of the circuit", "of the full model"];
  const rest = rows.length - ROWS_OF_EFFECTS;
  const table = (some) =>
    element(
      "table",
      { class: "places" },
      element("thead", {}, element("tr", {}, heads.map((text, i) => element("th", { scope: "col", class: i ? "number" : "" }, text)))),
      element("tbody", {}, some.map(row)),
    );
  return [
    element("div", { class: "scroll" }, table(rows.slice(0, ROWS_OF_EFFECTS))),
    rest > 0
      ? element("details", {}, element("summary", {}, `${plural(rest, "node")} more`), element("div", { class: "scroll" }, table(rows.slice(ROWS_OF_EFFECTS))))
      : null,
  ];
}

// What a node's ablation costs, beside the node.
function effectFacts(node, contributions) {
  const i = contributions?.nodes.indexOf(node.name) ?? -1;
  if (i === -1) return [];
  return [
    fact("without it", asChange(contributions.in_circuit[i]), "how much the circuit's loss grows if it is ablated, in nats"),
    fact("in the model", asChange(contributions.in_model[i]), "how much the full model's loss grows if it is ablated, in nats"),
  ];
}

function asChange(value) {
  return isMissing(value) ? MISSING : (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(3);
}
