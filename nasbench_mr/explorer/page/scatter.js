// The scatter plot: points as pixels, axes, front and selection as SVG above them.
//
// In layers, so that no frame paints what has not changed: the ground (grid, and all points faintly where some are
// selected) is kept as pixels; the selected points are painted over a copy of it; what follows the pointer is SVG.
import { svg, el, say, perFrame, sized } from "./dom.js";
import { Scale, short, fixed } from "./scale.js";
import { Picture, outline } from "./paint.js";
import { surface, rampColors, category, rgb } from "./palette.js";
import { FONT, inks, measured } from "./lettering.js";

const MARGIN = { left: 54, right: 14, top: 10, bottom: 42 };
const NEAR = 28; // pixels within which a point is pointed at
const CELL = 16; // pixels of the grid that finds it

export class Scatter {
  constructor(app, box) {
    this.app = app;
    this.box = box;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.svg = svg("svg", { "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: true });
    box.append(this.canvas, this.svg, this.tip);
    this.layers = {};
    for (const name of ["axes", "front", "brush", "climb", "code", "hover"]) {
      this.layers[name] = svg("g", { "data-layer": name });
      this.svg.append(this.layers[name]);
    }
    this.drawn = 0;
    this.painted = { ground: 0, points: 0 }; // how often each layer was painted
    this.hovered = -1;
    this.step = -1; // position on the front
    this.redraw = perFrame(() => this.draw());
    this.room = sized(box, this.redraw);
    this.listen();
  }

  update(changed) {
    const has = (...keys) => keys.some((key) => changed.has(key));
    if (has("space", "x", "y", "colour", "log", "zoom", "theme")) return this.draw();
    if (has("top", "brush", "ranges")) {
      this.paint();
      this.drawBrush();
    }
    return changed.has("code") ? this.drawCode() : undefined;
  }

  /** Draw everything; returns how many points were drawn. */
  draw() {
    const [width, height] = this.room();
    if (!width) return 0;
    const { app } = this;
    this.layout(width, height);
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.ground = new Map();
    this.looks = this.looksOfPoints();
    this.paint();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.index();
    this.drawAxes();
    this.drawFronts();
    this.drawBrush();
    this.drawCode();
    this.point(-1);
    this.step = -1;
    this.describe(app.points);
    return this.drawn;
  }

  /** Set the scales, and the height that the legend takes. */
  layout(width, height) {
    const { app } = this;
    this.size = { width, height };
    this.legend = this.legendItems(width);
    const top = MARGIN.top + this.legend.height;
    this.plot = { left: MARGIN.left, right: width - MARGIN.right, top, bottom: height - MARGIN.bottom };
    this.x = new Scale(app.domains.x, [this.plot.left, this.plot.right], app.logX);
    this.y = new Scale(app.domains.y, [this.plot.bottom, this.plot.top]);
    const { points } = app;
    this.px = new Float64Array(points.count);
    this.py = new Float64Array(points.count);
    for (let k = 0; k < points.count; k++) {
      this.px[k] = this.x.at(points.xs[k]);
      this.py[k] = this.y.at(points.ys[k]);
    }
    const room = Math.sqrt(((this.plot.right - this.plot.left) * (this.plot.bottom - top)) / Math.max(1, points.count));
    this.radius = Math.min(4.5, Math.max(1.7, room * 0.24));
  }

  /** Paint the points: the selected ones over the ground, which is painted only where it is new. */
  paint() {
    const { width, height } = this.canvas;
    if (!this.looks || !width) return;
    const { filtered } = this.app;
    if (!this.ground.has(filtered)) {
      this.ground.set(filtered, this.groundOf(width, height, this.ratio));
      this.painted.ground += 1;
    }
    const picture = this.ground.get(filtered).copy();
    this.drawn = this.paintPoints(picture, this.ratio);
    this.painted.points += 1;
    this.canvas.getContext("2d").putImageData(picture.image, 0, 0);
  }

  /** Return how each point looks: [its shape, its colour], or null where it is not in the plot. */
  looksOfPoints() {
    const { app } = this;
    const { points, colouring, theme } = app;
    const faint = rgb(surface(theme).faint);
    const own = (group) => {
      const { shape, color } = category(theme, group);
      return [shape, rgb(color)];
    };
    const ramp = colouring.kind === "ramp" ? rampColors(theme).map((color) => ["circle", rgb(color)]) : null;
    const plain = own(0);
    plain[0] = "circle";
    const groups = colouring.kind === "category" ? Array.from({ length: colouring.names.length + 1 }, (_, k) => own(k)) : [];
    const warp = (value) => (colouring.column.log ? Math.log(value) : value);
    const [low, high] = ramp ? colouring.domain.map(warp) : [0, 1];
    return points.rows.map((row, k) => {
      if (!this.shows(k)) return null;
      if (ramp) {
        const share = (warp(colouring.column.values[row]) - low) / (high - low);
        return Number.isNaN(share) ? ["circle", faint] : ramp[Math.round(255 * Math.min(1, Math.max(0, share)))];
      }
      if (colouring.kind !== "category") return plain;
      return groups[colouring.ofPoint ? colouring.ofPoint[k] : colouring.ofRow[row]];
    });
  }

  /** Return the points by shape, those that are not selected first: [{shape, alpha, at, colors}]. */
  batches() {
    const { points, mask, theme } = this.app;
    const faint = { shape: "circle", alpha: theme === "dark" ? 0.35 : 0.3, at: [], colors: [] };
    const faintColor = rgb(surface(theme).faint);
    const byShape = new Map();
    for (let k = 0; k < points.count; k++) {
      const look = this.looks[k];
      if (look === null) continue;
      const [shape, color] = mask[points.rows[k]] ? look : [null, faintColor];
      let batch = shape === null ? faint : byShape.get(shape);
      if (!batch) byShape.set(shape, (batch = { shape, alpha: 0.85, at: [], colors: [] }));
      batch.at.push(k);
      batch.colors.push(color);
    }
    return [faint, ...byShape.values()];
  }

  /** Return the grid lines and, where some points are selected, all points faintly. */
  groundOf(width, height, ratio) {
    const { ground, grid, faint } = surface(this.app.theme);
    const picture = new Picture(width, height, ground);
    const { left, right, top, bottom } = this.plot;
    const px = (value) => Math.round(value * ratio);
    const thin = Math.max(1, Math.round(ratio));
    for (const tick of this.x.ticks(this.xTicks())) picture.box(px(this.x.at(tick)), px(top), thin, px(bottom - top), grid);
    for (const tick of this.y.ticks(6)) picture.box(px(left), px(this.y.at(tick)), px(right - left), thin, grid);
    if (this.app.filtered) {
      const at = Array.from(this.looks.keys()).filter((k) => this.looks[k] !== null);
      const color = rgb(faint);
      const alpha = this.app.theme === "dark" ? 0.35 : 0.3;
      picture.points({ at, xs: this.px, ys: this.py, colors: at.map(() => color) }, ratio, { shape: "circle", radius: this.radius, alpha });
    }
    return picture;
  }

  /** Paint the selected points; returns how many points are in the picture with those of the ground. */
  paintPoints(picture, ratio) {
    const [faint, ...selected] = this.batches();
    for (const { shape, alpha, at, colors } of selected) {
      picture.points({ at, xs: this.px, ys: this.py, colors }, ratio, { shape, radius: this.radius, alpha });
    }
    return selected.reduce((sum, { at }) => sum + at.length, faint.at.length);
  }

  /** Return the points and grid lines as pixels. */
  picture(width, height, ratio) {
    const picture = this.groundOf(width, height, ratio);
    this.paintPoints(picture, ratio);
    return picture;
  }

  /** Whether a point lies in the plot; all do where the plot is not zoomed. */
  shows(k) {
    const { left, right, top, bottom } = this.plot;
    const [x, y] = [this.px[k], this.py[k]];
    return x > left - 0.5 && x < right + 0.5 && y > top - 0.5 && y < bottom + 0.5;
  }

  xTicks() {
    return Math.max(3, Math.round((this.plot.right - this.plot.left) / 90));
  }

  text(x, y, content, attributes = {}) {
    const { muted } = inks(this.app.theme);
    return svg("text", { ...FONT, x, y, fill: muted, ...attributes }, content);
  }

  drawAxes() {
    const { left, right, top, bottom } = this.plot;
    const { line, ink } = inks(this.app.theme);
    const { points } = this.app;
    const parts = [svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, stroke: line })];
    let free = -Infinity;
    for (const tick of this.x.ticks(this.xTicks())) {
      const x = this.x.at(tick);
      const label = points.x.log ? short(tick) : String(tick);
      const half = measured(label) / 2 + 4;
      if (x - half < free || x + half > this.size.width) continue; // no label over another
      free = x + half;
      parts.push(this.text(x, bottom + 17, label, { "text-anchor": "middle" }));
    }
    for (const tick of this.y.ticks(6)) {
      parts.push(this.text(left - 8, this.y.at(tick) + 4, short(tick, 4), { "text-anchor": "end" }));
    }
    const title = (column) => column.label + (column.unit ? ` (${column.unit})` : "");
    const bold = { fill: ink, "font-weight": 600 };
    parts.push(this.text((left + right) / 2, bottom + 36, title(points.x), { "text-anchor": "middle", ...bold }));
    const middle = (top + bottom) / 2;
    const turned = { "text-anchor": "middle", transform: `rotate(-90 14 ${middle})`, ...bold };
    parts.push(this.text(14, middle, title(points.y), turned));
    this.layers.axes.replaceChildren(...parts, ...this.legend.draw());
  }

