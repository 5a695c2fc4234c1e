// The details of one node, beside the pictures.

const CONNECTIONS = 10;

function hintPanel() {
  return [
    element("h4", {}, "Look into a node"),
    element(
      "p",
      {},
      "Point at a circle to see what it reads, what it writes and the text that activates it most. " +
        "Click to select it, click elsewhere to deselect.",
    ),
    element(
      "p",
      {},
      "With the keyboard: tab into a picture, move with the arrow keys, deselect with Escape; i shows only the edges " +
        "that enter the node, o only those that leave it, a all of them.",
    ),
    element("p", {}, "Zoom with Ctrl and the wheel, or with + \u2212 and 0; then drag to move."),
  ];
}

function nodePanel(node, circuit, choice, notes, onGo) {
  const related = relatives(node, circuit.nodes);
  const { side } = choice;
  return [
    element("p", { class: "which" }, swatch(circuit.model), modelTitle(circuit.model)),
    element("h4", { class: "mono" }, node.name),
    element("p", { class: "meaning" }, describe(node)),
    element(
      "dl",
      { class: "facts" },
      fact("mean", asWeight(node.mean), "its mean activation over training text, to which it is ablated"),
      fact("score", asWeight(node.score), "the gate logit by which it was ranked when the circuit was chosen"),
      ...effectFacts(node, circuit.contributions),
    ),
    ...(node.meant ? meaningList(node.meant) : []),
    sideButtons(choice),
    ...(side === "out" ? [] : connections("Inputs", node.inputs, (edge) => edge.source, onGo)),
    ...(side === "in" ? [] : connections("Outputs", node.outputs, (edge) => edge.target, onGo)),
    ...(related.nodes.length && (side === "all" || side === sideOf(node)) ? relatedList(related, onGo) : []),
    ...(circuit.traces ? traceList(node, circuit.traces, choice) : []),
    element("h5", {}, node.meant ? "Text, from the most to the least active" : "Most activating text"),
    ...exemplarList(node),
    noteFields(node, notes),
  ];
}

function sideButtons({ side, turnTo }) {
  const named = { all: "all edges", in: "in-edges", out: "out-edges" };
  return element(
    "p",
    { class: "sides", role: "group", "aria-label": "Which edges are shown" },
    Object.entries(named).map(([each, text]) =>
      element(
        "button",
        { type: "button", "aria-label": text, "aria-pressed": String(each === side), onclick: () => turnTo(each) },
        text,
      ),
    ),
  );
}

// What was found about a node: the best predicate, and texts with their numbers.
function meaningList({ said, excited, moves, answers }) {
  const lists = [
    ["Excited by", excited],
    ["Moves the logits of", moves],
    ["Mean before each answer", answers],
  ];
  return [
    element("h5", {}, "What it says"),
    said
      ? element(
          "p",
          {},
          said[1] < 0.5 ? element("span", { class: "muted" }, "smaller where ") : null,
          said[0],
          element("span", { class: "muted" }, ` AUC ${Math.max(said[1], 1 - said[1]).toFixed(2)}`),
        )
      : element("p", { class: "muted" }, "no short predicate is good"),
    ...lists
      .filter(([, pairs]) => pairs.length)
      .flatMap(([title, pairs]) => [
        element("h5", {}, title),
        element(
          "ul",
          { class: "connections" },
          pairs.map(([text, value]) =>
            element(
              "li",
              {},
              element("code", {}, tokenText(text)),
              element("span", { class: `weight ${value < 0 ? "negative" : "positive"}` }, asWeight(value)),
            ),
          ),
        ),
      ]),
  ];
}

function describe(node) {
  const outside = node.stream === "writes" ? "Before the first layer" : "After the last layer";
  return `${node.inLayers ? `Layer ${node.layer}` : outside}: ${node.meaning} ${node.index}`;
}

function fact(name, value, meaning) {
  return element("div", { title: meaning }, element("dt", {}, name), element("dd", {}, value));
}

function connections(title, edges, other, onGo) {
  const heading = element(
    "h5",
    {},
    title,
    " ",
    element("span", { class: "muted" }, edges.length ? asCount(edges.length) : ""),
  );
  if (edges.length === 0) return [heading, element("p", { class: "muted" }, "none inside the circuit")];
  const longest = Math.abs(edges[0].weight) || 1;
  const rows = edges.slice(0, CONNECTIONS).map((edge) =>
    element(
      "li",
      {},
      goButton(other(edge), onGo),
      element(
        "span",
        { class: "bar", "aria-hidden": "true" },
        element("span", {
          class: edge.weight < 0 ? "negative" : "positive",
          style: `width:${Math.max(2, (100 * Math.abs(edge.weight)) / longest).toFixed(1)}%`,
        }),
      ),
      element(
        "span",
        { class: `weight ${edge.weight < 0 ? "negative" : "positive"}` },
        asWeight(edge.weight),
      ),
    ),
  );
  const rest = edges.length - rows.length;
  return [
    heading,
    element("ul", { class: "connections" }, rows),
    rest > 0 ? element("p", { class: "muted" }, `and ${asCount(rest)} weaker`) : null,
  ];
}

function relatedList({ label, nodes }, onGo) {
  return [
    element("h5", {}, label),
    element(
      "p",
      { class: "related" },
      nodes.flatMap((node) => [goButton(node, onGo), " "]),
    ),
  ];
}

function goButton(node, onGo) {
  return element("button", { type: "button", class: "go mono", onclick: () => onGo(node) }, node.name);
}

function exemplarList(node) {
  if (!node.exemplars) return [element("p", { class: "muted" }, "not recorded")];
  if (node.exemplars.length === 0)
    return [element("p", { class: "muted" }, "never active in the texts that were searched")];
  return node.exemplars.map(({ before, token, after, value }) =>
    element(
      "figure",
      { class: "exemplar" },
      element(
        "pre",
        {},
        codeText(before),
        element("mark", { class: value < 0 ? "negative" : "positive" }, tokenText(token)),
        codeText(after),
      ),
      element("figcaption", {}, "activation ", asWeight(value)),
    ),
  );
}

// Line ends become visible and still end the line.
function codeText(text) {
  return text.split("\n").flatMap((line, i) => (i ? [lineEnd(), "\n", line] : [line]));
}

// The token itself, with its blanks visible.
function tokenText(token) {
  const visible = token.replaceAll(" ", "\u00b7").replaceAll("\t", "\u2192");
  return visible === ""
    ? "\u2205"
    : visible.split("\n").flatMap((line, i) => (i ? ["\u21b5\n", line] : [line]));
}

function lineEnd() {
  return element("span", { class: "line-end", "aria-hidden": "true" }, "\u21b5");
}
