// Two circuits beside each other: the nodes and edges that both have.

// {sameModel, nodes, edges, places}: what both have, by name, and [layer.site, in a, in b, in both] for every site of a
// layer. Nodes with the same name are different nodes in different models, so only positions are compared.
function sharedOf(a, b) {
  const sameModel = !isMissing(a.weights) && a.weights === b.weights;
  const names = new Set(b.nodes.map((node) => node.name));
  const nodes = sameModel ? a.nodes.filter((node) => names.has(node.name)) : [];
  const joined = ({ source, target }) => `${source.name} ${target.name}`;
  const joins = new Set(b.edges.map(joined));
  const edges = sameModel ? a.edges.filter((edge) => joins.has(joined(edge))) : [];
  const ordered = [...a.nodes, ...b.nodes].toSorted((x, y) => x.layer - y.layer || x.siteNumber - y.siteNumber);
  const place = (node) => `${node.layer}.${node.site}`;
  const count = (some, at) => some.filter((node) => place(node) === at).length;
  const places = [...new Set(ordered.map(place))].map((at) => [
    at,
    count(a.nodes, at),
    count(b.nodes, at),
    sameModel ? count(nodes, at) : null,
  ]);
  return { sameModel, nodes, edges, places };
}

// The comparison of two of the views, at first of `pair` (null: twins), chosen by the reader; marks in both pictures what they share.
function comparison(views, pair) {
  for (const view of views) view.mark("shared", []);
  if (views.length < 2) return null;
  const chosen = pair ? pair.map((view) => views.indexOf(view)) : twins(views);
  const body = element("div");
  const fill = () => {
    for (const view of views) view.mark("shared", []);
    const [first, second] = chosen.map((i) => views[i]);
    if (first !== second) body.replaceChildren(...sharedParts(first, second));
    else body.replaceChildren(element("p", { class: "muted" }, "Choose two different circuits."));
  };
  const choice = (which) =>
    element(
      "select",
      {
        "aria-label": ["First circuit", "Second circuit"][which],
        onchange: (event) => {
          chosen[which] = +event.target.value;
          fill();
        },
      },
      views.map(({ circuit }, i) => element("option", { value: i, selected: i === chosen[which] }, nameOf(circuit))),
    );
  fill();
  return element("section", { class: "comparison" }, element("h4", {}, "What they share: ", choice(0), " and ", choice(1)), body);
}

// The first view and, if there is one, another of the same model.
function twins(views) {
  const other = views.findIndex(({ circuit }, i) => i > 0 && circuit.weights === views[0].circuit.weights);
  return [0, Math.max(1, other)];
}

function nameOf(circuit) {
  return `${circuit.task}, ${circuit.model}`;
}

function sharedParts(first, second) {
  const [a, b] = [first.circuit, second.circuit];
  const found = sharedOf(a, b);
  const inBoth = new Set(found.nodes.map((node) => node.name));
  for (const view of [first, second]) view.mark("shared", view.circuit.nodes.filter((node) => inBoth.has(node.name)));
  const only = (circuit, kind) => asCount(circuit[kind].length - found[kind].length);
  const said = found.sameModel
    ? `${plural(found.nodes.length, "node")} and ${plural(found.edges.length, "edge")} are in both (thick rings); ` +
      `${only(a, "nodes")} nodes and ${only(a, "edges")} edges only in the first, ` +
      `${only(b, "nodes")} and ${only(b, "edges")} only in the second.`
    : "Nodes with the same name are different nodes in different models, so only positions are compared.";
  return [
    element("p", {}, said),
    found.nodes.length
      ? element(
          "p",
          { class: "related" },
          found.nodes.flatMap((node) => [goButton(node, (next) => first.go(next)), " "]),
        )
      : "",
    placesTable(found),
  ];
}

function placesTable({ places, sameModel }) {
  const heads = ["nodes at", "first", "second", ...(sameModel ? ["both"] : [])];
  const rows = places.map(([at, ...counts]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, at),
      counts.filter((count) => count !== null).map((count) => element("td", { class: "number" }, asCount(count))),
    ),
  );
  const head = heads.map((text, i) => element("th", { scope: "col", class: i ? "number" : "" }, text));
  return element(
    "div",
    { class: "scroll" },
    element(
      "table",
      { class: "places" },
      element("thead", {}, element("tr", {}, head)),
      element("tbody", {}, rows),
    ),
  );
}

// The choice of a circuit of another task to set beside those of this one.
function besideChoice(task, payload, beside, onChoose) {
  const others = payload.circuits.map((entry, i) => [entry, i]).filter(([entry]) => entry.task !== task);
  if (others.length === 0) return null;
  const option = (value, text) => element("option", { value, selected: String(beside) === String(value) }, text);
  return element(
    "label",
    { class: "beside" },
    "beside it ",
    element(
      "select",
      { onchange: (event) => onChoose(event.target.value === "" ? null : +event.target.value) },
      option("", "nothing else"),
      others.map(([entry, i]) => option(i, nameOf(entry))),
    ),
  );
}
