// Points and lines painted straight into pixels, many times as fast as paths: every point is a small mask laid over
// the ground.
import { rgb } from "./palette.js";

const SAMPLES = 4; // per pixel and side, for smooth edges

/** Whether a point of the unit square around 0 lies in a shape; shapes have about the same area. */
const INSIDE = {
  circle: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.88,
  diamond: (x, y) => Math.abs(x) + Math.abs(y) <= 1.25,
  triangle: (x, y) => y <= 0.8 && y >= -1.1 + Math.abs(x) * 1.55,
};

/** Return the pixels that a shape covers, at least in part: where they are from its centre, and how much of each. */
function maskOf(shape, radius) {
  const half = Math.ceil(radius * 1.25);
  const size = 2 * half + 1;
  const pixels = [];
  for (let j = 0; j < size; j++) {
    for (let i = 0; i < size; i++) {
      let hits = 0;
      for (let b = 0; b < SAMPLES; b++) {
        for (let a = 0; a < SAMPLES; a++) {
          const x = i - half + (a + 0.5) / SAMPLES - 0.5;
          const y = j - half + (b + 0.5) / SAMPLES - 0.5;
          hits += INSIDE[shape](x / radius, y / radius);
        }
      }
      if (hits) pixels.push({ x: i - half, y: j - half, share: hits / SAMPLES ** 2 });
    }
  }
  return { half, pixels };
}

const masks = new Map();

function mask(shape, radius) {
  const key = `${shape} ${radius}`;
  if (!masks.has(key)) masks.set(key, maskOf(shape, radius));
  return masks.get(key);
}

/** An opaque picture of `width` x `height` device pixels. */
export class Picture {
  constructor(width, height, ground) {
    this.image = new ImageData(width, height);
    const [r, g, b] = rgb(ground);
    // Little-endian, as every machine that runs a browser is.
    new Uint32Array(this.image.data.buffer).fill((255 << 24) | (b << 16) | (g << 8) | r);
  }

  /** Return a picture of its own with the same pixels. */
  copy() {
    const made = Object.create(Picture.prototype);
    made.image = new ImageData(new Uint8ClampedArray(this.image.data), this.image.width, this.image.height);
    return made;
  }

  /** Fill a rectangle. */
  box(left, top, width, height, color) {
    const { data } = this.image;
    const [r, g, b] = rgb(color);
    for (let y = Math.max(0, top); y < Math.min(this.image.height, top + height); y++) {
      for (let x = Math.max(0, left); x < Math.min(this.image.width, left + width); x++) {
        data.set([r, g, b], 4 * (y * this.image.width + x));
      }
    }
  }

  /** Draw a line: at each pixel along its longer side, the pixels across it as far as it covers them. */
  line(x0, y0, x1, y1, [r, g, b], { width, alpha }) {
    const { data } = this.image;
    const steep = Math.abs(y1 - y0) > Math.abs(x1 - x0);
    const [from, to, start, stop] = steep ? [y0, y1, x0, x1] : [x0, x1, y0, y1];
    const [along, across] = steep ? [4 * this.image.width, 4] : [4, 4 * this.image.width];
    const slope = (stop - start) / (to - from || 1);
    const half = (width / 2) * Math.sqrt(1 + slope * slope);
    const strength = 256 * alpha;
    const last = Math.round(Math.max(from, to));
    for (let m = Math.round(Math.min(from, to)); m < last; m++) {
      const low = start + (m + 0.5 - from) * slope - half;
      const high = low + 2 * half;
      const end = Math.ceil(high);
      for (let n = low | 0; n < end; n++) {
        const weight = (strength * ((n + 1 < high ? n + 1 : high) - (n > low ? n : low))) | 0;
        const at = m * along + n * across;
        data[at] += ((r - data[at]) * weight + 128) >> 8; // to the nearest: many faint lines add up
        data[at + 1] += ((g - data[at + 1]) * weight + 128) >> 8;
        data[at + 2] += ((b - data[at + 2]) * weight + 128) >> 8;
      }
    }
  }

  /**
   * Paint points of one shape: those numbered `at` of all at `xs`, `ys`; `colors` an [r, g, b] for each of `at`.
   * Places and the radius are multiplied by `ratio`.
   */
  points({ at, xs, ys, colors }, ratio, { shape, radius, alpha }) {
    const { half, pixels } = mask(shape, radius * ratio);
    const { data, width, height } = this.image;
    const offsets = Int32Array.from(pixels, ({ x, y }) => 4 * (y * width + x));
    const weights = Int32Array.from(pixels, ({ share }) => Math.round(256 * share * alpha));
    for (let n = 0; n < at.length; n++) {
      const x = Math.round(xs[at[n]] * ratio);
      const y = Math.round(ys[at[n]] * ratio);
      const [r, g, b] = colors[n];
      const centre = 4 * (y * width + x);
      const whole = x >= half && y >= half && x + half < width && y + half < height;
      for (let i = 0; i < offsets.length; i++) {
        if (!whole) {
          const [left, top] = [x + pixels[i].x, y + pixels[i].y];
          if (left < 0 || top < 0 || left >= width || top >= height) continue;
        }
        const to = centre + offsets[i];
        const weight = weights[i];
        data[to] += ((r - data[to]) * weight) >> 8;
        data[to + 1] += ((g - data[to + 1]) * weight) >> 8;
        data[to + 2] += ((b - data[to + 2]) * weight) >> 8;
      }
    }
  }
}

/** Return the path of a shape around 0, for SVG. */
export function outline(shape, radius) {
  const r = (value) => (value * radius).toFixed(2);
  if (shape === "square") return `M${r(-0.88)} ${r(-0.88)}H${r(0.88)}V${r(0.88)}H${r(-0.88)}Z`;
  if (shape === "diamond") return `M0 ${r(-1.25)}L${r(1.25)} 0L0 ${r(1.25)}L${r(-1.25)} 0Z`;
  if (shape === "triangle") return `M0 ${r(-1.1)}L${r(1.226)} ${r(0.8)}L${r(-1.226)} ${r(0.8)}Z`;
  return `M${r(-1)} 0A${r(1)} ${r(1)} 0 1 0 ${r(1)} 0A${r(1)} ${r(1)} 0 1 0 ${r(-1)} 0Z`;
}
