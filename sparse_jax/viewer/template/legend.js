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
      "Each picture is read from the top, where tokens enter, to the bottom, where logits leave. " +
        "A circle is a node, numbered by its channel where there is room; a row is one site of one layer. Nodes are placed so " +
        "that lines are short; their position in a row has no other meaning.",
    ),
    element(
      "ul",
      { class: "legend" },
      sample("positive", "positive weight, wider is stronger"),
      sample("negative", "negative weight"),
      sample(
        "stream",
        "the same residual channel: later nodes on the line read what earlier ones write; not counted as edges",
      ),
      sample("pair", "the query and the key channel that are multiplied; not counted as edges"),
    ),
  );
}
