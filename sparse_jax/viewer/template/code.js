// The circuit as a program, folded; its text can be copied.

function codeDetails(code) {
  const copied = element("output", { class: "muted" });
  const copy = () => {
    const told = (text) => () => (copied.textContent = text);
    const done = navigator.clipboard?.writeText(code) ?? Promise.reject();
    done.then(told(" copied"), told(" please select the text and copy it"));
  };
  return element(
    "details",
    { class: "code" },
    element("summary", {}, `The circuit as code, ${plural(code.trimEnd().split("\n").length, "line")}`),
    element("button", { type: "button", class: "go", onclick: copy }, "Copy"),
    copied,
    element("pre", { tabindex: "0" }, code),
  );
}
