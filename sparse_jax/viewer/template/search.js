// Finds nodes by name, by what they say, by a token that excites them or that they move, or by the reader's notes.

function matching(circuit, query, notes) {
  const wanted = query.trim().toLowerCase();
  return wanted === "" ? [] : circuit.nodes.filter((node) => searchText(node, notes.of(node)).includes(wanted));
}

function searchText(node, { label = "", group = "", note = "" }) {
  const { said, excited = [], moves = [] } = node.meant ?? {};
  const tokens = [...excited, ...moves].map(([text]) => text);
  return [node.name, node.meaning, said?.[0] ?? "", ...tokens, label, group, note].join("\n").toLowerCase();
}

// `onFound(nodes)` is told what matches while the reader types; Enter goes on to the next of them.
function searchBox(circuit, notes, onFound, onGo) {
  const state = { found: [], next: 0 };
  const count = element("output", { class: "muted" });
  const input = element("input", {
    type: "search",
    placeholder: "node, token or predicate",
    oninput: () => {
      Object.assign(state, { found: matching(circuit, input.value, notes), next: 0 });
      count.textContent = input.value.trim() ? plural(state.found.length, "node") : "";
      onFound(state.found);
    },
    onkeydown: (event) => {
      if (event.key !== "Enter" || state.found.length === 0) return;
      event.preventDefault();
      onGo(state.found[state.next++ % state.found.length]);
      input.focus();
    },
  });
  return element("label", { class: "slider" }, element("span", {}, "find"), input, count);
}
