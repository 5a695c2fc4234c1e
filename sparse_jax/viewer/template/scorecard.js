// The scorecard of a circuit: its verdict in words, and all figures when unfolded.

function scorecardDetails(card) {
  const heads = ["figure", "closed nodes carry", "value", "95 % interval", "unit"];
  const rows = card.figures.map(([name, ablation, value, low, high, unit]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      element("td", {}, ablation),
      element("td", { class: "number" }, asLoss(value)),
      element("td", { class: "number" }, isMissing(low) ? MISSING : `${asLoss(low)} to ${asLoss(high)}`),
      element("td", {}, unit),
    ),
  );
  return [
    element("h5", {}, "Is it what the model uses?"),
    element(
      "ul",
      { class: "said" },
      card.verdict.map((sentence) => element("li", {}, sentence)),
    ),
    element(
      "details",
      {},
      element("summary", {}, `All ${asCount(card.figures.length)} figures, on ${plural(card.pairs, "test pair")}`),
      element(
        "div",
        { class: "scroll" },
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
          element("tbody", {}, rows),
        ),
      ),
    ),
  ];
}
