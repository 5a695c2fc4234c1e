// What a node carries at every token of a few prompts, in the circuit and in the full model.

function traceList(node, traces) {
  const runs = ["circuit", "model"];
  const rows = (run) => traces[run][node.name];
  const largest = Math.max(1e-6, ...runs.flatMap((run) => rows(run).flat().map(Math.abs)));
  return [
    element("h5", {}, "On prompts: in the circuit, and in the full model"),
    ...traces.prompts.map((tokens, i) =>
      element(
        "figure",
        { class: "trace" },
        runs.map((run) => element("pre", {}, tokens.map((token, t) => traceToken(token, rows(run)[i][t], largest)))),
        element("figcaption", {}, "then ", element("code", {}, tokenText(traces.answers[i]))),
      ),
    ),
  ];
}

function traceToken(token, value, largest) {
  const share = Math.round((100 * Math.abs(value)) / largest);
  const color = `var(--${value < 0 ? "negative" : "positive"})`;
  return element(
    "span",
    { title: asWeight(value), style: `background:color-mix(in srgb, ${color} ${Math.min(85, share)}%, transparent)` },
    codeText(token),
  );
}
