// A small chart of points: axes, ticks and two scales.

const PLOT = { left: 44, right: 10, top: 24, bottom: 34, height: 204 };

// {svg, x(value), y(value)}; `across` and `up` are {range: [low, high], ticks, label, written, log}.
function plot(width, across, up) {
  const { left, right, top, bottom, height } = PLOT;
  const scale = (axis, to) => (axis.log ? logScale : linearScale)(axis.range, to);
  const [x, y] = [scale(across, [left, width - right]), scale(up, [height - bottom, top])];
  const written = (axis) => axis.written ?? asCount;
  const svg = graphic(
    "svg",
    { class: "plot-small", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${up.label} against ${across.label}` },
    across.ticks.map((tick) => [
      graphic("path", { class: "grid", d: `M${x(tick)} ${top}V${height - bottom}` }),
      graphic("text", { class: "tick", x: x(tick), y: height - bottom + 14, "text-anchor": "middle" }, written(across)(tick)),
    ]),
    up.ticks.map((tick) => [
      graphic("path", { class: "grid", d: `M${left} ${y(tick)}H${width - right}` }),
      graphic("text", { class: "tick", x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, written(up)(tick)),
    ]),
    graphic("text", { class: "axis", x: width - right, y: height - 4, "text-anchor": "end" }, across.label),
    graphic("text", { class: "axis", x: 0, y: 12 }, up.label),
  );
  return { svg, x, y };
}

function levelLine(drawn, width, value, name) {
  if (isMissing(value)) return;
  const y = drawn.y(value);
  drawn.svg.append(
    graphic("path", { class: "level", d: `M${PLOT.left} ${y}H${width - PLOT.right}` }),
    graphic("text", { class: "tick", x: PLOT.left + 4, y: y - 4 }, name),
  );
}

function rounded(ticks) {
  return ticks.filter(Number.isInteger);
}
