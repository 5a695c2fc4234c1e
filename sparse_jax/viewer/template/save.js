// A picture as a file of its own, with the colors that it has on the page.

const DRAWN = ["fill", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity", "font", "visibility"];

function saveButton(circuit, picture) {
  const save = () => {
    const address = URL.createObjectURL(new Blob([standalone(picture())], { type: "image/svg+xml" }));
    const name = `${circuit.task}_${circuit.model}.svg`.replace(/[^\w.-]+/g, "_");
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };
  return element("button", { type: "button", class: "go", onclick: save }, "Save the picture");
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
