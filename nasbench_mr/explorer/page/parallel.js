// Parallel coordinates: an axis a metric, a line a network. Spans of axes select, here and in the scatter.
import { svg, el, byId, perFrame, sized } from "./dom.js";
import { Scale, extent, padded, short, fixed } from "./scale.js";
import { surface, rampColors, category } from "./palette.js";
import { FONT, inks, clipped } from "./lettering.js";

const TOP = 44;
const BOTTOM = 42;
const HEIGHT = 300; // as in the style sheet
const LEAST = 84; // pixels between two axes; below it the view scrolls

export class Parallel {
  constructor(app, box) {
    this.app = app;
    this.box = box;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.svg = svg("svg", { role: "group", "aria-label": "Axes; every handle is a slider" });
    this.code = svg("g", { "aria-hidden": "true" });
    box.append(this.canvas, this.svg);
    this.redraw = perFrame(() => this.draw());
    this.room = sized(box.parentElement, this.redraw);
    this.listen();
  }

  update(changed) {
    if (changed.has("space") || changed.has("axes") || changed.has("theme") || changed.has("colour")) this.draw();
    else if (["x", "y", "top", "brush", "ranges"].some((key) => changed.has(key))) this.draw();
    else if (changed.has("code")) this.drawCode();
  }

  /** Return the columns that are axes. */
  get columns() {
    const { table, state } = this.app;
    const costs = ["macs"].map((key) => table.columns.get(key)).filter(Boolean);
    const metrics = [...table.columns.values()].filter((column) => column.metric);
    return [...costs, ...(state.axes === "all" ? metrics : table.objectives)];
  }

  draw() {
    const { app, columns } = this;
    const [room] = this.room();
    if (!room) return;
    const width = Math.max(room, columns.length * LEAST);
    this.box.style.width = `${width}px`;
    const height = HEIGHT;
    this.size = { width, height };
    const side = width / columns.length / 2;
    this.axes = columns.map((column, k) => {
      const whole = extent(column.values, column.log);
      const domain = padded(column.log ? whole : usual(column.values, whole), 0.02, column.log);
      // Better is up, on every axis.
      const range = column.sign > 0 || column.log ? [height - BOTTOM, TOP] : [TOP, height - BOTTOM];
      const scale = new Scale(domain, range, column.log);
      return { column, whole, scale, x: side + (k * (width - 2 * side)) / Math.max(1, columns.length - 1) };
    });
    this.drawLines();
    this.drawAxes();
    this.drawCode();
    byId("parallel-hint").textContent = app.filtered
      ? "The figure under an axis is the median rank of the selected networks: 100 is the best, 50 what chance gives."
      : "Drag along an axis, or move its handles with the arrow keys, to select networks here and above. Values far from all others are drawn at the axis's end.";
  }

  drawLines() {
    const { app } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { width, height } = this.size;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const { mask, filtered, theme, colouring, table } = app;
    const heights = this.axes.map(({ column, scale }) => Float32Array.from(column.values, (value) => scale.at(inside(value, scale.domain))));
    const xs = this.axes.map((axis) => axis.x);
    const trace = (path, row) => {
      let pen = false;
      for (let k = 0; k < xs.length; k++) {
        const y = heights[k][row];
        if (Number.isNaN(y)) pen = false; // a gap where the network has no result
        else if (pen) path.lineTo(xs[k], y);
        else path.moveTo(xs[k], y), (pen = true);
      }
    };
    const { faint } = surface(theme);
    const colors = rampColors(theme);
    const groups = new Map();
    let selected = 0;
    for (let row = 0; row < table.rows; row++) {
      let color = faint;
      if (mask[row]) {
        selected += 1;
        if (colouring.kind === "ramp") {
          const { column, domain } = colouring;
          const [low, high, value] = [...domain, column.values[row]].map((v) => (column.log ? Math.log(v) : v));
          const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
          color = Number.isNaN(share) ? faint : colors[Math.round(share * 15) * 17];
        } else if (colouring.ofRow) color = category(theme, colouring.ofRow[row]).color;
        else color = category(theme, 0).color;
      }
      // Lines of one path do not darken each other, so a path holds few.
      const key = `${mask[row]} ${color} ${mask[row] ? Math.floor(row / 24) : 0}`;
      if (!groups.has(key)) groups.set(key, { color, on: mask[row], path: new Path2D() });
      trace(groups.get(key).path, row);
    }
    const alpha = Math.min(0.9, Math.max(0.07, 60 / Math.max(1, selected)));
    for (const { color, on, path } of [...groups.values()].sort((a, b) => a.on - b.on)) {
      context.globalAlpha = on ? alpha : filtered ? 0.05 : 0.1;
      context.strokeStyle = color;
      context.lineWidth = on ? 1.1 : 0.8;
      context.stroke(path);
    }
  }

