// Run by test_script.py behind the scripts of the page, which only define functions.
const assert = require("node:assert");
// siteTable: what the page gets; here the embedding comes last
const [embed, ...sites] = siteTable;
const rows = [
  [0, 0, 1],
  [0, 1, 5],
  [0, 2, 5],
  [0, 2, 6],
  [0, 3, 9],
  [0, 4, 2],
  [0, 5, 2],
  [0, 6, 7],
  [0, 7, 2],
  [1, 0, 2],
  [1, 7, 4],
  [2, 8, 2],
];
const entry = {
  task: "t",
  model: "sparse",
  nodes: rows.map((row) => [...row, 0, 1]),
  edges: [
    [0, 1, -4],
    [0, 2, 3],
    [0, 4, 2],
    [4, 5, 1],
    [6, 7, 0.5],
    [7, 8, 0.25],
  ],
  size: {},
};
const shared = { sites, exemplars: { sparse: { "0.q.5": [[0, 1, 0, 2]] } }, texts: ["a", "b"] };
const circuit = unpacked(entry, shared);
const named = (node) => node.name;

assert.deepEqual(circuit.nodes[1].exemplars, [{ before: "a", token: "b", after: "a", value: 2 }]);
assert.deepEqual(
  circuit.nodes[0].outputs.map((edge) => edge.target.name),
  ["0.q.5", "0.k.5", "0.v.9"],
);
assert.deepEqual(
  circuit.nodes[8].inputs.map((edge) => edge.source.name),
  ["0.mlp_neuron.7"],
);

// Only channel 2 is written and read again; its last reader ends the line. Channel 1 and 4 have no such pair.
assert.deepEqual(
  streamChains(circuit.nodes).map((chain) => chain.map(named)),
  [["0.attn_out.2", "0.mlp_in.2", "0.mlp_out.2", "1.attn_in.2", "2.final_resid.2"]],
);
assert.deepEqual(
  pairLinks(circuit.nodes).map(({ from, to }) => [from.name, to.name]),
  [["0.q.5", "0.k.5"]],
);
assert.deepEqual(relatives(circuit.nodes[9], circuit.nodes).nodes.map(named), [
  "0.attn_out.2",
  "0.mlp_out.2",
]);
assert.deepEqual(relatives(circuit.nodes[5], circuit.nodes).nodes.map(named), [
  "0.mlp_in.2",
  "1.attn_in.2",
  "2.final_resid.2",
]);
assert.deepEqual(relatives(circuit.nodes[7], circuit.nodes).nodes, []);

const all = new Set(circuit.nodes);
assert.equal(drawnEdges(circuit, all, 0, 4).length, 4);
assert.deepEqual(
  drawnEdges(circuit, all, 2, 100).map((edge) => edge.weight),
  [-4, 3, 2],
);
assert.equal(drawnEdges(circuit, all, 9, 100).length, 0);
// without a node, none of its edges; the best ranked come first, and of equals the earlier
const fewer = new Set(circuit.nodes.filter((node) => node.name !== "0.attn_in.1"));
assert.deepEqual(
  drawnEdges(circuit, fewer, 0, 100).map((edge) => edge.weight),
  [1, 0.5, 0.25],
);
const scored = unpacked({ ...entry, nodes: rows.map((row, i) => [...row, 0, i % 3]) }, shared);
assert.deepEqual(
  scored.ranked.slice(0, 5).map((node) => node.id),
  [2, 5, 8, 11, 1],
);

assert.deepEqual(
  rowsOf(circuit.nodes).map((row) => row.segments.map((s) => s.site + s.nodes.length).join(" ")),
  [
    "attn_in1",
    "q1 k2 v1",
    "attn_out1",
    "mlp_in1",
    "mlp_neuron1",
    "mlp_out1",
    "attn_in1",
    "mlp_out1",
    "final_resid1",
  ],
);

