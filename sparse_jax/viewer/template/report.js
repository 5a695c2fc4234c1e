// Reads the data of the page and fills its sections.

function showReport(payload) {
  const at = (id) => document.getElementById(id);
  for (const place of document.querySelectorAll("[data-fill]"))
    place.textContent = asLoss(payload[place.dataset.fill]);
  showTiles(at("tiles"), payload);
  showTable(at("table"), payload);
  if (payload.runs.length) showCurves(at("curves"), payload.runs);
  else dropSection("training");
  showTasks(at("tasks"), payload);
  at("provenance").append(...payload.provenance.map(([label, text]) => fact(label, text)));
}

// Without what it is about, a section and the link to it go.
function dropSection(id) {
  document.getElementById(id).remove();
  document.querySelector(`nav a[href="#${id}"]`).remove();
}

showReport(JSON.parse(document.getElementById("data").textContent));
