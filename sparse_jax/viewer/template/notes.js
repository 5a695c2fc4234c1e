// What a reader writes about nodes: a label, a group and a note each, by the node's key.

const NOTE_FIELDS = ["label", "group", "note"];
const GROUP_COLORS = 6;

// {key: {label, group, note}} of what was read, with texts only. Throws for anything else.
function checkedNotes(found) {
  const isPlain = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isPlain(found)) throw new Error("notes are an object, by node");
  return Object.fromEntries(
    Object.entries(found).map(([key, note]) => {
      if (!isPlain(note)) throw new Error(`the note of ${key} is not an object`);
      const kept = NOTE_FIELDS.filter((field) => typeof note[field] === "string" && note[field] !== "");
      return [key, Object.fromEntries(kept.map((field) => [field, note[field]]))];
    }),
  );
}

// The notes of this page. `onChange()` is told of every change.
function notebook(start, onChange) {
  const all = { ...start };
  return {
    all,
    of: (node) => all[node.key] ?? {},
    groups: () => [...new Set(Object.values(all).map((note) => note.group).filter(Boolean))].sort(),
    write: (node, field, text) => {
      const note = { ...all[node.key], [field]: text };
      if (text === "") delete note[field];
      if (Object.keys(note).length) all[node.key] = note;
      else delete all[node.key];
      onChange();
    },
    add: (notes) => {
      Object.assign(all, notes);
      onChange();
    },
  };
}

// The group's color, the same in every picture.
function groupClass(notes, node) {
  const number = notes.groups().indexOf(notes.of(node).group);
  return number === -1 ? null : `group-${number % GROUP_COLORS}`;
}

// Fields for the reader beside a node.
function noteFields(node, notes) {
  const told = notes.of(node);
  const field = (name, tag, rest) =>
    element(
      "label",
      { class: "note-field" },
      element("span", {}, name),
      Object.assign(
        // the placeholder tells the style sheet that nothing is written here
        element(tag, { ...rest, placeholder: " ", "data-note": name, oninput: (event) => notes.write(node, name, event.target.value) }),
        { value: told[name] ?? "" },
      ),
    );
  const known = element("datalist", { id: "groups" }, notes.groups().map((group) => element("option", { value: group })));
  return [
    element("h5", { class: "notes-title" }, "Your notes"),
    field("label", "input", { type: "text" }),
    field("group", "input", { type: "text", list: "groups" }),
    known,
    field("note", "textarea", { rows: 2 }),
  ];
}

// Notes as a file, and read again.
function notesBar(notes) {
  const told = element("output", { class: "muted" });
  const count = () => plural(Object.keys(notes.all).length, "node");
  const write = () => {
    download("notes.json", new Blob([JSON.stringify(notes.all, null, 1)]));
    told.textContent = `wrote the notes of ${count()}`;
  };
  const read = async (event) => {
    try {
      notes.add(checkedNotes(JSON.parse(await event.target.files[0].text())));
      told.textContent = `there are notes of ${count()}`;
    } catch (error) {
      told.textContent = `these are no notes: ${error.message}`;
    }
    event.target.value = "";
  };
  return element(
    "p",
    { class: "notes-bar" },
    "Your notes are kept in the address of the page. ",
    element("button", { type: "button", class: "go", onclick: write }, "Save them as a file"),
    " ",
    element(
      "label",
      { class: "file" },
      "read a file ",
      element("input", { type: "file", accept: "application/json,.json", onchange: read }),
    ),
    " ",
    told,
  );
}
