// Elements of the page. Texts only ever become text nodes, so that no text can turn into markup.

function element(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

function graphic(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnished(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null));
  return made;
}

// A text that only screen readers see.
function spoken(text) {
  return element("span", { class: "spoken" }, text);
}

// Exchanges what is in `host`; the focus stays with the element of the same label.
function refill(host, ...parts) {
  const label = host.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  host.replaceChildren(...parts);
  if (label === null) return;
  const labelled = [...host.querySelectorAll("[aria-label]")];
  labelled.find((each) => each.getAttribute("aria-label") === label)?.focus({ preventScroll: true });
}

// Calls `draw(width)` once `host` has a width and whenever that has changed; in a frame of its own, for
// drawing changes sizes and must not do so while these are being observed. Returns a function that does
// so at once.
function whenResized(host, draw) {
  let width = 0;
  const check = () => {
    const now = Math.floor(host.clientWidth);
    if (now === width || now === 0) return;
    width = now;
    draw(width);
  };
  new ResizeObserver(() => requestAnimationFrame(check)).observe(host);
  return check;
}
