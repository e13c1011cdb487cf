// Parallel coordinates: an axis a metric, a line a network. Spans of axes select, here and in the scatter.
//
// In layers: all lines faintly, painted once; the selected ones over a copy of them, in any order and as many a frame
// as it has time for, so that a selection that is being dragged never waits for thousands of lines; axes and the chosen
// network as SVG.
import { svg, el, byId, perFrame, sized } from "./dom.js";
import { Scale, extent, padded, short, fixed } from "./scale.js";
import { Picture } from "./paint.js";
import { surface, rampColors, category, rgb } from "./palette.js";
import { FONT, inks, clipped } from "./lettering.js";

const TOP = 44;
const BOTTOM = 42;
const HEIGHT = 300; // as in the style sheet
const LEAST = 84; // pixels between two axes; below it the view scrolls
const TIME = 2; // milliseconds in which a frame paints lines; the rest follow in the next ones
const FEW = 20; // lines between two looks at the clock

export class Parallel {
  constructor(app, box) {
    this.app = app;
    this.box = box;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.drawn = { all: 0, selected: 0 }; // how often each was begun anew
    this.left = 0; // selected lines that later frames paint
    this.svg = svg("svg", { role: "group", "aria-label": "Axes; every handle is a slider" });
    this.code = svg("g", { "aria-hidden": "true" });
    box.append(this.canvas, this.svg);
    this.redraw = perFrame(() => this.draw());
    this.room = sized(box.parentElement, this.redraw);
    this.listen();
  }

  update(changed) {
    const has = (...keys) => keys.some((key) => changed.has(key));
    if (has("space", "axes", "theme", "colour", "x", "y")) return this.draw();
    if (has("top", "brush", "ranges")) {
      this.drawSelected();
      if (has("ranges")) this.drawAxes();
      else this.drawMedians();
    }
    return has("code") ? this.drawCode() : undefined;
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
    this.heights = this.axes.map(({ column, scale }) => Float32Array.from(column.values, (value) => scale.at(inside(value, scale.domain))));
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.order = shuffled(app.table.rows);
    const { ground, faint } = surface(app.theme);
    this.plain = new Picture(this.canvas.width, this.canvas.height, ground);
    const look = { alpha: Math.min(0.3, Math.max(0.05, 40 / this.order.length)), width: 0.8 };
    this.faint = { picture: this.plain.copy(), rows: [...this.order], colour: () => faint, look };
    this.drawn.all += 1;
    this.drawSelected();
    this.drawAxes();
    this.drawCode();
  }

  /** Draw the selected lines, and say what the figures under the axes are. */
  drawSelected() {
    if (!this.axes) return;
    const { filtered, mask } = this.app;
    const rows = Array.from(this.order).filter((row) => mask[row]);
    const alpha = Math.min(0.9, Math.max(0.07, 60 / Math.max(1, rows.length)));
    this.lines(rows, { alpha, width: 1.1 });
    byId("parallel-hint").textContent = filtered
      ? "The figure under an axis is the median rank of the selected networks: 100 is the best, 50 what chance gives."
      : "Drag along an axis, or move its handles with the arrow keys, to select networks here and above. Values far from all others are drawn at the axis's end.";
  }

  /** Return what gives a row's colour. */
  colours() {
    const { theme, colouring } = this.app;
    const { faint } = surface(theme);
    if (colouring.kind === "ramp") {
      const { column, domain } = colouring;
      const warp = (value) => (column.log ? Math.log(value) : value);
      const [low, high] = domain.map(warp);
      const colors = rampColors(theme);
      return (row) => {
        const share = Math.min(1, Math.max(0, (warp(column.values[row]) - low) / (high - low)));
        return Number.isNaN(share) ? faint : colors[Math.round(share * 15) * 17];
      };
    }
    return (row) => category(theme, colouring.ofRow ? colouring.ofRow[row] : 0).color;
  }

