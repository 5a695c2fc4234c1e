// Edge counts of a task as dots on a log scale, in the last column of the table.

const DOTS = { width: 170, height: 22, pad: 16 };

// A common log scale of edge counts, in whole powers of ten; null when nothing was counted.
function edgeScale(rows) {
  const found = extent(
    rows.flatMap((row) => MODELS.map((model) => row[model].edges)).filter((edges) => edges > 0),
  );
  if (!found) return null;
  const low = 10 ** Math.floor(Math.log10(found[0]));
  const high = 10 ** Math.max(Math.ceil(Math.log10(found[1])), Math.log10(low) + 1);
  const ticks = [];
  for (let tick = low; tick <= high; tick *= 10) ticks.push(tick);
  return { at: logScale([low, high], [DOTS.pad, DOTS.width - DOTS.pad]), ticks };
}

function dotAxis({ at, ticks }) {
  return graphic(
    "svg",
    { width: DOTS.width, height: 14, "aria-hidden": "true" },
    ticks.map((tick) => graphic("text", { x: at(tick), y: 11, "text-anchor": "middle" }, asStep(tick))),
  );
}

function dots(row, { at, ticks }) {
  const middle = DOTS.height / 2;
  const known = MODELS.filter((model) => row[model].edges > 0);
  return graphic(
    "svg",
    { width: DOTS.width, height: DOTS.height, "aria-hidden": "true" },
    ticks.map((tick) =>
      graphic("line", { class: "grid", x1: at(tick), x2: at(tick), y1: 0, y2: DOTS.height }),
    ),
    known.length === 2
      ? graphic("line", {
          class: "span",
          x1: at(row.sparse.edges),
          x2: at(row.dense.edges),
          y1: middle,
          y2: middle,
        })
      : null,
    known.map((model) =>
      graphic("circle", { class: `model-${model}`, cx: at(row[model].edges), cy: middle, r: 4.5 }),
    ),
  );
}