// The embedding's nodes begin the lines of their channels, in a band of their own above the first layer.
const withEmbedding = unpacked(
  { ...entry, nodes: [[0, 9, 2], [0, 9, 4], ...rows].map((row) => [...row, 0, 1]), edges: [] },
  { ...shared, sites: [...sites, embed] },
);
assert.deepEqual(
  streamChains(withEmbedding.nodes).map((chain) => chain.map(named)),
  [
    [
      "0.embed.2",
      "0.attn_out.2",
      "0.mlp_in.2",
      "0.mlp_out.2",
      "1.attn_in.2",
      "2.final_resid.2",
    ],
  ],
);
assert.deepEqual(relatives(withEmbedding.nodes[0], withEmbedding.nodes).nodes.map(named), [
  "0.mlp_in.2",
  "1.attn_in.2",
  "2.final_resid.2",
]);
assert.deepEqual(
  ["Start", "Layer 0", "End"],
  [...new Set(rowsOf(withEmbedding.nodes).map(bandOf))].filter((name) => name !== "Layer 1"),
);
assert.equal(
  describe(withEmbedding.nodes[0]),
  "Before the first layer: the embedding writes residual channel 2",
);
assert.equal(describe(withEmbedding.nodes[2]), "Layer 0: attention reads residual channel 1");
const { rows: apart } = layoutCircuit(withEmbedding, 460);
// room for the edge of the band, as between layers
assert(apart[1].y - apart[0].y >= apart[2].y - apart[1].y + 26);

// Many nodes in little room: nobody outside, nobody on another, every edge downwards.
const many = { model: "dense", links: [], strongest: 1, edges: [], nodes: [] };
for (const site of ["mlp_in", "mlp_neuron", "mlp_out"]) {
  const about = siteTable.find((one) => one.name === site);
  for (let i = 0; i < 200; i++)
    many.nodes.push({ ...about, id: many.nodes.length, layer: 0, site, index: i, links: [] });
}
for (let i = 0; i < 400; i++) {
  many.edges.push({
    source: many.nodes[(i * 7) % 200],
    target: many.nodes[200 + ((i * 13) % 200)],
    weight: 0.5,
  });
}
for (const drawn of [many, circuit]) {
  const plan = layoutCircuit(drawn, 460);
  const places = drawn.nodes.map((node) => [plan.x[node.id], plan.y[node.id]]);
  for (const [x, y] of places) assert(x > 0 && x < 460 && y > 0 && y < plan.height);
  places.forEach(([x, y], i) =>
    places.slice(0, i).forEach(([u, v]) => {
      assert(Math.hypot(x - u, y - v) >= 2 * plan.radius, `${x} ${y} ${u} ${v}`);
    }),
  );
  for (const { source, target } of drawn.edges) assert(plan.y[source.id] < plan.y[target.id]);
}

// The nearest ordered places: untouched where they fit, symmetric where they collide, inside the bounds.
assert.deepEqual(spread([10, 30, 60], 10, 0, 100), [10, 30, 60]);
assert.deepEqual(spread([50, 50, 50], 10, 0, 100), [40, 50, 60]);
assert.deepEqual(spread([-5, 200], 10, 0, 100), [0, 100]);

assert.deepEqual(linearTicks(0, 20000, 5), [0, 5000, 10000, 15000, 20000]);
assert.deepEqual(logTicks(0.009, 1.1, 3), [0.01, 0.1, 1]);
for (const [low, high] of [
  [1.2, 12],
  [1.38, 1.45],
  [0.004, 0.9],
]) {
  const ticks = logTicks(low, high, 4);
  assert(
    ticks.length >= 3 && ticks.length <= 16 && ticks.every((tick) => tick >= low && tick <= high),
    ticks.join(),
  );
}
for (const written of [asCount, asLoss, asRatio, asMean, asWeight, asPercent])
  assert.equal(written(null), "\u2013");
assert.deepEqual(
  [asCount(5853), asLoss(0), asWeight(-0.25), asWeight(0)],
  ["5,853", "0.000", "\u22120.250", "0.00"],
);
assert.deepEqual([asRatio(15.96), asPercent(1 / 64), asStep(12000)], ["16.0\u00d7", "1.56\u2009%", "12k"]);
assert.deepEqual(
  [
    valueAt(
      [
        [0, 5],
        [10, 4],
      ],
      9,
    ),
    valueAt([[5, 1]], 0),
    valueAt(
      [
        [0, 5],
        [10, 4],
      ],
      null,
    ),
  ],
  [5, null, 4],
);