  /** Draw lines instead of those that are there: some now, the others in the next frames, and then the faint ones. */
  lines(rows, look) {
    const { filtered } = this.app;
    if (filtered) this.paint(this.faint, Infinity);
    const picture = (filtered ? this.faint.picture : this.plain).copy();
    const own = { picture, rows, colour: this.colours(), look };
    const show = () => this.canvas.getContext("2d").putImageData(picture.image, 0, 0);
    const turn = (this.drawn.selected += 1);
    const some = () => {
      if (turn !== this.drawn.selected) return; // begun anew
      const job = own.rows.length ? own : this.faint;
      this.paint(job, TIME);
      this.left = own.rows.length;
      if (job === own) show();
      if (this.left || this.faint.rows.length) requestAnimationFrame(some);
    };
    if (!rows.length) show();
    some();
  }

  /** Paint lines for so many milliseconds. */
  paint({ picture, rows, colour, look }, time) {
    const end = performance.now() + time;
    while (rows.length && performance.now() < end) {
      for (const row of rows.splice(-FEW)) this.line(picture, row, rgb(colour(row)), look);
    }
  }

  /** Paint a row's line; it has a gap where the network has no result. */
  line(picture, row, color, { alpha, width }) {
    const { axes, heights, ratio } = this;
    const look = { alpha, width: width * ratio };
    for (let k = 1; k < axes.length; k++) {
      const [from, to] = [heights[k - 1][row], heights[k][row]];
      if (Number.isNaN(from + to)) continue;
      picture.line(axes[k - 1].x * ratio, from * ratio, axes[k].x * ratio, to * ratio, color, look);
    }
  }

  /** Return the median rank of the selected rows in a column. */
  median(column) {
    const { table, mask } = this.app;
    const ranks = table.ranks(column);
    column.byRank ??= Array.from(ranks.keys()).filter((row) => !Number.isNaN(ranks[row])).sort((a, b) => ranks[a] - ranks[b]);
    const own = column.byRank.filter((row) => mask[row]);
    const [low, high] = [own[Math.floor((own.length - 1) / 2)], own[Math.floor(own.length / 2)]];
    return own.length ? (ranks[low] + ranks[high]) / 2 : NaN;
  }

  /** Write the selection's median rank under each axis. */
  drawMedians() {
    for (const { column, median } of this.axes ?? []) {
      const rank = this.app.filtered && column.metric ? this.median(column) : NaN;
      median[0].textContent = Number.isFinite(rank) ? String(Math.round(rank)) : "";
      median[1].textContent = Number.isFinite(rank) ? "median rank" : "";
    }
  }

  drawAxes() {
    const { app } = this;
    const { ink, muted, line, accent } = inks(app.theme);
    const { ground } = surface(app.theme);
    const bottom = this.size.height - BOTTOM;
    const held = document.activeElement?.dataset?.handle;
    const halo = { "paint-order": "stroke", stroke: ground, "stroke-width": 3, "stroke-linejoin": "round" };
    const parts = this.axes.flatMap((axis, k) => {
      const { column, x, scale } = axis;
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
      axis.median = [
        text(bottom + 22, "", { fill: accent, "font-weight": 700, "font-size": 13 }),
        text(bottom + 36, "", { "font-size": 10 }),
      ];
      return [
        svg("path", { d: `M${x} ${TOP - 4}V${bottom + 4}`, stroke: line, "stroke-width": 1.5 }),
        ...box,
        ...ticks,
        text(14, name, { fill: ink, "font-weight": 600 }),
        text(28, under, {}),
        ...axis.median,
        this.handle(k, "least", low, low, high),
        this.handle(k, "greatest", high, low, high),
      ];
    });
    this.svg.setAttribute("viewBox", `0 0 ${this.size.width} ${this.size.height}`);
    this.svg.replaceChildren(...parts, this.code);
    this.drawMedians();
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

/** Return the numbers below `count` in an order that looks random and is always the same. */
function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, k) => k);
  for (let k = count - 1, state = 1; k > 0; k--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (k + 1);
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order;
}

const inside = (value, [low, high]) => Math.min(high, Math.max(low, value));

/** Return the span of an axis: of all values, but for a few that are far from all others. */
function usual(values, [low, high]) {
  const sorted = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const reach = 2.5 * (at(0.95) - at(0.05));
  return reach > 0 ? [Math.max(low, at(0.05) - reach), Math.min(high, at(0.95) + reach)] : [low, high];
}
