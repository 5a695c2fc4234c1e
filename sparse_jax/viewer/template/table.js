// The comparison of both models, task by task.

function showTable(host, payload) {
  const { rows, mean } = payload.table;
  if (rows.length === 0) return host.append(element("p", { class: "muted" }, "No task was measured."));
  const drawn = new Set(payload.circuits.map((entry) => entry.task));
  const scale = edgeScale(rows);
  host.append(
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison by task" },
      element(
        "table",
        {},
        element("caption", { class: "spoken" }, "Losses and circuit sizes of both models by task"),
        tableHead(scale),
        element(
          "tbody",
          {},
          rows.map((row) => taskRow(row, scale, drawn.has(row.task))),
        ),
        mean.tasks.length ? element("tfoot", {}, meanRow(mean, rows.length, scale)) : null,
      ),
    ),
    element(
      "p",
      { class: "muted small" },
      verdict(true),
      " the circuit reaches the target loss on the validation pairs that chose its size, ",
      verdict(false),
      " it does not; such tasks are greyed in the last two " + "columns and left out of the mean. ",
      element("span", {}, MISSING),
      " not measured, for example because the full model cannot do the task. Losses are in nats.",
    ),
  );
}

function tableHead(scale) {
  const names = ["full model", "circuit, validation", "circuit, test", "calibrated", "nodes", "edges"];
  return element(
    "thead",
    {},
    element(
      "tr",
      {},
      element("td", {}),
      MODELS.map((model) =>
        element(
          "th",
          { colspan: names.length, scope: "colgroup", class: "group" },
          swatch(model),
          `${model} model`,
        ),
      ),
      element("td", { colspan: 2 }),
    ),
    element(
      "tr",
      {},
      element("th", { scope: "col" }, "task"),
      MODELS.flatMap(() =>
        names.map((name, i) =>
          element(
            "th",
            { scope: "col", class: i ? "number" : "number first" },
            i < 4 ? element("span", { class: "over" }, "loss") : null,
            name,
          ),
        ),
      ),
      element(
        "th",
        { scope: "col", class: "number first" },
        element("span", { class: "over" }, "edges"),
        "dense \u00f7 sparse",
      ),
      element(
        "th",
        { scope: "col", class: "dots" },
        element("span", { class: "over" }, "edges, log scale"),
        scale ? dotAxis(scale) : "",
      ),
    ),
  );
}

function taskRow(row, scale, isDrawn) {
  const comparable = MODELS.every((model) => row[model].reached !== false);
  return element(
    "tr",
    {},
    element(
      "th",
      { scope: "row" },
      isDrawn ? element("a", { href: taskHash(row.task) }, row.task) : row.task,
    ),
    MODELS.flatMap((model) => measureCells(row[model])),
    numberCell(asRatio(row.ratio), `first ratio ${comparable ? "" : "doubtful"}`),
    element("td", { class: `dots ${comparable ? "" : "doubtful"}` }, scale ? dots(row, scale) : ""),
  );
}

function measureCells(measured) {
  return [
    numberCell(asLoss(measured.unpruned), "first"),
    numberCell(asLoss(measured.validation), "", verdict(measured.reached)),
    numberCell(asLoss(measured.circuit)),
    numberCell(asLoss(measured.calibrated)),
    numberCell(asCount(measured.nodes)),
    numberCell(asCount(measured.edges), "edges"),
  ];
}

function meanRow(mean, total, scale) {
  return element(
    "tr",
    {},
    element(
      "th",
      { scope: "row" },
      "geometric mean",
      element("span", { class: "over" }, `${asCount(mean.tasks.length)} of ${plural(total, "task")}`),
    ),
    MODELS.flatMap((model) => [
      element("td", { colspan: 4, class: "first" }),
      numberCell(asMean(mean[model].nodes)),
      numberCell(asMean(mean[model].edges), "edges"),
    ]),
    numberCell(asRatio(mean.ratio), "first ratio"),
    element("td", { class: "dots" }, scale ? dots(mean, scale) : ""),
  );
}

function numberCell(text, kind = "", mark = null) {
  const missing = text === MISSING;
  return element(
    "td",
    { class: `number ${kind} ${missing ? "missing" : ""}`, title: missing ? "not measured" : null },
    missing ? element("span", { "aria-label": "not measured" }, text) : text,
    mark ? [" ", mark] : null,
  );
}

function verdict(reached) {
  if (isMissing(reached)) return element("span", { class: "verdict" }, "");
  return reached
    ? element(
        "span",
        { class: "verdict reached", role: "img", "aria-label": "target reached", title: "target reached" },
        "\u2713",
      )
    : element(
        "span",
        { class: "verdict missed", role: "img", "aria-label": "target missed", title: "target missed" },
        "\u2717",
      );
}
