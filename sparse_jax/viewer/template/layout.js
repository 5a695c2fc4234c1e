// Where the nodes of a circuit stand: rows in forward order, short edges, residual channels upright.

const MARGIN = { left: 86, right: 14, top: 40, bottom: 36 };
const SPACING = { least: 8, most: 52 };
const DIGIT = 5.8;
const SWEEPS = 14;

// Rows of segments of nodes, for nodes in forward order; q, k and v stand side by side.
function rowsOf(nodes) {
  const rows = [];
  for (const node of nodes) {
    let row = rows.at(-1);
    if (!row || row.layer !== node.layer || row.place !== node.step) {
      rows.push((row = { layer: node.layer, place: node.step, segments: [] }));
    }
    let segment = row.segments.at(-1);
    if (segment?.site !== node.site) row.segments.push((segment = { site: node.site, nodes: [] }));
    segment.nodes.push(node);
  }
  return rows;
}

function bandOf(row) {
  const node = row.segments[0].nodes[0];
  if (node.inLayers) return `Layer ${row.layer}`;
  return node.stream === "writes" ? "Start" : "End";
}

function layoutCircuit(circuit, width) {
  const rows = rowsOf(circuit.nodes);
  for (const row of rows) divideRow(row, MARGIN.left, width - MARGIN.right);
  const segments = rows.flatMap((row) => row.segments);
  const tightest = Math.min(SPACING.most, ...segments.map((segment) => segment.gap));
  const radius = Math.max(2.6, Math.min(6.5, tightest * 0.36));
  const x = settle(circuit, rows);
  const numbered = new Set(
    segments.filter((segment) => fitsNumbers(segment, radius)).flatMap((segment) => segment.nodes),
  );
  const y = stack(rows, circuit.edges, radius, numbered.size > 0);
  const bottom = rows.length ? rows.at(-1).y + rows.at(-1).height : MARGIN.top;
  return { width, height: bottom + MARGIN.bottom, radius, numbered, rows, x, y };
}

// Whether there is room for the channel numbers between the nodes of a segment.
function fitsNumbers(segment, radius) {
  const digits = Math.max(...segment.nodes.map((node) => String(node.index).length));
  return segment.gap >= 2 * radius + 5 + DIGIT * digits;
}

// Gives each segment its share of the row, and as many lines as its nodes need. Where there are several, room
// is left for their names.
function divideRow(row, left, right) {
  const between = 12;
  const name = row.segments.length > 1 ? 16 : 0;
  const shares = row.segments.map((segment) => segment.nodes.length + 2);
  const total = shares.reduce((sum, share) => sum + share, 0);
  const room = right - left - between * (row.segments.length - 1);
  let at = left - name / 2;
  row.segments.forEach((segment, i) => {
    const wide = (room * shares[i]) / total;
    segment.start = at;
    segment.left = at + name;
    segment.right = at + wide;
    const free = segment.right - segment.left;
    segment.lines = Math.max(1, Math.ceil((segment.nodes.length * SPACING.least) / free));
    segment.columns = Math.ceil(segment.nodes.length / segment.lines);
    segment.gap = Math.min(SPACING.most, free / segment.columns);
    at += wide + between;
  });
  row.lines = Math.max(...row.segments.map((segment) => segment.lines));
}

// Horizontal positions: nodes move towards the mean of their neighbors, alternately above and below.
function settle(circuit, rows) {
  const neighbors = weightedNeighbors(circuit);
  const x = new Float64Array(circuit.nodes.length);
  for (const row of rows)
    for (const segment of row.segments)
      place(
        segment,
        segment.nodes.map(() => null),
        x,
      );
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const looks = sweep >= SWEEPS - 2 ? "both" : sweep % 2 ? "below" : "above";
    for (const row of looks === "below" ? rows.toReversed() : rows) {
      for (const segment of row.segments) {
        const wanted = new Map(segment.nodes.map((node) => [node, wish(node, neighbors[node.id], x, looks)]));
        segment.nodes.sort((a, b) => wanted.get(a) - wanted.get(b) || a.index - b.index);
        place(
          segment,
          segment.nodes.map((node) => wanted.get(node)),
          x,
        );
      }
    }
  }
  return x;
}

function weightedNeighbors(circuit) {
  const neighbors = circuit.nodes.map(() => []);
  const join = (from, to, weight) => {
    neighbors[from.id].push({ id: to.id, weight });
    neighbors[to.id].push({ id: from.id, weight });
  };
  for (const { source, target, weight } of circuit.edges)
    join(source, target, 0.2 + Math.abs(weight) / circuit.strongest);
  for (const { from, to } of circuit.links) join(from, to, 0.8);
  return neighbors;
}

// Nodes are numbered in forward order, so that a smaller number stands above.
function wish(node, neighbors, x, looks) {
  let sum = 0;
  let total = 0;
  for (const { id, weight } of neighbors) {
    if ((looks === "above" && id > node.id) || (looks === "below" && id < node.id)) continue;
    sum += weight * x[id];
    total += weight;
  }
  return total ? sum / total : x[node.id];
}

// Puts the ordered nodes of a segment as near to the wanted places as their gap allows.
function place(segment, wanted, x) {
  const { nodes, left, right, lines, columns, gap } = segment;
  if (lines === 1 && wanted.every((value) => value !== null)) {
    const at = spread(wanted, gap, left + gap / 2, right - gap / 2);
    nodes.forEach((node, i) => (x[node.id] = at[i]));
    return;
  }
  const start = (left + right - gap * (columns - 1)) / 2;
  nodes.forEach((node, i) => (x[node.id] = start + gap * Math.floor(i / lines)));
}

// The places nearest to `wanted` (least squares) that keep their order, `gap` apart, in [low, high]:
// subtracting i * gap leaves an isotonic regression, solved by pooling neighbors out of order.
function spread(wanted, gap, low, high) {
  const blocks = [];
  wanted.forEach((value, i) => {
    let block = { sum: value - i * gap, count: 1 };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).count > block.sum / block.count) {
      const previous = blocks.pop();
      block = { sum: previous.sum + block.sum, count: previous.count + block.count };
    }
    blocks.push(block);
  });
  const most = Math.max(low, high - (wanted.length - 1) * gap);
  const flat = blocks.flatMap(({ sum, count }) =>
    Array(count).fill(Math.min(most, Math.max(low, sum / count))),
  );
  return flat.map((value, i) => value + i * gap);
}

// Vertical places: more room above a row that many edges enter.
function stack(rows, edges, radius, airy) {
  const entering = new Map(rows.map((row) => [row, 0]));
  const rowOf = new Map(
    rows.flatMap((row) => row.segments.flatMap((s) => s.nodes.map((node) => [node, row]))),
  );
  for (const edge of edges) entering.set(rowOf.get(edge.target), entering.get(rowOf.get(edge.target)) + 1);
  const y = new Float64Array(rowOf.size);
  const pitch = 2 * radius + 2.5;
  let at = MARGIN.top;
  rows.forEach((row, i) => {
    if (i)
      at +=
        (airy ? 42 : 34) + Math.min(34, entering.get(row) / 8) + (bandOf(rows[i - 1]) === bandOf(row) ? 0 : 26);
    row.y = at;
    row.height = (row.lines - 1) * pitch;
    for (const segment of row.segments) {
      const offset = ((row.lines - segment.lines) * pitch) / 2;
      segment.nodes.forEach((node, n) => (y[node.id] = at + offset + pitch * (n % segment.lines)));
    }
    at += row.height;
  });
  return y;
}
