// A tab per task; in it the circuits of the models side by side, sharing one panel.

function showTasks(host, payload) {
  const tasks = [...new Set(payload.circuits.map((entry) => entry.task))];
  if (tasks.length === 0) return host.append(element("p", { class: "muted" }, "No circuits in this report."));
  const body = element("div", { role: "tabpanel", id: "task", "aria-labelledby": "task-title" });
  const opened = { task: tasks[0], view: null };
  const notes = notebook(readAddress(location.hash).notes ?? {}, () => {
    writeAddress(opened.task, notes.all);
    opened.view.annotate();
  });
  const tabs = tasks.map((task, i) =>
    element(
      "button",
      {
        type: "button",
        role: "tab",
        "aria-controls": "task",
        onclick: () => open(i),
        onkeydown: (event) => walk(event, i),
      },
      task,
    ),
  );
  const select = (chosen, beside = null) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.setAttribute("tabindex", i === chosen ? "0" : "-1");
    });
    // The page keeps its length while pictures are exchanged, and so its place.
    body.style.minHeight = `${body.offsetHeight}px`;
    const view = taskView(tasks[chosen], payload, notes, beside, (other) => select(chosen, other));
    Object.assign(opened, { task: tasks[chosen], view });
    body.replaceChildren(...view.elements);
    view.draw();
    body.style.minHeight = "";
  };
  const open = (chosen) => {
    select(chosen);
    writeAddress(tasks[chosen], notes.all);
  };
  const walk = (event, i) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (i + step + tasks.length) % tasks.length;
    open(next);
    tabs[next].focus();
  };
  const named = () => tasks.findIndex((task) => taskHash(task) === readAddress(location.hash).task);
  host.append(
    legend(),
    notesBar(notes),
    element("div", { role: "tablist", "aria-label": "Tasks", class: "tabs" }, tabs),
    body,
  );
  select(Math.max(0, named()));
  const follow = () => {
    if (named() === -1) {
      // a link to another part of the page: notes stay in the address
      if (Object.keys(notes.all).length) writeAddress(opened.task, notes.all);
      return;
    }
    select(named());
    notes.add(readAddress(location.hash).notes ?? {});
    body.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  if (named() !== -1) requestAnimationFrame(() => body.scrollIntoView());
}

// Returns the elements of a task, what draws its pictures once these are on the page, and what writes the notes
// on them. beside: the number of a circuit of another task that is shown too, or null.
function taskView(task, payload, notes, beside, onBeside) {
  const circuits = payload.circuits
    .filter((entry, i) => entry.task === task || i === beside)
    .map((entry) => unpacked(entry, payload));
  const panel = element("aside", { class: "panel", "aria-label": "The node looked at" });
  const heard = element("p", { class: "spoken", "aria-live": "polite" });
  const held = { view: null, node: null };
  const refresh = (changed) => {
    Object.assign(choice, changed);
    for (const each of views) each.heads?.refresh();
    show(held.view, held.node, true);
  };
  const choice = {
    pair: 0,
    member: 0,
    side: "all",
    choose: (pair) => refresh({ pair }),
    turn: (member) => refresh({ member }),
    turnTo: (side) => refresh({ side }),
  };
  const onLook = (view, node, { pinned, side }) => {
    if (side) choice.side = side;
    if (pinned) Object.assign(held, { view: node ? view : null, node });
    else if (node === null) [view, node] = [held.view ?? view, held.node];
    show(view, node, Boolean(side));
    if (pinned) heard.textContent = node ? `${node.name}: ${describe(node)}; edges: ${choice.side}` : "";
  };
  const shown = { node: undefined };
  const show = (view, node, anew = false) => {
    if (shown.node === node && !anew) return;
    shown.node = node;
    for (const each of views) each.look(each === view ? node : null);
    const parts = node ? nodePanel(node, view.circuit, choice, notes, (next) => view.go(next)) : hintPanel();
    refill(panel, ...parts.flat(Infinity).filter(Boolean));
  };
  const viewed = (circuit) => {
    const view = circuitView(circuit, choice, notes, onLook, (one) => setBeside(view, one));
    return view;
  };
  const own = circuits.map(viewed);
  let views = own;
  // a pruning of the search of one of them, or nothing
  const setBeside = (view, one) => {
    if (!own.includes(held.view)) onLook(null, null, { pinned: true });
    for (const each of views.slice(own.length)) each.host.remove();
    views = one ? [...own, viewed(unpacked(pruningEntry(view.circuit, one), payload))] : own;
    const added = views[own.length];
    if (added) pictures.append(added.host);
    compared.replaceChildren(comparison(views, added ? [view, added] : null) ?? "");
    added?.draw();
  };
  show(null, null);
  for (const { host, circuit } of own) if (circuit.task !== task) host.prepend(element("h4", { class: "mono" }, circuit.task));
  const compared = element("div", {}, comparison(own, null));
  const pictures = element(
    "div",
    { class: "pictures" },
    own.map((view) => view.host),
  );
  return {
    elements: [
      element("h3", { id: "task-title" }, task),
      besideChoice(task, payload, beside, onBeside) ?? "",
      element("div", { class: "task" }, element("div", {}, pictures, compared), panel),
      heard,
    ],
    draw: () => views.forEach((view) => view.draw()),
    annotate: () => views.forEach((view) => view.annotate()),
  };
}
