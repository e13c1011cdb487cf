// Scales of axes: from values to pixels and back, and round ticks.

/** A linear or logarithmic scale. `domain` and `range`: [first, last]; `log`: whether logarithmic. */
export class Scale {
  constructor(domain, range, log = false) {
    this.log = log;
    this.domain = domain;
    this.range = range;
    [this.low, this.high] = domain.map((value) => this.warp(value));
  }

  warp(value) {
    return this.log ? Math.log10(value) : value;
  }

  /** Return the pixel of a value. */
  at(value) {
    const share = (this.warp(value) - this.low) / (this.high - this.low);
    return this.range[0] + share * (this.range[1] - this.range[0]);
  }

  /** Return the value of a pixel. */
  value(pixel) {
    const share = (pixel - this.range[0]) / (this.range[1] - this.range[0]);
    const warped = this.low + share * (this.high - this.low);
    return this.log ? 10 ** warped : warped;
  }

  /** Return about `count` round values. */
  ticks(count) {
    const [low, high] = [Math.min(...this.domain), Math.max(...this.domain)];
    if (!this.log) return steps(low, high, count);
    const decades = Math.log10(high / low);
    // Too few decades for powers of ten: 1, 2 and 5 of each, or steps as on a linear axis.
    const factors = decades > count ? [1] : decades > count / 2.5 ? [1, 3] : decades > 0.9 ? [1, 2, 5] : null;
    if (factors === null) return steps(low, high, count);
    const out = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const factor of factors) out.push(Number(`${factor}e${power}`));
    }
    return out.filter((value) => value >= low && value <= high);
  }
}

function steps(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const out = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) out.push(Number((k * step).toPrecision(12)));
  return out;
}

/** Return the least and the greatest known value, a little apart where they are equal. */
export function extent(values, positive = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low && (!positive || value > 0)) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [positive ? 1 : 0, positive ? 10 : 1];
  return low < high ? [low, high] : [low * 0.9 - (positive ? 0 : 0.5), high * 1.1 + (positive ? 0 : 0.5)];
}

/** Return the domain widened by a share on both sides. */
export function padded([low, high], share, log) {
  if (log) {
    const factor = (high / low) ** share;
    return [low / factor, high * factor];
  }
  return [low - (high - low) * share, high + (high - low) * share];
}

const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** Return a number as short text: 1.25G, 340M, 72.6. */
export function short(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, letter] of UNITS) {
    if (Math.abs(value) >= size * 0.9995) return trimmed(value / size, digits) + letter;
  }
  return trimmed(value, digits);
}

function trimmed(value, digits) {
  if (value === 0) return "0";
  const text = Math.abs(value) >= 10 ** (digits - 1) ? value.toFixed(0) : value.toPrecision(digits);
  const plain = text.includes("e") ? String(Number(text)) : text;
  return plain.includes(".") ? plain.replace(/\.?0+$/, "") : plain;
}

const separated = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** Return a whole number with separators: 1,234,567. */
export const whole = (value) => separated.format(Math.round(value));

/** Return a metric's value with the digits that matter, as the command's tables do: 3 of small ones. */
export const fixed = (value) => {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 0.1 || value === 0 ? value.toFixed(2) : String(Number(value.toPrecision(3)));
};
