// Zoom and pan: which window of a picture is seen.

const CLOSEST = 12;
const DRAG = 4;

// Ctrl and the wheel, or a pinch, zoom at the pointer; dragging moves; the keys are + \u2212 and 0. Returns
// {zoom(factor), whole(), at(event) -> [x, y] in the picture}.
function zoomable(svg, width, height) {
  let seen = { x: 0, y: 0, width, height };
  const show = (next) => {
    const wide = Math.min(width, Math.max(width / CLOSEST, next.width));
    const high = (wide * height) / width;
    const within = (at, size, all) => Math.max(0, Math.min(all - size, at));
    seen = { x: within(next.x, wide, width), y: within(next.y, high, height), width: wide, height: high };
    svg.setAttribute("viewBox", [seen.x, seen.y, seen.width, seen.height].map((v) => +v.toFixed(3)).join(" "));
    svg.classList.toggle("zoomed", wide < width);
  };
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [seen.x + across * seen.width, seen.y + down * seen.height];
  };
  const zoom = (factor, [x, y] = [seen.x + seen.width / 2, seen.y + seen.height / 2]) => {
    const wide = Math.min(width, Math.max(width / CLOSEST, seen.width / factor));
    const scale = wide / seen.width;
    show({ x: x - (x - seen.x) * scale, y: y - (y - seen.y) * scale, width: wide });
  };
  const whole = () => show({ x: 0, y: 0, width });
  svg.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(2 ** (-event.deltaY / 200), at(event));
    },
    { passive: false },
  );
  svg.addEventListener("keydown", (event) => {
    const done = { "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: whole }[event.key];
    if (!done || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    done();
  });
  listenToDrags(svg, at, ([dx, dy]) => show({ ...seen, x: seen.x - dx, y: seen.y - dy }));
  return { zoom, whole, at };
}

// Tells how far the picture was dragged, in its own units; the click that ends a drag is not one.
function listenToDrags(svg, at, onMove) {
  let held = null;
  let dragged = false;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = { from: at(event), x: event.clientX, y: event.clientY };
    dragged = false;
  });
  svg.addEventListener("pointermove", (event) => {
    if (!held || !(event.buttons & 1)) return;
    dragged ||= Math.hypot(event.clientX - held.x, event.clientY - held.y) > DRAG;
    if (!dragged || !svg.classList.contains("zoomed")) return;
    svg.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    onMove([x - held.from[0], y - held.from[1]]);
  });
  svg.addEventListener("pointerup", () => (held = null));
  svg.addEventListener("click", (event) => dragged && event.stopImmediatePropagation(), { capture: true });
}
