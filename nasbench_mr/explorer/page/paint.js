// Points painted straight into pixels, many times as fast as paths: every point is a small mask laid over the ground.
import { rgb } from "./palette.js";

const SAMPLES = 4; // per pixel and side, for smooth edges

/** Whether a point of the unit square around 0 lies in a shape; shapes have about the same area. */
const INSIDE = {
  circle: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.88,
  diamond: (x, y) => Math.abs(x) + Math.abs(y) <= 1.25,
  triangle: (x, y) => y <= 0.8 && y >= -1.1 + Math.abs(x) * 1.55,
};

/** Return how much of each pixel a shape covers. */
function maskOf(shape, radius) {
  const half = Math.ceil(radius * 1.25);
  const size = 2 * half + 1;
  const cover = new Float32Array(size * size);
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
      cover[j * size + i] = hits / SAMPLES ** 2;
    }
  }
  return { half, size, cover };
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

  /** Paint points of one shape: `xs`, `ys` in pixels, `colors` an [r, g, b] each. */
  points(xs, ys, colors, shape, radius, alpha) {
    const { half, size, cover } = mask(shape, radius);
    const { data, width, height } = this.image;
    for (let k = 0; k < xs.length; k++) {
      const left = Math.round(xs[k]) - half;
      const top = Math.round(ys[k]) - half;
      const [r, g, b] = colors[k];
      const whole = left >= 0 && top >= 0 && left + size <= width && top + size <= height;
      for (let j = 0; j < size; j++) {
        const y = top + j;
        if (!whole && (y < 0 || y >= height)) continue;
        let at = 4 * (y * width + left);
        for (let i = 0; i < size; i++, at += 4) {
          const share = cover[j * size + i];
          if (share === 0) continue;
          if (!whole && (left + i < 0 || left + i >= width)) continue;
          const weight = share * alpha;
          data[at] += weight * (r - data[at]);
          data[at + 1] += weight * (g - data[at + 1]);
          data[at + 2] += weight * (b - data[at + 2]);
        }
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
