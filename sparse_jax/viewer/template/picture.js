// The layered picture of one circuit: nodes as circles, edges as curves, one node looked at.

const WIDTH_STEPS = 6;
const WIDEST = 4.5;
// characters of a reader's label
const LABEL = 14;

// Returns {svg, show(nodes, edges), look(node or null, side), mark(class, nodes), trail(edges and links),
// fade(opacity of edges), annotate(notes), focus(node), zoom, whole}; `onLook(node, {pinned, side})` is told where
// the reader points (not pinned), what is clicked or focused (pinned; null means nothing) and which side of it was
// asked for by key.
function drawPicture(circuit, width, onLook) {
  const plan = layoutCircuit(circuit, width);
  const at = (node) => [plan.x[node.id], plan.y[node.id]];
  const layers = {
    links: graphic("g", { class: "links" }),
    edges: graphic("g", { class: "edges" }),
    near: graphic("g", { class: "near-edges" }),
    trail: graphic("g", { class: "trail" }),
    nodes: graphic("g", { class: "nodes" }),
  };
  const svg = graphic(
    "svg",
    {
      class: "picture",
      viewBox: `0 0 ${width} ${plan.height}`,
      width,
      height: plan.height,
      role: "group",
      // Its nodes are in the tab order; a drawing that listens would otherwise be too.
      tabindex: "-1",
      "aria-label": `Circuit of the ${circuit.model} model for ${circuit.task}: arrow keys move between nodes`,
    },
    backdrop(plan),
    layers.links,
    layers.edges,
    layers.near,
    layers.trail,
    layers.nodes,
  );
  // A few links are read one by one; hundreds are only a hint.
  layers.links.setAttribute("stroke-opacity", Math.min(0.7, 0.2 + 20 / circuit.links.length).toFixed(2));
  const marks = circuit.nodes.map((node) => nodeMark(node, plan, at));
  layers.nodes.append(...marks);
  marks[0]?.setAttribute("tabindex", "0");

  function look(node, side) {
    svg.classList.toggle("looking", node !== null);
    svg.querySelectorAll(".near, .current").forEach((mark) => mark.classList.remove("near", "current"));
    if (node === null) return layers.near.replaceChildren();
    marks[node.id].classList.add("current");
    const { edges, links } = surroundings(node, side);
    for (const edge of edges) marks[(edge.source === node ? edge.target : edge.source).id].classList.add("near");
    const related = side === "all" || side === sideOf(node) ? relatives(node, circuit.nodes).nodes : [];
    for (const other of related) marks[other.id].classList.add("near");
    layers.near.replaceChildren(
      ...links.map((link) => linkCurve(link, plan, at)),
      ...edges.map((edge) => edgePath([edge], circuit, plan, at)),
    );
  }

  function mark(kind, nodes) {
    const ids = new Set(nodes.map((node) => node.id));
    marks.forEach((each, id) => each.classList.toggle(kind, ids.has(id)));
  }

  function show(nodes, edges) {
    const linked = new Set(edges.flatMap((edge) => [edge.source, edge.target]));
    marks.forEach((each, id) => {
      each.classList.toggle("bare", !linked.has(circuit.nodes[id]));
      each.classList.toggle("out", !nodes.has(circuit.nodes[id]));
    });
    const links = circuit.links.filter(({ from, to }) => nodes.has(from) && nodes.has(to));
    layers.links.replaceChildren(...links.map((link) => linkCurve(link, plan, at)));
    layers.edges.replaceChildren(
      ...batches(edges, circuit).map((batch) => edgePath(batch, circuit, plan, at)),
    );
  }

  function trail(steps) {
    layers.trail.replaceChildren(
      ...steps.map((step) => ("kind" in step ? linkCurve(step, plan, at) : edgePath([step], circuit, plan, at))),
    );
  }

  function fade(opacity) {
    for (const layer of [layers.edges, layers.links]) layer.setAttribute("opacity", opacity);
  }

  function annotate(notes) {
    marks.forEach((each, id) => {
      const node = circuit.nodes[id];
      each.querySelector("text")?.remove();
      const { label } = notes.of(node);
      const text = label ? shortened(label) : plan.numbered.has(node) ? String(node.index) : null;
      if (text) each.append(graphic("text", { x: plan.radius + 2.5, y: 3.2 }, text));
      each.setAttribute("class", [...each.classList].filter((name) => !name.startsWith("group-")).join(" "));
      const group = groupClass(notes, node);
      if (group) each.classList.add(group);
    });
  }

  const window = zoomable(svg, width, plan.height);
  listen(svg, circuit, plan, marks, window.at, onLook);
  return { svg, show, look, mark, trail, fade, annotate, focus: (node) => focusMark(marks, node), ...window };
}