// Nodes are found by name, by what they say and by their tokens, whatever the case.
const meant = { said: ["inside a string", 0.95], excited: [["For", 1]], moves: [[" in", 2]], answers: [], contexts: [] };
const searched = unpacked({ ...entry, meanings: { "0.q.5": meant } }, shared);
const noNotes = notebook({}, () => {});
const foundBy = (query, notes = noNotes) => matching(searched, query, notes).map(named);
assert.deepEqual(foundBy("q.5"), ["0.q.5"]);
assert.deepEqual(foundBy("INSIDE a s"), ["0.q.5"]);
assert.deepEqual(foundBy("for"), ["0.q.5"]);
assert.deepEqual(foundBy(" in"), foundBy("in"));
assert.deepEqual(foundBy("  "), []);
assert.deepEqual(searched.nodes[1].meant, meant);
assert.equal(searched.nodes[0].meant, null);

// A reader's label is found like a name; notes hold texts only, and go through the address unchanged.
const told = [];
const notes = notebook({}, () => told.push(1));
notes.write(searched.nodes[2], "label", "<b>Opening quote</b>");
notes.write(searched.nodes[2], "group", "readers & writers");
notes.write(searched.nodes[4], "note", "x");
notes.write(searched.nodes[4], "note", "");
assert.equal(told.length, 4);
assert.deepEqual(notes.all, { "t/sparse/0.k.5": { label: "<b>Opening quote</b>", group: "readers & writers" } });
assert.deepEqual(foundBy("opening", notes), ["0.k.5"]);
assert.equal(groupClass(notes, searched.nodes[2]), "group-0");
assert.equal(groupClass(notes, searched.nodes[4]), null);
const address = addressFor("a&notes=b", notes.all);
assert.deepEqual(readAddress(address), { task: taskHash("a&notes=b"), notes: notes.all });
assert.deepEqual(readAddress(taskHash("t")), { task: taskHash("t"), notes: null });
assert.equal(readAddress("#circuit-t&notes=%7B").notes, null);
assert.throws(() => checkedNotes([1]), /notes are an object/);
assert.throws(() => checkedNotes({ a: "b" }), /the note of a is not an object/);
assert.deepEqual(checkedNotes({ a: { label: "x", group: 3, other: "y" } }), { a: { label: "x" } });

// Of a node, one side: its edges in or out, and the residual lines on that side alone.
const sideOfNode = (id, side) => {
  const { edges, links } = surroundings(circuit.nodes[id], side);
  return [edges.map(({ source, target }) => source.name + " " + target.name), links.map(({ from, to }) => from.name + " " + to.name)];
};
const [intoMlp, outOfMlp] = [["0.attn_out.2 0.mlp_in.2"], ["0.mlp_in.2 0.mlp_out.2"]];
assert.deepEqual(sideOfNode(6, "in"), [[], intoMlp]);
assert.deepEqual(sideOfNode(6, "out"), [["0.mlp_in.2 0.mlp_neuron.7"], []]);
assert.deepEqual(sideOfNode(6, "all"), [["0.mlp_in.2 0.mlp_neuron.7"], [...intoMlp, ...outOfMlp]]);
assert.deepEqual(sideOfNode(8, "out"), [[], ["0.mlp_out.2 1.attn_in.2"]]);
assert.deepEqual(sideOfNode(1, "all")[1], ["0.q.5 0.k.5"]); // a product is of no side
assert.deepEqual([sideOfNode(1, "in")[1], sideOfNode(1, "out")[1]], [[], []]);

// A pruning is an entry of its own, with the notes of the circuit's nodes.
const pruning = { number: 4, loss: 0.2, facts: [], size: { nodes: 2, edges: 1 }, nodes: entry.nodes.slice(0, 2), edges: [[0, 1, 7]] };
const pruned = unpacked(pruningEntry({ ...circuit, weights: "w", losses: { target: 0.15 } }, pruning), shared);
assert.deepEqual([pruned.model, pruned.reached, pruned.size.nodes], ["sparse, pruning 4", false, 2]);
assert.equal(pruned.nodes[1].key, circuit.nodes[1].key);
assert.deepEqual(pruned.nodes[1].exemplars, circuit.nodes[1].exemplars);
assert.equal(pruned.edges[0].weight, 7);

