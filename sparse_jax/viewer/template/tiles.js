// The headline numbers.

const MODELS = ["sparse", "dense"];

function showTiles(host, payload) {
  const { mean, rows } = payload.table;
  // they compare two models, by a mean over tasks
  const measured = (model) => rows.some((row) => !isMissing(row[model].edges));
  if (!MODELS.every(measured) || mean.tasks.length === 0) return host.remove();
  const over = `${asCount(mean.tasks.length)} of ${plural(rows.length, "task")}`;
  host.append(
    tile(
      asRatio(mean.ratio),
      "as many edges in the dense model\u2019s circuits as in the sparse model\u2019s",
      `geometric mean over ${over}`,
    ),
    ...MODELS.map((model) =>
      tile(
        [swatch(model), asMean(mean[model].edges)],
        `edges in a circuit of the ${model} model`,
        `${asMean(mean[model].nodes)} nodes; geometric means`,
      ),
    ),
    tile(
      MODELS.map((model) => [swatch(model), reachedCount(rows, model), " "]),
      "circuits reach the target loss",
      `of ${plural(rows.length, "task")}; first the sparse, then the dense model`,
    ),
  );
}

function tile(value, meaning, basis) {
  return element(
    "div",
    { class: "tile" },
    element("p", { class: "value" }, value),
    element("p", {}, meaning),
    element("p", { class: "muted" }, basis),
  );
}

// Of circuits that differ in more than their model, the label begins with the model's.
function swatch(model) {
  return element("span", { class: `swatch model-${model.split(",")[0]}` });
}

function reachedCount(rows, model) {
  const known = rows.filter((row) => !isMissing(row[model].reached));
  return known.length ? asCount(known.filter((row) => row[model].reached).length) : MISSING;
}
