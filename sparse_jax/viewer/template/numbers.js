// How numbers are written. A missing one is a dash, never a 0.

const MISSING = "\u2013";

function isMissing(value) {
  return value === null || value === undefined;
}

function asCount(value) {
  return isMissing(value) ? MISSING : Math.round(value).toLocaleString("en-US");
}

function asLoss(value) {
  return isMissing(value) ? MISSING : value.toFixed(3);
}

function asRatio(value) {
  if (isMissing(value)) return MISSING;
  return (value >= 100 ? asCount(value) : value.toPrecision(value >= 10 ? 3 : 2)) + "\u00d7";
}

function asMean(value) {
  return isMissing(value) ? MISSING : value >= 100 ? asCount(value) : value.toPrecision(3);
}

// Three significant digits and a real minus sign.
function asWeight(value) {
  if (isMissing(value)) return MISSING;
  const size = Math.abs(value);
  const digits =
    size >= 100 ? asCount(size) : size < 0.001 && size > 0 ? size.toExponential(1) : size.toPrecision(3);
  return (value < 0 ? "\u2212" : "") + digits;
}

function asPercent(value) {
  return isMissing(value) ? MISSING : +(100 * value).toPrecision(3) + "\u2009%";
}

function plural(value, noun) {
  return asCount(value) + "\u00a0" + noun + (value === 1 ? "" : "s");
}

// 1500 -> "1.5k": for axes.
function asStep(value) {
  if (value >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  return value >= 1000 ? +(value / 1000).toPrecision(3) + "k" : String(value);
}
