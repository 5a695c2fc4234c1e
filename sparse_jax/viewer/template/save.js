// A circuit as files: its picture with the colors that it has on the page, as SVG or PNG, and its data.

const DRAWN = ["fill", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity", "font", "visibility"];
// Pixels of a PNG for each of the page.
const FINENESS = 2;

function saveButtons(circuit, picture) {
  const stem = `${circuit.task}_${circuit.model}`.replace(/[^\w.-]+/g, "_");
  const kinds = [
    ["SVG", () => download(`${stem}.svg`, new Blob([standalone(picture().svg)], { type: "image/svg+xml" }))],
    ["PNG", () => asPng(picture().svg).then((blob) => download(`${stem}.png`, blob))],
    ["data", () => download(`${stem}.json`, new Blob([JSON.stringify(plainData(circuit))]))],
  ];
  return element(
    "span",
    { class: "save" },
    "save ",
    kinds.flatMap(([name, onclick]) => [
      element("button", { type: "button", class: "go", "aria-label": `Save as ${name}`, onclick }, name),
      " ",
    ]),
  );
}

function download(name, blob) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// The text of an SVG that needs no style sheet.
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((part, i) => {
    const style = getComputedStyle(originals[i]);
    part.setAttribute("style", DRAWN.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
  });
  copy.style.background = getComputedStyle(document.body).backgroundColor;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
}

async function asPng(svg) {
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(standalone(svg));
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = FINENESS * svg.width.baseVal.value;
  canvas.height = FINENESS * svg.height.baseVal.value;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

// Nodes and edges by name, for a program to read.
function plainData(circuit) {
  const { task, model, counts, losses, nodes, edges } = circuit;
  return {
    task,
    model,
    counts,
    losses,
    nodes: nodes.map(({ name, mean, score }) => ({ name, mean, score })),
    edges: edges.map(({ source, target, weight }) => ({ source: source.name, target: target.name, weight })),
  };
}
