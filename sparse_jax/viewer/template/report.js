// Reads the data of the page and fills its sections.

function showReport(payload) {
  const at = (id) => document.getElementById(id);
  for (const place of document.querySelectorAll("[data-fill]"))
    place.textContent = asLoss(payload[place.dataset.fill]);
  showTiles(at("tiles"), payload);
  showTable(at("table"), payload);
  showCurves(at("curves"), payload.runs);
  showTasks(at("tasks"), payload);
  at("provenance").append(...payload.provenance.map(([label, text]) => fact(label, text)));
}

showReport(JSON.parse(document.getElementById("data").textContent));