  /** Return the legend: its height, and what draws it. */
  legendItems(width) {
    const { colouring, theme } = this.app;
    const { ink } = inks(theme);
    const text = (x, y, content, attributes) => this.text(x, y, content, { fill: ink, ...attributes });
    if (colouring.kind === "plain") return { height: 0, draw: () => [] };
    const left = MARGIN.left;
    if (colouring.kind === "ramp") {
      const { title, domain, column } = colouring;
      const [low, high] = domain.map((value) => (column.log ? short(value) : fixed(value)));
      return {
        height: 24,
        draw: () => {
          const start = left + measured(title) + 14 + measured(low) + 6;
          const room = width - MARGIN.right - start - measured(high) - 7;
          const step = Math.min(3.5, Math.max(1, room / 32));
          const colors = rampColors(theme).filter((_, k) => k % 8 === 4);
          const bar = colors.map((fill, k) => svg("rect", { x: start + k * step, y: 7, width: step + 0.5, height: 10, fill }));
          return [
            text(left, 16, title, { "font-weight": 600 }),
            text(start - 6, 16, low, { "text-anchor": "end" }),
            ...bar,
            text(start + 32 * step + 7, 16, high),
          ];
        },
      };
    }
    const used = new Set(colouring.ofPoint ?? colouring.ofRow);
    const items = colouring.names.map((name, k) => ({ name, k })).filter(({ k }) => used.has(k));
    let x = left + (colouring.title ? measured(colouring.title) + 14 : 0);
    let y = 16;
    const placed = items.map(({ name, k }) => {
      const room = measured(name) + 30;
      if (x + room > width && x > left) [x, y] = [left, y + 19];
      const at = { x, y, name, k };
      x += room;
      return at;
    });
    return {
      height: y + 8,
      draw: () => [
        ...(colouring.title ? [text(left, 16, colouring.title, { "font-weight": 600 })] : []),
        ...placed.flatMap((item) => {
          const { color, shape } = category(theme, item.k);
          const mark = { d: outline(shape, 4.5), fill: color, transform: `translate(${item.x + 6} ${item.y - 4})` };
          return [svg("path", mark), text(item.x + 15, item.y, item.name)];
        }),
      ],
    };
  }