// Of one model, what both circuits have; of two models, only how many nodes stand where.
const less = { ...entry, nodes: rows.slice(0, 5).map((row) => [...row, 0, 1]), edges: [[0, 1, 7], [0, 3, 1]] };
const [one, other] = [{ ...entry, weights: "w" }, { ...less, weights: "w" }].map((each) => unpacked(each, shared));
const both = sharedOf(one, other);
assert.deepEqual(both.nodes.map(named), other.nodes.map(named));
assert.deepEqual(both.edges.map(({ source, target }) => [source.name, target.name]), [["0.attn_in.1", "0.q.5"]]);
assert.deepEqual(both.places.slice(0, 3), [["0.attn_in", 1, 1, 1], ["0.q", 1, 1, 1], ["0.k", 2, 2, 2]]);
assert.deepEqual(both.places.at(-1), ["2.final_resid", 1, 0, 0]);
for (const weights of ["v", null]) {
  const apart = sharedOf(one, { ...other, weights });
  assert.deepEqual([apart.nodes, apart.edges, apart.places[0]], [[], [], ["0.attn_in", 1, 1, null]]);
}

// Members of a pair are aligned at their ends.
assert.deepEqual(difference([[1, 2, 3], [10, 20]], [0, 1]), [null, -8, -17]);
assert.deepEqual(difference([[1, 2], [3, 10, 20]], [0, 1]), [-9, -18]);
assert.equal(stairs(2), "V1H1V0H0");

// Paths follow edges, the residual stream from writer to reader, and heads from queries to what is written; of two
// ways the one with the larger product of weights.
const walked = unpacked({ ...entry, headWidth: 8, weights: "w" }, shared);
const pathNames = (from, to) =>
  strongestPath(walked, endsNamed(walked, from, "excited"), endsNamed(walked, to, "moves"))?.nodes.map(named) ?? null;
assert.deepEqual(pathNames("0.attn_in.1", "0.attn_out.2"), ["0.attn_in.1", "0.v.9", "0.attn_out.2"]);
assert.deepEqual(pathNames("0.v.9", "2.final_resid.2"), ["0.v.9", "0.attn_out.2", "2.final_resid.2"]);
assert.equal(pathNames("0.attn_out.2", "0.v.9"), null);
assert.equal(pathNames("0.q.5", "0.attn_out.2"), null); // the value channel 9 is of the next head
const oneHead = unpacked({ ...entry, headWidth: 16 }, shared);
assert.deepEqual(
  strongestPath(oneHead, endsNamed(oneHead, "0.q.5", "excited"), endsNamed(oneHead, "0.attn_out.2", "moves")).nodes.map(named),
  ["0.q.5", "0.attn_out.2"],
);
const fork = [[0, 4, 1], [4, 8, 4], [0, 8, 0.5]].map(([a, b, weight]) => [a, b, weight]);
const forked = unpacked({ ...entry, edges: fork }, shared);
const weighed = strongestPath(forked, new Map([[forked.nodes[0], 1]]), new Map([[forked.nodes[8], 1]]));
assert.deepEqual(weighed.nodes.map(named), ["0.attn_in.1", "0.v.9", "0.mlp_out.2"]);
assert.equal(weighed.drawn.length, 2);
// a token begins at the node that it excites most, and a logit ends at the one that moves it
const spoken_of = { said: null, answers: [], contexts: [] };
const withTokens = unpacked(
  {
    ...entry,
    meanings: {
      "0.attn_in.1": { ...spoken_of, excited: [[" for", -2]], moves: [] },
      "0.attn_out.2": { ...spoken_of, excited: [[" for", 0.1]], moves: [["\n", 1]] },
    },
  },
  shared,
);
const tokenPath = strongestPath(withTokens, endsNamed(withTokens, "\u00b7for", "excited"), endsNamed(withTokens, "\u21b5", "moves"));
assert.deepEqual(tokenPath.nodes.map(named), ["0.attn_in.1", "0.v.9", "0.attn_out.2"]);

// Loss curves give the order of nodes, so that the circuit drawn for a size is the one that was measured.
const names = unpacked(entry, shared).nodes.map(named);
const measured = unpacked({ ...entry, contributions: { nodes: names.toReversed() } }, shared);
assert.deepEqual(measured.ranked.map(named), names.toReversed());
assert.equal(asChange(-0.5), "\u22120.500");
