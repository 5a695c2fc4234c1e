// Where each head of the circuit looks on a prompt, pruned beside full.

const CELL = { least: 2, most: 9, room: 150 };

// Folded until the reader wants it; drawn when it is opened. `choice` is {pair, choose(pair)}.
function headsDetails(circuit, choice) {
  const { heads } = circuit.traces;
  if (heads.length === 0) return null;
  const body = element("div");
  const fill = () => refill(body, ...headsOn(circuit.traces, choice).flat(Infinity).filter(Boolean));
  const details = element(
    "details",
    { class: "heads", ontoggle: () => details.open && fill() },
    element("summary", {}, `Attention of ${plural(heads.length, "head")}, pruned beside full`),
    body,
  );
  return { host: details, refresh: () => details.open && fill() };
}

function headsOn(traces, choice) {
  const member = choice.member ?? 0;
  const members = pairMembers(traces, choice.pair);
  const number = members[member] ?? members[0];
  const tokens = traces.prompts[number];
  const query = { at: tokens.length - 1 };
  const pictures = traces.heads.map((head) => headPicture(head, number, tokens, (at) => ask(at)));
  const asked = element("p", { class: "muted" });
  const ask = (at) => {
    query.at = at;
    asked.replaceChildren("queries of token ", element("code", {}, tokenText(tokens[at])), ` (${at + 1} of ${tokens.length}):`);
    for (const picture of pictures) picture.ask(at);
  };
  ask(query.at);
  const turner = element(
    "select",
    { "aria-label": "Member of the pair", onchange: (event) => choice.turn(+event.target.value) },
    ["first prompt", "second prompt"].map((text, i) => element("option", { value: i, selected: i === member }, text)),
  );
  return [
    element("p", {}, pairChoice(traces, choice), " ", turner, " point at a row to see where that token looks"),
    asked,
    pictures.map((picture) => picture.host),
  ];
}

function headPicture(head, number, tokens, onAsk) {
  const runs = ["circuit", "model"];
  const rows = runs.map(() => element("pre"));
  const told = head.uniform ? element("strong", {}, "uniform now") : null;
  const host = element(
    "figure",
    { class: "head" },
    element("figcaption", {}, `layer ${head.layer}, head ${head.number} `, told),
    element(
      "div",
      { class: "patterns" },
      runs.map((run, i) =>
        element("div", {}, element("span", { class: "muted" }, run), patternMap(head[run][number], onAsk), rows[i]),
      ),
    ),
  );
  const ask = (at) =>
    runs.forEach((run, i) =>
      rows[i].replaceChildren(
        ...tokens.slice(0, at + 1).map((token, s) => attendedToken(token, head[run][number][at][s])),
      ),
    );
  return { host, ask };
}

function attendedToken(token, percent) {
  const style = `background:color-mix(in srgb, var(--positive) ${Math.min(85, percent)}%, transparent)`;
  return element("span", { title: `${percent}\u2009%`, style }, codeText(token));
}

// Weights as squares, a row per query; squares of one shade become one path.
function patternMap(pattern, onAsk) {
  const size = pattern.length;
  const cell = Math.max(CELL.least, Math.min(CELL.most, CELL.room / size));
  const shades = grouped(
    pattern.flatMap((row, t) => row.map((percent, s) => ({ shade: Math.ceil(percent / 10), t, s }))),
    ({ shade }) => shade,
  );
  const square = ({ t, s }) => `M${s} ${t}h1v1h-1z`;
  const paths = [...shades]
    .filter(([shade]) => shade > 0)
    .map(([shade, cells]) => graphic("path", { d: cells.map(square).join(""), "fill-opacity": shade / 10 }));
  return graphic(
    "svg",
    {
      viewBox: `0 0 ${size} ${size}`,
      width: cell * size,
      height: cell * size,
      class: "pattern",
      role: "img",
      "aria-label": "Attention: a row for each query, a column for each token it sees",
      onpointermove: (event) => {
        const box = event.currentTarget.getBoundingClientRect();
        const row = Math.floor(((event.clientY - box.top) / box.height) * size);
        onAsk(Math.max(0, Math.min(size - 1, row)));
      },
    },
    graphic("path", { class: "seen", d: `M0 0V${size}H${size}${stairs(size)}Z` }),
    paths,
  );
}

// The edge of what a causal pattern may hold, from its last row up to its first.
function stairs(size) {
  return Array.from({ length: size }, (_, i) => `V${size - i - 1}H${size - i - 1}`).join("");
}