  /** Return the median rank of the selected rows in a column. */
  median(column) {
    const ranks = this.app.table.ranks(column);
    const own = Array.from(ranks).filter((rank, row) => this.app.mask[row] && !Number.isNaN(rank)).sort((a, b) => a - b);
    return own.length ? own[Math.floor(own.length / 2)] : NaN;
  }

  drawAxes() {
    const { app } = this;
    const { ink, muted, line, accent } = inks(app.theme);
    const { ground } = surface(app.theme);
    const bottom = this.size.height - BOTTOM;
    const held = document.activeElement?.dataset?.handle;
    const halo = { "paint-order": "stroke", stroke: ground, "stroke-width": 3, "stroke-linejoin": "round" };
    const parts = this.axes.flatMap(({ column, x, scale }, k) => {
      const text = (y, content, look) => svg("text", { ...FONT, x, y, "text-anchor": "middle", fill: muted, ...look }, content);
      const short_ = (value) => (column.log ? short(value) : String(value));
      const clear = (tick) => Math.min(scale.at(tick) - TOP, bottom - scale.at(tick)) > 9; // of the handles
      const ticks = scale.ticks(4).filter(clear).map((tick) =>
        svg("text", { ...FONT, "font-size": 10, x: x + 5, y: scale.at(tick) + 3.5, fill: muted, ...halo }, short_(tick)),
      );
      const room = this.size.width / this.axes.length - 8;
      const name = clipped(column.task ? column.task.name : column.label, room);
      const under = column.metric ? clipped(column.metric.name, room) : "";
      const span = app.state.ranges[column.key];
      const [low, high] = (span ?? scale.domain).map((value) => inside(value, scale.domain));
      const [a, b] = [scale.at(low), scale.at(high)].sort((p, q) => p - q);
      const box = span ? [svg("rect", { x: x - 7, y: a, width: 14, height: b - a, fill: accent, "fill-opacity": 0.18, stroke: accent })] : [];
      const rank = this.median(column);
      const share = app.filtered && column.metric && Number.isFinite(rank) ? String(Math.round(rank)) : "";
      return [
        svg("path", { d: `M${x} ${TOP - 4}V${bottom + 4}`, stroke: line, "stroke-width": 1.5 }),
        ...box,
        ...ticks,
        text(14, name, { fill: ink, "font-weight": 600 }),
        text(28, under, {}),
        text(bottom + 22, share, { fill: accent, "font-weight": 700, "font-size": 13 }),
        text(bottom + 36, share ? "median rank" : "", { "font-size": 10 }),
        this.handle(k, "least", low, low, high),
        this.handle(k, "greatest", high, low, high),
      ];
    });
    this.svg.setAttribute("viewBox", `0 0 ${this.size.width} ${this.size.height}`);
    this.svg.replaceChildren(...parts, this.code);
    if (held) this.svg.querySelector(`[data-handle="${held}"]`)?.focus();
  }

  /** Return one end of an axis's span: a slider for the keyboard, which the pointer can drag as well. */
  handle(k, end, value, low, high) {
    const { column, x, scale } = this.axes[k];
    const { ink, accent } = inks(this.app.theme);
    const set = column.key in this.app.state.ranges;
    const said = (v) => (column.log ? short(v) : fixed(v));
    return svg("rect", {
      x: x - 8, y: scale.at(value) - 2.5, width: 16, height: 5, rx: 2.5, fill: set ? accent : ink,
      tabindex: 0, role: "slider", "data-handle": `${column.key} ${end}`, "aria-orientation": "vertical",
      "aria-label": `${column.label}, ${end}`, "aria-valuemin": scale.domain[0], "aria-valuemax": scale.domain[1],
      "aria-valuenow": value, "aria-valuetext": said(value),
      cursor: "ns-resize",
      onkeydown: (event) => this.key(event, k, end, low, high),
    });
  }

