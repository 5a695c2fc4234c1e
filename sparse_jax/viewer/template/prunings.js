// All prunings of the search that found the circuit: their sizes and losses, and the circuit of each.

// `onChoose(one or null)` is told which of them is wanted beside this circuit.
function pruningsDetails(circuit, onChoose) {
  const chart = element("div", { class: "chart" });
  const told = element("output", { class: "muted" });
  const state = { chosen: null };
  const tell = ({ number, size, loss, facts }) => {
    const settings = facts.map(([name, value]) => `${name} ${value}`).join(", ");
    const sizes = `${plural(size.nodes, "node")}, ${plural(size.edges, "edge")}`;
    told.textContent = `pruning ${number}: ${sizes}, loss ${asLoss(loss)}; ${settings}`;
  };
  const choose = (one) => {
    state.chosen = one === state.chosen ? null : one;
    for (const mark of chart.querySelectorAll("[data-pruning]")) press(mark, state.chosen);
    away.hidden = state.chosen === null;
    onChoose(state.chosen);
  };
  const away = element("button", { type: "button", class: "go", hidden: true, onclick: () => choose(null) }, "Take it away");
  whenResized(chart, (width) => refill(chart, pruningsChart(circuit, width, state, tell, choose)));
  return element(
    "details",
    { class: "prunings" },
    element("summary", {}, `All ${plural(circuit.prunings.length, "pruning")} of the search`),
    element(
      "p",
      {},
      "The best nodes of each that reach the target on validation pairs, or come closest, before elimination; the ring is " +
        "this circuit. Choose one to draw it beside this circuit: by click, or with Enter. ",
      told,
      " ",
      away,
    ),
    chart,
  );
}

// A pruning as an entry of the page.
function pruningEntry({ task, model, weights, headWidth, losses }, { number, loss, facts, size, nodes, edges }) {
  const { target } = losses;
  const nothing = { scorecard: null, meanings: null, code: null, traces: null, contributions: null, prunings: [] };
  const reached = isMissing(target) ? null : loss <= target;
  const found = { size, counts: size, losses: { validation: loss, target }, reached, provenance: facts, nodes, edges };
  return { task, model: `${model}, pruning ${number}`, owner: model, weights, headWidth, ...found, ...nothing };
}

function press(mark, chosen) {
  const isChosen = +mark.dataset.pruning === chosen?.number;
  mark.classList.toggle("chosen", isChosen);
  mark.setAttribute("aria-pressed", String(isChosen));
}

function pruningsChart(circuit, width, state, tell, choose) {
  const drawable = circuit.prunings.filter(({ loss }) => !isMissing(loss));
  const own = { edges: circuit.size.edges, loss: circuit.losses.validation };
  const sizes = extent([...drawable.map(({ size }) => Math.max(1, size.edges)), Math.max(1, own.edges)]);
  const range = [sizes[0] / 1.3, sizes[1] * 1.3];
  const high = Math.max(...drawable.map(({ loss }) => loss), own.loss ?? 0, circuit.losses.target ?? 0) * 1.08 || 1;
  const drawn = plot(
    width,
    { range, ticks: logTicks(...range, 3), label: "edges", log: true },
    { range: [0, high], ticks: linearTicks(0, high, 4), label: "loss, nats", written: (tick) => String(tick) },
  );
  levelLine(drawn, width, circuit.losses.target, "target");
  const mark = (one) =>
    graphic("circle", {
      cx: drawn.x(Math.max(1, one.size.edges)),
      cy: drawn.y(one.loss),
      r: 4,
      tabindex: "0",
      role: "button",
      "data-pruning": one.number,
      "aria-label": `pruning ${one.number}`,
      onpointerenter: () => tell(one),
      onfocus: () => tell(one),
      onclick: () => choose(one),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(one);
      },
    });
  const marks = drawable.map(mark);
  for (const each of marks) press(each, state.chosen);
  drawn.svg.append(graphic("g", { class: `dots model-${circuit.model.split(",")[0]}` }, marks));
  if (!isMissing(own.loss))
    drawn.svg.append(graphic("circle", { class: "own", cx: drawn.x(Math.max(1, own.edges)), cy: drawn.y(own.loss), r: 7 }));
  return drawn.svg;
}
