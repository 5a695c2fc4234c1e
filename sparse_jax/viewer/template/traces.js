// What a node carries at every token of a pair of prompts, in the circuit and in the full model.

// `choice` is {pair, choose(pair)}: which of the pairs is shown.
function traceList(node, traces, choice) {
  const rows = (run) => traces[run][node.name];
  const members = pairMembers(traces, choice.pair);
  const shown = members.flatMap((i) => ["circuit", "model"].map((run) => [run, i, rows(run)[i]]));
  const between = members.length === 2 ? difference(rows("circuit"), members) : null;
  const all = [...shown.flatMap(([, , values]) => values), ...(between ?? [])];
  const largest = Math.max(1e-6, ...all.map(Math.abs));
  const line = (i, values, told) =>
    element(
      "figure",
      { class: "trace" },
      element("pre", {}, traces.prompts[i].map((token, t) => traceToken(token, values[t], largest))),
      element("figcaption", {}, told),
    );
  return [
    element("h5", {}, "On prompts: in the circuit, and in the full model"),
    pairChoice(traces, choice),
    shown.map(([run, i, values]) =>
      line(i, values, [run === "circuit" ? "circuit, then " : "model, then ", element("code", {}, tokenText(traces.answers[i]))]),
    ),
    between ? line(members[0], between, "circuit: first less second prompt, from the end") : null,
  ];
}

// The prompts of a pair; of the last one where these traces have fewer than those beside them.
function pairMembers(traces, pair) {
  const first = 2 * Math.min(pair, Math.ceil(traces.prompts.length / 2) - 1);
  return [first, first + 1].filter((i) => i < traces.prompts.length);
}

// First less second member's values at every token of the first, both aligned at their ends; where the second
// has not begun, nothing is there to differ from.
function difference(rows, [first, second]) {
  const shift = rows[second].length - rows[first].length;
  return rows[first].map((value, t) => (t + shift < 0 ? null : value - rows[second][t + shift]));
}

function pairChoice(traces, choice) {
  const count = Math.ceil(traces.prompts.length / 2);
  if (count < 2) return null;
  const options = Array.from({ length: count }, (_, i) =>
    element("option", { value: i, selected: i === choice.pair }, `pair ${i + 1} of ${count}`),
  );
  return element("select", { "aria-label": "Prompts", onchange: (event) => choice.choose(+event.target.value) }, options);
}

function traceToken(token, value, largest) {
  const share = isMissing(value) ? 0 : Math.round((100 * Math.abs(value)) / largest);
  const color = `var(--${value < 0 ? "negative" : "positive"})`;
  return element(
    "span",
    { title: asWeight(value), style: `background:color-mix(in srgb, ${color} ${Math.min(85, share)}%, transparent)` },
    codeText(token),
  );
}