function shortened(label) {
  return label.length > LABEL ? label.slice(0, LABEL - 1) + "\u2026" : label;
}

// Edges of like sign and width become one path: thousands of edges stay a dozen elements.
function batches(edges, circuit) {
  const groups = grouped(edges, (edge) => `${edge.weight < 0} ${widthStep(edge, circuit)}`);
  return [...groups.values()].reverse();
}

function widthStep(edge, circuit) {
  return Math.ceil(WIDTH_STEPS * Math.sqrt(Math.abs(edge.weight) / circuit.strongest));
}

function edgePath(edges, circuit, plan, at) {
  const part = Math.max(1, widthStep(edges[0], circuit)) / WIDTH_STEPS;
  const thinner = Math.min(1, 0.35 + 120 / circuit.edges.length);
  return graphic("path", {
    class: edges[0].weight < 0 ? "negative" : "positive",
    d: edges.map(({ source, target }) => curve(at(source), at(target), plan.radius)).join(""),
    "stroke-width": (0.5 + (WIDEST - 0.5) * part * thinner).toFixed(2),
    "stroke-opacity": (0.35 + 0.55 * part).toFixed(2),
  });
}

function curve([x0, y0], [x1, y1], radius) {
  const [from, to] = [y0 + radius, y1 - radius];
  const bend = (to - from) * 0.5;
  return (
    `M${x0.toFixed(1)} ${from.toFixed(1)}C${x0.toFixed(1)} ${(from + bend).toFixed(1)} ${x1.toFixed(1)} ` +
    `${(to - bend).toFixed(1)} ${x1.toFixed(1)} ${to.toFixed(1)}`
  );
}

function linkCurve(link, plan, at) {
  const [a, b] = [at(link.from), at(link.to)];
  if (link.kind === "stream") return graphic("path", { class: "stream", d: curve(a, b, plan.radius) });
  const lift = plan.radius + 6 + Math.min(16, Math.abs(b[0] - a[0]) / 12);
  return graphic("path", {
    class: "pair",
    d: `M${a[0]} ${a[1] - plan.radius}Q${(a[0] + b[0]) / 2} ${Math.min(a[1], b[1]) - lift * 1.6} ${b[0]} ${b[1] - plan.radius}`,
  });
}

function nodeMark(node, plan, at) {
  const [x, y] = at(node);
  const label = `${node.name}: ${plural(node.inputs.length, "input")}, ${plural(node.outputs.length, "output")}`;
  return graphic(
    "g",
    {
      class: "node",
      transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
      role: "button",
      tabindex: "-1",
      "aria-label": label,
      "data-node": node.id,
    },
    graphic("circle", { r: plan.radius }),
  );
}

// Bands behind the layers, names of the rows, and which way the computation runs.
function backdrop(plan) {
  const group = graphic("g", { class: "backdrop", "aria-hidden": "true" });
  const layers = grouped(plan.rows, bandOf);
  for (const [name, rows] of layers) {
    const top = rows[0].y - 34;
    const height = rows.at(-1).y + rows.at(-1).height + 17 - top;
    group.append(graphic("rect", { x: 0.5, y: top, width: plan.width - 1, height, rx: 8 }));
    group.append(graphic("text", { class: "layer", x: 10, y: top + 16 }, name));
  }
  for (const row of plan.rows) {
    const names = row.segments.map((segment) => segment.site);
    const middle = row.y + row.height / 2 + 3.5;
    group.append(graphic("text", { x: 10, y: middle }, names.join(" ")));
    if (names.length === 1) continue;
    for (const { site, start, right } of row.segments) {
      const pad = plan.radius + 5;
      group.append(
        graphic("rect", {
          class: "segment",
          x: start,
          y: row.y - pad,
          width: right - start,
          height: row.height + 2 * pad,
          rx: 6,
        }),
      );
      group.append(graphic("text", { x: start + 5, y: middle }, site));
    }
  }
  const middle = (MARGIN.left + plan.width - MARGIN.right) / 2;
  if (plan.rows.length === 0) return group;
  group.append(graphic("text", { class: "end", x: middle, y: plan.height - 4 }, "\u2193 to the logits"));
  return group;
}
