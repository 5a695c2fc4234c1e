// Which node of a picture the reader means, by pointer or by key.

const REACH = 14;

// Pointing finds the nearest node; keys walk along a row and between rows.
function listen(svg, circuit, plan, marks, at, onLook) {
  const nearest = (event) => {
    const [x, y] = at(event);
    let best = null;
    let least = REACH ** 2;
    for (const node of circuit.nodes) {
      if (marks[node.id].classList.contains("out")) continue;
      const distance = (plan.x[node.id] - x) ** 2 + (plan.y[node.id] - y) ** 2;
      if (distance < least) [best, least] = [node, distance];
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => onLook(nearest(event), { pinned: false }));
  svg.addEventListener("pointerleave", () => onLook(null, { pinned: false }));
  svg.addEventListener("click", (event) => {
    const node = nearest(event);
    if (node) focusMark(marks, node);
    onLook(node, { pinned: true });
  });
  svg.addEventListener("focusin", (event) => {
    const mark = event.target.closest("[data-node]");
    if (mark?.matches(":focus-visible")) onLook(circuit.nodes[+mark.dataset.node], { pinned: true });
  });
  svg.addEventListener("keydown", (event) => {
    const mark = event.target.closest("[data-node]");
    if (!mark || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in SIDES) return onLook(circuit.nodes[+mark.dataset.node], { pinned: true, side: SIDES[event.key] });
    const next = event.key === "Escape" ? null : stepFrom(circuit.nodes[+mark.dataset.node], event.key, plan);
    if (next === undefined) return;
    event.preventDefault();
    if (next) focusMark(marks, next);
    onLook(next, { pinned: true });
  });
}

// The node that an arrow key leads to; undefined for other keys.
function stepFrom(node, key, plan) {
  const rows = plan.rows.map((row) => row.segments.flatMap((segment) => segment.nodes));
  const number = rows.findIndex((row) => row.includes(node));
  const along = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (along) return rows[number][rows[number].indexOf(node) + along] ?? node;
  const across = { ArrowUp: -1, ArrowDown: 1 }[key];
  if (!across) return undefined;
  const distance = (other) => Math.abs(plan.x[other.id] - plan.x[node.id]);
  return (
    rows[number + across]?.reduce((best, other) => (distance(other) < distance(best) ? other : best)) ?? node
  );
}

// One node of a picture is in the tab order: the one that was last looked at.
function focusMark(marks, node) {
  marks.forEach((mark) => mark.setAttribute("tabindex", "-1"));
  marks[node.id].setAttribute("tabindex", "0");
  marks[node.id].focus({ preventScroll: false });
}
