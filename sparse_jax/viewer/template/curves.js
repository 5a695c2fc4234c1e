// Losses over the steps and, on a log axis below them, the fraction of weights kept.

const CHART = { left: 58, right: 16, top: 28, loss: 300, between: 46, kept: 92, bottom: 38 };
const DASHES = [null, "7 4", "2 3", "10 3 2 3"];

function showCurves(host, runs) {
  const drawn = runs.flatMap((run, i) => styledCurves(run, i));
  if (drawn.every((curve) => curve.points.length === 0)) {
    return host.append(element("p", { class: "muted" }, "No metrics in this report."));
  }
  const readout = curveLegend(drawn);
  const chart = element("div", { class: "chart" });
  host.append(readout.host, chart);
  whenResized(chart, (width) => chart.replaceChildren(drawChart(drawn, width, readout.tell)));
  readout.tell(null);
}

function styledCurves(run, number) {
  const model = MODELS.includes(run.name) ? run.name : `other-${number % 4}`;
  const sources = run.curves.filter((curve) => curve.kind === "validation").map((curve) => curve.source);
  const kinds = ["train", "validation", "fraction"];
  const curves = kinds.flatMap((kind) => run.curves.filter((curve) => curve.kind === kind));
  return curves.map((curve) => ({
    ...curve,
    points: curve.points.filter(([, value]) => !isMissing(value) && value > 0),
    run: run.name,
    class: `curve model-${model} ${curve.kind}`,
    dash: curve.kind === "validation" ? DASHES[sources.indexOf(curve.source) % DASHES.length] : null,
    label: { train: "training", fraction: "weights kept", validation: `validation, ${curve.source}` }[
      curve.kind
    ],
    written: curve.kind === "fraction" ? asPercent : asLoss,
  }));
}

// The legend is also the readout: values at the step that is pointed at, else the last ones.
function curveLegend(drawn) {
  const step = element("p", { class: "step" });
  const values = drawn.map(() => element("output", { class: "value" }));
  const byRun = grouped(drawn, (curve) => curve.run);
  const lists = [...byRun].map(([run, curves]) =>
    element(
      "div",
      {},
      element("h4", {}, run),
      element(
        "ul",
        {},
        curves.map((curve) =>
          element("li", {}, lineSample(curve), `${curve.label} `, values[drawn.indexOf(curve)]),
        ),
      ),
    ),
  );
  const tell = (at) => {
    step.textContent = at === null ? "at the last step" : `at step ${asCount(at)}`;
    drawn.forEach((curve, i) => (values[i].textContent = curve.written(valueAt(curve.points, at))));
  };
  return { host: element("div", { class: "curve-legend" }, ...lists, step), tell };
}

function lineSample(curve) {
  return graphic(
    "svg",
    { width: 28, height: 10, "aria-hidden": "true" },
    graphic("path", { class: curve.class, d: "M1 5H27", "stroke-dasharray": curve.dash }),
  );
}

// The last value at or before a step; null before the first.
function valueAt(points, step) {
  if (step === null) return points.at(-1)?.[1] ?? null;
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= step) low = middle + 1;
    else high = middle;
  }
  return low ? points[low - 1][1] : null;
}

function drawChart(drawn, width, tell) {
  const losses = drawn.filter((curve) => curve.kind !== "fraction" && curve.points.length);
  const kept = drawn.filter((curve) => curve.kind === "fraction" && curve.points.length);
  const [first, last] = extent(drawn.flatMap((curve) => curve.points.map(([step]) => step)));
  const x = linearScale([first, last], [CHART.left, width - CHART.right]);
  const lossBottom = CHART.top + CHART.loss;
  const keptTop = lossBottom + CHART.between;
  const bottom = kept.length ? keptTop + CHART.kept : lossBottom;
  const cross = graphic("line", { class: "cross", y1: CHART.top, y2: bottom, visibility: "hidden" });
  const svg = graphic("svg", {
    class: "plot",
    viewBox: `0 0 ${width} ${bottom + CHART.bottom}`,
    width,
    height: bottom + CHART.bottom,
    role: "img",
    tabindex: "0",
    "aria-label": chartSummary(drawn),
  });
  const xTicks = linearTicks(first, last, Math.max(3, width / 130)).filter(
    (tick) => tick >= first && tick <= last,
  );
  for (const tick of xTicks) {
    svg.append(
      graphic("text", { class: "tick", x: x(tick), y: bottom + 18, "text-anchor": "middle" }, asStep(tick)),
    );
  }
  svg.append(
    graphic("text", { class: "axis", x: width - CHART.right, y: bottom + 33, "text-anchor": "end" }, "step"),
  );
  const lossName = "loss, nats per token (log)";
  if (losses.length)
    svg.append(
      pane(losses, { x, width, top: CHART.top, bottom: lossBottom, name: lossName, format: String }),
    );
  const keptName = "weights kept (log)";
  if (kept.length)
    svg.append(pane(kept, { x, width, top: keptTop, bottom, name: keptName, format: asPercent, full: 1 }));
  svg.append(cross);
  followPointer(svg, { width, first, last, x, cross, tell });
  return svg;
}

// One axis with its curves; losses too are on a log axis, for they fall fast and then slowly.
function pane(curves, { x, width, top, bottom, name, format, full }) {
  const [low, high] = extent(curves.flatMap((curve) => curve.points.map(([, value]) => value)));
  const range = full ? [Math.min(low, 0.5) / 1.15, full * 1.05] : [low * 0.97, high * 1.02];
  const y = logScale(range, [bottom, top]);
  const ticks = logTicks(...range, full ? 3 : 6);
  return graphic(
    "g",
    {},
    ticks.map((tick) => [
      graphic("line", { class: "grid", x1: CHART.left, x2: width - CHART.right, y1: y(tick), y2: y(tick) }),
      graphic(
        "text",
        { class: "tick", x: CHART.left - 8, y: y(tick) + 4, "text-anchor": "end" },
        format(tick),
      ),
    ]),
    curves.map((curve) =>
      graphic("path", {
        class: curve.class,
        d: linePath(curve.points, x, y),
        "stroke-dasharray": curve.dash,
      }),
    ),
    graphic("text", { class: "axis", x: CHART.left, y: top - 10 }, name),
  );
}

function linePath(points, x, y) {
  const places = points.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
  const line = "M" + places.join("L");
  return points.length === 1 ? line + "h0.1" : line;
}

function chartSummary(drawn) {
  const ends = drawn
    .filter((curve) => curve.points.length)
    .map((curve) => `${curve.run} ${curve.label} ${curve.written(curve.points.at(-1)[1])}`);
  return `Training curves; at the end: ${ends.join(", ")}`;
}

function followPointer(svg, { width, first, last, x, cross, tell }) {
  let step = null;
  const go = (to) => {
    step = to === null ? null : Math.round(Math.min(last, Math.max(first, to)));
    cross.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) for (const end of ["x1", "x2"]) cross.setAttribute(end, x(step));
    tell(step);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) * width) / box.width;
    go(first + ((last - first) * (at - CHART.left)) / (width - CHART.left - CHART.right));
  });
  svg.addEventListener("pointerleave", () => go(null));
  svg.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") go(null);
    if (!direction) return;
    event.preventDefault();
    go((step ?? (direction < 0 ? last : first)) + (direction * (last - first)) / 50);
  });
  svg.addEventListener("blur", () => go(null));
}
