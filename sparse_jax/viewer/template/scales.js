// From values to pixels, and which values get a tick.

function linearScale([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function logScale([low, high], range) {
  const scale = linearScale([Math.log(low), Math.log(high)], range);
  return (value) => scale(Math.log(value));
}

// Round values in [low, high], about `wanted` of them.
function linearTicks(low, high, wanted) {
  const raw = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    ticks.push(+(i * step).toPrecision(12));
  return ticks;
}

// Some factors times powers of ten in [low, high]: as few factors as give at least `wanted` ticks; where none
// do, the range is so narrow that even steps are easier to read.
function logTicks(low, high, wanted) {
  for (const factors of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const factor of factors) ticks.push(+`${factor}e${power}`);
    }
    const inside = ticks.filter((tick) => tick >= low && tick <= high);
    if (inside.length >= wanted) return inside;
  }
  return linearTicks(low, high, wanted).filter((tick) => tick > 0);
}

// The smallest and the largest of some values; null when there are none.
function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

// Values by what `key` says of each, in order of first appearance.
function grouped(values, key) {
  const groups = new Map();
  for (const value of values) {
    if (!groups.has(key(value))) groups.set(key(value), []);
    groups.get(key(value)).push(value);
  }
  return groups;
}
