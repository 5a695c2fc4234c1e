// How to read the pictures.

function legend() {
  const sample = (kind, text) =>
    element(
      "li",
      {},
      graphic(
        "svg",
        { width: 34, height: 12, "aria-hidden": "true", class: "sample" },
        graphic("path", {
          class: kind,
          d: kind === "pair" ? "M2 10Q17 -4 32 10" : "M2 6H32",
          "stroke-width": 2.5,
        }),
      ),
      text,
    );
  return element(
    "div",
    { class: "lead" },
    element(
      "p",
      {},
      "Each picture is read from the top, where the tokens come in, to the bottom, where the logits go out. " +
        "A circle is a node, numbered by its channel where there is room; a row is one site of one layer. Nodes are placed so " +
        "that lines are short; their place in a row means nothing else.",
    ),
    element(
      "ul",
      { class: "legend" },
      sample("positive", "positive weight, wider is stronger"),
      sample("negative", "negative weight"),
      sample(
        "stream",
        "the same residual channel: what one node writes to it, the later ones on the line read; not counted as edges",
      ),
      sample("pair", "the query and the key channel that are multiplied; not counted as edges"),
    ),
  );
}
