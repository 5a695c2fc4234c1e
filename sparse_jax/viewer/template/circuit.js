// A circuit of the payload as objects that know their neighbors. No drawing here.

// A pruning of a search is an entry too; its nodes have the notes and exemplars of those of its `owner`.
function unpacked(entry, payload) {
  const owner = entry.owner ?? entry.model;
  const told = payload.exemplars[owner] ?? {};
  const nodes = entry.nodes.map(([layer, siteNumber, index, mean, score], id) => {
    const site = payload.sites[siteNumber];
    const name = `${layer}.${site.name}.${index}`;
    const exemplars = (told[name] ?? null)?.map(([before, token, after, value]) => ({
      before: payload.texts[before],
      token: payload.texts[token],
      after: payload.texts[after],
      value,
    }));
    const { step, stream, inLayers, meaning } = site;
    const key = `${entry.task}/${owner}/${name}`;
    const place = { layer, site: site.name, siteNumber, step, stream, inLayers, index };
    const about = { id, name, key, ...place, meaning, mean, score };
    const meant = entry.meanings?.[name] ?? null;
    const contexts = meant?.contexts.map(([before, token, value]) => ({ before, token, after: "", value }));
    return { ...about, exemplars: exemplars ?? contexts, meant, inputs: [], outputs: [], links: [] };
  });
  const edges = entry.edges.map(([source, target, weight]) => ({
    source: nodes[source],
    target: nodes[target],
    weight,
  }));
  for (const edge of edges) {
    edge.source.outputs.push(edge);
    edge.target.inputs.push(edge);
  }
  const links = [...streamLinks(nodes), ...pairLinks(nodes)];
  for (const link of links) {
    link.from.links.push(link);
    link.to.links.push(link);
  }
  const order = new Map(entry.contributions?.nodes.map((name, i) => [name, i]));
  const rank = (node) => order.get(node.name) ?? node.id;
  const ranked = nodes.toSorted((a, b) => (order.size ? 0 : b.score - a.score) || rank(a) - rank(b));
  return { ...entry, nodes, ranked, edges, links, strongest: Math.abs(edges[0]?.weight) || 1 };
}

// The nodes of one residual channel, in forward order, from its first writer to its last reader: each
// reader sees what every writer before it has written, beside the embedding where that has no nodes.
function streamChains(nodes) {
  const onStream = nodes.filter((node) => node.stream !== "");
  const chains = grouped(onStream, (node) => node.index);
  return [...chains.values()]
    .map((chain) => {
      const first = chain.findIndex((node) => node.stream === "writes");
      const last = chain.findLastIndex((node) => node.stream === "reads");
      return first === -1 ? [] : chain.slice(first, last + 1);
    })
    .filter((chain) => chain.length > 1);
}

function streamLinks(nodes) {
  return streamChains(nodes).flatMap((chain) =>
    chain.slice(1).map((to, i) => ({ kind: "stream", from: chain[i], to })),
  );
}

// A query and a key channel of the same number are multiplied with each other.
function pairLinks(nodes) {
  const place = (node) => `${node.layer}.${node.index}`;
  const keys = new Map(nodes.filter((node) => node.site === "k").map((node) => [place(node), node]));
  const paired = nodes.filter((node) => node.site === "q" && keys.has(place(node)));
  return paired.map((from) => ({ kind: "pair", from, to: keys.get(place(from)) }));
}

// Which side of a node is shown, by key: all of its edges, those that enter it or those that leave it.
const SIDES = { a: "all", i: "in", o: "out" };

// The edges and links at a node on one side. A reader of a residual channel is led to by its writers, and these
// lead on; a product of two channels is of no side.
function surroundings(node, side) {
  const edges = { all: [...node.inputs, ...node.outputs], in: node.inputs, out: node.outputs }[side];
  const end = node.stream === "reads" ? "to" : "from";
  const links = side === "all" ? node.links : node.links.filter((link) => sideOf(node) === side && link[end] === node);
  return { edges, links };
}

// The side on which others share its residual channel; null where none does.
function sideOf(node) {
  return { reads: "in", writes: "out" }[node.stream] ?? null;
}

// What else of the circuit a node shares a residual channel or a product with.
function relatives(node, nodes) {
  const same = nodes.filter((other) => other.index === node.index && other.id !== node.id);
  if (node.stream === "reads") {
    return {
      label: "Written before by",
      nodes: same.filter((other) => other.stream === "writes" && other.id < node.id),
    };
  }
  if (node.stream === "writes") {
    return {
      label: "Read later by",
      nodes: same.filter((other) => other.stream === "reads" && other.id > node.id),
    };
  }
  const partner = { q: "k", k: "q" }[node.site];
  return {
    label: "Multiplied with",
    nodes: same.filter((other) => other.site === partner && other.layer === node.layer),
  };
}

// The strongest edges between `nodes` with at least this |weight|, at most `limit`; edges come sorted.
function drawnEdges(circuit, nodes, threshold, limit) {
  return circuit.edges
    .filter(({ source, target, weight }) => Math.abs(weight) >= threshold && nodes.has(source) && nodes.has(target))
    .slice(0, limit);
}