  drawFronts() {
    const { ink } = inks(this.app.theme);
    const { points, fronts, theme } = this.app;
    const shown = fronts.map((front) => front.filter((k) => this.shows(k)));
    const parts = shown.map((front, group) => {
      const color = points.several ? category(theme, group).color : ink;
      let d = "";
      front.forEach((k, i) => {
        const [x, y] = [this.px[k].toFixed(1), this.py[k].toFixed(1)];
        // Towards dearer networks the best value stays until the next one on the front.
        d += i === 0 ? `M${x} ${y}` : points.x.sign < 0 ? `H${x}V${y}` : `V${y}H${x}`;
      });
      return svg("path", { d, fill: "none", stroke: color, "stroke-width": 1.4, "stroke-linejoin": "round" });
    });
    if (!points.several) {
      const ring = { r: this.radius + 1.2, fill: "none", stroke: ink, "stroke-width": 1.2 };
      parts.push(...shown[0].map((k) => svg("circle", { cx: this.px[k], cy: this.py[k], ...ring })));
    }
    this.layers.front.replaceChildren(...parts);
  }

  drawBrush() {
    const span = this.app.state.brush;
    const { accent } = inks(this.app.theme);
    if (!span || JSON.stringify(span) === JSON.stringify(this.app.state.zoom)) return this.layers.brush.replaceChildren();
    const { left, right, top, bottom } = this.plot;
    const pixels = (scale, values, low, high) =>
      values.map((value) => Math.min(high, Math.max(low, scale.at(value)))).sort((a, b) => a - b);
    const [x0, x1] = pixels(this.x, span.x, left, right);
    const [y0, y1] = pixels(this.y, span.y, top, bottom);
    const look = { fill: accent, "fill-opacity": 0.08, stroke: accent, "stroke-dasharray": "4 3" };
    this.layers.brush.replaceChildren(svg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, ...look }));
  }

  /** Mark the code: a ring where it is tabulated, else where it is expected, with a standard deviation each way. */
  drawCode() {
    const { app } = this;
    const { accent } = inks(app.theme);
    const { ground } = surface(app.theme);
    const { points } = app;
    const parts = [];
    const mark = (x, y, std, known) => {
      if (!Number.isFinite(x) || !Number.isFinite(y)) return;
      const { left, right, top, bottom } = this.plot;
      const clamp = (pixel, least, greatest) => Math.min(greatest, Math.max(least, pixel));
      const off = this.x.at(x) < left || this.x.at(x) > right || this.y.at(y) < top || this.y.at(y) > bottom;
      const cx = clamp(this.x.at(x), left, right).toFixed(1);
      const [low, cy, high] = [y - std, y, y + std].map((value) => clamp(this.y.at(value), top, bottom).toFixed(1));
      if (std > 0 && !off) parts.push(svg("path", { d: `M${cx} ${low}V${high}`, stroke: accent, "stroke-width": 2 }));
      parts.push(svg("circle", { cx, cy, r: this.radius + 5, fill: "none", stroke: ground, "stroke-width": 4.5 }));
      const look = known ? { fill: "none" } : { fill: accent, "fill-opacity": 0.35 };
      if (off) look["stroke-dasharray"] = "3 2"; // beyond the plot: at its edge
      parts.push(svg("circle", { cx, cy, r: this.radius + 5, stroke: accent, "stroke-width": 2.4, ...look }));
    };
    const x = app.place(points.x.key);
    if (points.several) {
      const { row } = app;
      for (let k = 0; k < points.count; k++) if (points.rows[k] === row) mark(points.xs[k], points.ys[k], 0, true);
    } else {
      const y = app.place(points.y.key);
      mark(x.value, y.value, y.known ? 0 : y.std, y.known);
    }
    this.layers.code.replaceChildren(...parts);
  }

  /** Sort the points into cells, to find the nearest one quickly. */
  index() {
    this.cells = new Map();
    for (let k = 0; k < this.app.points.count; k++) {
      if (this.looks[k] === null) continue;
      const key = Math.floor(this.px[k] / CELL) * 4096 + Math.floor(this.py[k] / CELL);
      if (!this.cells.has(key)) this.cells.set(key, []);
      this.cells.get(key).push(k);
    }
  }

  /** Return the nearest point that is selected, or -1. */
  nearest(x, y) {
    const { points, mask } = this.app;
    let [best, least] = [-1, NEAR ** 2];
    const reach = Math.ceil(NEAR / CELL);
    const [column, line] = [Math.floor(x / CELL), Math.floor(y / CELL)];
    for (let i = column - reach; i <= column + reach; i++) {
      for (let j = line - reach; j <= line + reach; j++) {
        for (const k of this.cells.get(i * 4096 + j) ?? []) {
          const distance = (this.px[k] - x) ** 2 + (this.py[k] - y) ** 2;
          if (distance < least && mask[points.rows[k]]) [best, least] = [k, distance];
        }
      }
    }
    return best;
  }

  /** Return a point in words: [[name, value], ...]. */
  facts(k) {
    const { points, table, colouring } = this.app;
    const row = points.rows[k];
    const unit = (column) => (column.unit === "%" ? " %" : "");
    const x = points.x.log ? short(points.xs[k], 4) : fixed(points.xs[k]) + unit(points.x);
    const task = points.several ? table.tasks[points.groups[k]].name : points.y.label;
    const facts = [[task, fixed(points.ys[k]) + unit(points.y)], [points.x.label, x]];
    if (colouring.kind === "ramp" && ![points.x.key, points.y.key].includes(colouring.column.key)) {
      const value = colouring.column.values[row];
      facts.push([colouring.title, colouring.column.log ? short(value, 4) : fixed(value) + unit(colouring.column)]);
    }
    if (colouring.ofRow) facts.push([colouring.title, colouring.names[colouring.ofRow[row]] ?? "–"]);
    return facts;
  }

  /** Show a point's facts beside it; -1 hides them. */
  point(k) {
    if (k === this.hovered && k >= 0) return;
    this.hovered = k;
    this.tip.hidden = k < 0;
    if (k < 0) return this.layers.hover.replaceChildren();
    const { ink } = inks(this.app.theme);
    const [x, y] = [this.px[k], this.py[k]];
    const ring = { cx: x, cy: y, r: this.radius + 3, fill: "none", stroke: ink, "stroke-width": 1.8 };
    this.layers.hover.replaceChildren(svg("circle", ring));
    this.tip.replaceChildren(
      el("dl", {}, ...this.facts(k).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    );
    const right = x < this.size.width / 2;
    this.tip.style.left = right ? `${x + 14}px` : "";
    this.tip.style.right = right ? "" : `${this.size.width - x + 14}px`;
    this.tip.style.top = `${Math.min(this.size.height - 90, Math.max(4, y - 30))}px`;
    return undefined;
  }

  select(k) {
    const { app } = this;
    app.set({ code: app.table.space.code(app.points.rows[k]) });
  }

  /** Say where on the front the keyboard is. */
  describe(points) {
    const front = this.app.fronts.flat().filter((k) => this.shows(k));
    const at = this.step;
    this.box.setAttribute("aria-valuemin", "1");
    this.box.setAttribute("aria-valuemax", String(Math.max(1, front.length)));
    this.box.setAttribute("aria-valuenow", String(Math.max(1, at + 1)));
    const facts = at < 0 ? "" : this.facts(front[at]).map(([name, value]) => `${name} ${value}`).join(", ");
    const overview = `${points.count} points, ${front.length} on the front`;
    this.box.setAttribute("aria-valuetext", at < 0 ? overview : `${at + 1} of ${front.length}: ${facts}`);
  }

  listen() {
    const place = (event) => {
      const { left, top } = this.box.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    let start = null;
    let before = null;
    let dragged = false;
    const span = (x, y) => {
      const { left, right, top, bottom } = this.plot;
      const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
      const pair = (scale, a, b, low, high) =>
        [a, b].map((pixel) => scale.value(clamp(pixel, low, high))).sort((p, q) => p - q);
      return { x: pair(this.x, start[0], x, left, right), y: pair(this.y, start[1], y, top, bottom) };
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      start = place(event);
      before = this.app.state.brush;
      dragged = false;
    });
    this.box.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (start && Math.hypot(x - start[0], y - start[1]) > 5 && !dragged) {
        dragged = true;
        this.box.setPointerCapture(event.pointerId);
        this.point(-1);
      }
      if (dragged) this.app.set({ brush: span(x, y) });
      else this.point(this.nearest(x, y));
    });
    const end = (event) => {
      if (!start) return;
      const [x, y] = place(event);
      if (dragged) this.app.set({ brush: span(x, y) });
      else {
        const k = this.nearest(x, y);
        if (k >= 0) this.select(k);
      }
      start = null;
      dragged = false;
    };
    this.box.addEventListener("pointerup", end);
    this.box.addEventListener("pointercancel", () => {
      if (dragged) this.app.set({ brush: before });
      start = null;
      dragged = false;
    });
    this.box.addEventListener("pointerleave", () => this.point(-1));
    this.box.addEventListener("dblclick", () => this.app.set({ brush: null }));
    this.box.addEventListener("blur", () => this.point(-1));
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  /** Arrow keys move along the front, Enter selects, Escape takes the brush away. */
  key(event) {
    const front = this.app.fronts.flat().filter((k) => this.shows(k));
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
    const { length } = front;
    let step = this.step;
    if (event.key in moves) step = step < 0 ? (moves[event.key] > 0 ? 0 : length - 1) : step + moves[event.key];
    else if (event.key === "Home") step = 0;
    else if (event.key === "End") step = length - 1;
    else if (event.key === "Enter" || event.key === " ") {
      if (this.step < 0) return;
      this.select(front[this.step]);
      say("Network selected");
    } else if (event.key === "Escape") this.app.set({ brush: null });
    else return;
    event.preventDefault();
    this.step = Math.min(length - 1, Math.max(-1, step));
    if (event.key in moves) this.step = Math.max(0, this.step);
    if (this.step >= 0 && event.key !== "Escape") this.point(front[this.step]);
    this.describe(this.app.points);
  }
}
