// What of a circuit is drawn: sliders for its edges and nodes, their opacity, and zoom.

const SLIDER_STEPS = 200;

// A labelled range input with its value in words. Returns {host, value(), set(value)}.
function slider(label, { min, max, value }, inWords, onChange) {
  const output = element("output", {}, inWords(value));
  const input = element("input", { type: "range", min, max, value, disabled: max <= min, oninput: () => told() });
  const told = () => {
    output.textContent = inWords(+input.value);
    input.setAttribute("aria-valuetext", output.textContent);
    onChange();
  };
  const set = (wanted) => {
    input.value = wanted;
    told();
  };
  return {
    host: element("label", { class: "slider" }, element("span", {}, label), input, output),
    value: () => +input.value,
    set,
  };
}

// The far left is no threshold; from there |weight| grows by equal factors.
function edgeSlider(circuit, onChange) {
  const sizes = circuit.edges.map((edge) => Math.abs(edge.weight)).filter((size) => size > 0);
  const [low, high] = extent(sizes) ?? [1, 1];
  const threshold = (value) => (value === 0 ? 0 : low * (high / low) ** (value / SLIDER_STEPS));
  const range = { min: 0, max: circuit.edges.length < 2 ? 0 : SLIDER_STEPS, value: 0 };
  const words = (value) => (value === 0 ? "all" : `\u2265 ${asWeight(threshold(value))}`);
  const made = slider("edges with |weight|", range, words, onChange);
  return { ...made, threshold: () => threshold(made.value()) };
}

// How many nodes are drawn, the best ranked first.
function nodeSlider(circuit, onChange) {
  const count = circuit.nodes.length;
  const words = (value) => (value === count ? "all" : `best ${asCount(value)} of ${asCount(count)}`);
  return slider("nodes", { min: Math.min(1, count), max: count, value: count }, words, onChange);
}

function opacitySlider(onChange) {
  return slider("opacity of edges", { min: 5, max: 100, value: 100 }, (value) => `${value}\u2009%`, onChange);
}

function zoomButtons(picture) {
  const named = [
    ["+", "Zoom in", () => picture().zoom(1.5)],
    ["\u2212", "Zoom out", () => picture().zoom(1 / 1.5)],
    ["1:1", "The whole picture", () => picture().whole()],
  ];
  return element(
    "span",
    { class: "zoom", role: "group", "aria-label": "Zoom" },
    named.map(([text, title, onclick]) =>
      element("button", { type: "button", title, "aria-label": title, onclick }, text),
    ),
  );
}
