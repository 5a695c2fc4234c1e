// All prunings of the search that found the circuit: their sizes and losses.

function pruningsDetails(circuit) {
  const found = circuit.prunings.map(([number, nodes, edges, loss, facts]) => ({ number, nodes, edges, loss, facts }));
  const chart = element("div", { class: "chart" });
  const told = element("output", { class: "muted" });
  const tell = ({ number, nodes, edges, loss, facts }) => {
    const settings = facts.map(([name, value]) => `${name} ${value}`).join(", ");
    told.textContent = `pruning ${number}: ${plural(nodes, "node")}, ${plural(edges, "edge")}, loss ${asLoss(loss)}; ${settings}`;
  };
  whenResized(chart, (width) => chart.replaceChildren(pruningsChart(circuit, found, width, tell)));
  return element(
    "details",
    { class: "prunings" },
    element("summary", {}, `All ${plural(found.length, "pruning")} of the search`),
    element(
      "p",
      {},
      "The smallest circuit of each that reaches the target on validation pairs, or comes closest; the ring is this circuit. ",
      told,
    ),
    chart,
  );
}

function pruningsChart(circuit, found, width, tell) {
  const drawable = found.filter(({ loss }) => !isMissing(loss));
  const own = { edges: circuit.size.edges, loss: circuit.losses.validation };
  const sizes = extent([...drawable.map(({ edges }) => Math.max(1, edges)), Math.max(1, own.edges)]);
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
      cx: drawn.x(Math.max(1, one.edges)),
      cy: drawn.y(one.loss),
      r: 4,
      tabindex: "0",
      "aria-label": `pruning ${one.number}`,
      onpointerenter: () => tell(one),
      onfocus: () => tell(one),
    });
  drawn.svg.append(graphic("g", { class: `dots model-${circuit.model.split(",")[0]}` }, drawable.map(mark)));
  if (!isMissing(own.loss))
    drawn.svg.append(graphic("circle", { class: "own", cx: drawn.x(Math.max(1, own.edges)), cy: drawn.y(own.loss), r: 7 }));
  return drawn.svg;
}