  key(event, k, end, low, high) {
    const { scale } = this.axes[k];
    const moves = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };
    if (event.key === "Escape") return this.span(this.axes[k], null);
    if (!(event.key in moves)) return undefined;
    event.preventDefault();
    const step = moves[event.key] * (event.key.startsWith("Page") ? 2 : 1) * 0.02;
    const move = (value) => {
      const [from, to] = scale.domain.map((v) => scale.warp(v));
      const at = Math.min(to, Math.max(from, scale.warp(value) + step * (to - from)));
      return scale.log ? 10 ** at : at;
    };
    const span = end === "least" ? [Math.min(move(low), high), high] : [low, Math.max(move(high), low)];
    return this.span(this.axes[k], span);
  }

  /** Set, or with null remove, an axis's span; one that covers the axis is none. */
  span({ column, scale, whole }, span) {
    const ranges = { ...this.app.state.ranges };
    delete ranges[column.key];
    if (span) {
      // The ends of an axis stand for what lies beyond as well.
      const [first, last] = scale.domain;
      const low = span[0] <= first ? Math.min(first, whole[0]) : span[0];
      const high = span[1] >= last ? Math.max(last, whole[1]) : span[1];
      if (low > Math.min(first, whole[0]) || high < Math.max(last, whole[1])) ranges[column.key] = [low, high];
    }
    this.app.set({ ranges });
  }

  drawCode() {
    const { app } = this;
    const { accent } = inks(app.theme);
    const { ground } = surface(app.theme);
    const places = this.axes.map(({ column, x, scale }) => [x, scale.at(inside(app.place(column.key).value, scale.domain))]);
    const known = places.filter(([, y]) => Number.isFinite(y));
    const d = known.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    this.code.replaceChildren(
      svg("path", { d, fill: "none", stroke: ground, "stroke-width": 5 }),
      svg("path", { d, fill: "none", stroke: accent, "stroke-width": 2.2, "stroke-linejoin": "round" }),
      ...known.map(([x, y]) => svg("circle", { cx: x, cy: y, r: 3.5, fill: accent, stroke: ground, "stroke-width": 1.5 })),
    );
  }

  listen() {
    let drag = null;
    const place = (event) => {
      const { left, top } = this.box.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    this.box.addEventListener("pointerdown", (event) => {
      const [x, y] = place(event);
      const k = this.axes.findIndex((axis) => Math.abs(axis.x - x) < 14);
      if (k < 0 || event.button !== 0) return;
      const { column, scale } = this.axes[k];
      const end = event.target.dataset?.handle?.split(" ").at(-1);
      const span = this.app.state.ranges[column.key] ?? scale.domain;
      // A handle moves its end; anywhere else on the axis a new span begins.
      drag = { k, from: end === "least" ? scale.at(span[1]) : end === "greatest" ? scale.at(span[0]) : y, start: y };
      this.box.setPointerCapture(event.pointerId);
    });
    this.box.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const [, y] = place(event);
      const { scale } = this.axes[drag.k];
      if (Math.abs(y - drag.start) < 3) return;
      const [above, below] = [TOP, this.size.height - BOTTOM];
      const clamp = (pixel) => Math.min(below, Math.max(above, pixel));
      this.span(this.axes[drag.k], [clamp(drag.from), clamp(y)].map((p) => scale.value(p)).sort((a, b) => a - b));
      drag.moved = true;
    });
    this.box.addEventListener("pointerup", () => {
      if (drag && !drag.moved) this.span(this.axes[drag.k], null);
      drag = null;
    });
    this.box.addEventListener("pointercancel", () => (drag = null));
  }
}

const inside = (value, [low, high]) => Math.min(high, Math.max(low, value));

/** Return the span of an axis: of all values, but for a few that are far from all others. */
function usual(values, [low, high]) {
  const sorted = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const reach = 2.5 * (at(0.95) - at(0.05));
  return reach > 0 ? [Math.max(low, at(0.05) - reach), Math.min(high, at(0.95) + reach)] : [low, high];
}
