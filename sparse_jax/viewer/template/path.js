// The strongest path through a circuit, from a token or a node to a logit or a node.

// What may follow a node: its edges, each worth its share of the strongest weight, and, worth 1, whoever reads
// the residual channel that it writes. A query or key decides what its head moves: it leads to what the head's
// open value channels are written to, as their edges do.
function stepsFrom(circuit) {
  const steps = circuit.nodes.map(() => []);
  const share = (edge) => Math.abs(edge.weight) / circuit.strongest;
  for (const edge of circuit.edges) steps[edge.source.id].push({ to: edge.target, worth: share(edge), drawn: [edge] });
  const readers = grouped(circuit.nodes.filter((node) => node.stream === "reads"), (node) => node.index);
  for (const from of circuit.nodes.filter((node) => node.stream === "writes"))
    for (const to of readers.get(from.index) ?? [])
      if (to.id > from.id) steps[from.id].push({ to, worth: 1, drawn: [{ kind: "stream", from, to }] });
  if (isMissing(circuit.headWidth)) return steps;
  const head = (node) => `${node.layer} ${Math.floor(node.index / circuit.headWidth)}`;
  const values = grouped(circuit.nodes.filter((node) => node.site === "v"), head);
  for (const from of circuit.nodes.filter((node) => node.site === "q" || node.site === "k"))
    for (const value of values.get(head(from)) ?? [])
      for (const edge of value.outputs)
        steps[from.id].push({ to: edge.target, worth: share(edge), drawn: [{ kind: "stream", from, to: edge.target }] });
  return steps;
}

// The path of largest product from any of `starts` to any of `ends`, both maps from nodes to what they are worth:
// {nodes, drawn: its edges and links}, or null. Nodes are numbered in forward order, and every step goes on.
function strongestPath(circuit, starts, ends) {
  const steps = stepsFrom(circuit);
  const best = circuit.nodes.map((node) => ({ worth: starts.get(node) ?? 0, before: null, drawn: [] }));
  for (const node of circuit.nodes) {
    const { worth } = best[node.id];
    if (worth === 0) continue;
    for (const step of steps[node.id])
      if (worth * step.worth > best[step.to.id].worth)
        best[step.to.id] = { worth: worth * step.worth, before: node, drawn: step.drawn };
  }
  let last = null;
  let most = 0;
  for (const [node, worth] of ends)
    if (best[node.id].worth * worth > most) [last, most] = [node, best[node.id].worth * worth];
  if (last === null) return null;
  const nodes = [];
  const drawn = [];
  for (let node = last; node !== null; node = best[node.id].before) {
    nodes.unshift(node);
    drawn.unshift(...best[node.id].drawn);
  }
  return { nodes, drawn };
}

// The nodes that an end of a path may be: one by name, or those of a token by how much they are excited by it or
// move its logit.
function endsNamed(circuit, text, field) {
  const named = circuit.nodes.filter((node) => node.name === text.trim());
  if (named.length) return new Map(named.map((node) => [node, 1]));
  const worth = (node) => (node.meant?.[field] ?? []).find(([token]) => token === text || shownToken(token) === text);
  const found = circuit.nodes.map((node) => [node, worth(node)]).filter(([, pair]) => pair);
  return new Map(found.map(([node, [, value]]) => [node, Math.abs(value)]));
}

function shownToken(token) {
  return token.replaceAll(" ", "\u00b7").replaceAll("\n", "\u21b5").replaceAll("\t", "\u2192");
}

function endChoices(circuit, field) {
  const tokens = circuit.nodes.flatMap((node) => (node.meant?.[field] ?? []).map(([token]) => shownToken(token)));
  return [...new Set(tokens), ...circuit.nodes.map((node) => node.name)];
}

let lists = 0;

// Two fields; the path between them is drawn as soon as both say something.
function pathChoice(circuit, view) {
  const told = element("output", { class: "muted" });
  const field = (label, of) => {
    const id = `ends-${lists++}`;
    const options = endChoices(circuit, of).map((value) => element("option", { value }));
    const input = element("input", { type: "search", list: id, placeholder: `${label} token or node`, "aria-label": `Path ${label}`, oninput: () => find() });
    return [input, element("datalist", { id }, options)];
  };
  const from = field("from", "excited");
  const to = field("to", "moves");
  const find = () => {
    const [start, end] = [from[0].value, to[0].value];
    const [starts, ends] = [endsNamed(circuit, start, "excited"), endsNamed(circuit, end, "moves")];
    const found = start && end ? strongestPath(circuit, starts, ends) : null;
    view.trail(found?.drawn ?? []);
    view.mark("on-path", found?.nodes ?? []);
    if (!start || !end) told.textContent = "";
    else if (found) told.textContent = found.nodes.map((node) => node.name).join(" \u2192 ");
    else told.textContent = starts.size && ends.size ? "no path" : `nothing of the circuit is ${starts.size ? end : start}`;
  };
  return element("div", { class: "trail-choice slider" }, element("span", {}, "strongest path"), from, to, told);
}
