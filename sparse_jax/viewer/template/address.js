// What the address of the page says after the #: the task that is open, and the reader's notes.

const NOTES_MARK = "&notes=";

function addressFor(task, notes) {
  const kept = Object.keys(notes).length ? NOTES_MARK + encodeURIComponent(JSON.stringify(notes)) : "";
  return taskHash(task) + kept;
}

function taskHash(task) {
  return "#circuit-" + encodeURIComponent(task);
}

// {task: its hash, notes: null without any}. Notes that cannot be read are none.
function readAddress(hash) {
  const [task, kept] = hash.split(NOTES_MARK);
  if (kept === undefined) return { task, notes: null };
  try {
    return { task, notes: checkedNotes(JSON.parse(decodeURIComponent(kept))) };
  } catch {
    return { task, notes: null };
  }
}

// Inside a notebook's cell the page has no address of its own; then there is nothing to write.
function writeAddress(task, notes) {
  if (location.protocol === "about:") return;
  history.replaceState(null, "", addressFor(task, notes));
}
