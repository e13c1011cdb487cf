// What a reader takes away: links, code to copy, pictures.
import { byId, say } from "./dom.js";
import { surface } from "./palette.js";
import { outline } from "./paint.js";

// Of the state: the name in the link, and how a value is written and read; undefined where it makes no sense.
const FIELDS = {
  space: ["space", String, (text, app) => (Number(text) in app.tables ? Number(text) : undefined)],
  x: ["x", String, (text, app) => (app.table.columns.has(text) ? text : undefined)],
  y: ["y", String, (text, app) => (app.table.columns.has(text) || text === "*" || text === "*rank" ? text : undefined)],
  colour: ["c", String, (text, app) => (["", "task", "best", "stratum"].includes(text) || app.table.columns.has(text) ? text : undefined)],
  log: ["log", Number, (text) => text !== "0"],
  top: ["top", String, (text) => (Number(text) >= 1 && Number(text) <= 100 ? Math.round(Number(text)) : undefined)],
  brush: ["brush", ({ x, y }) => [...x, ...y].map(brief).join(), (text) => readBrush(text)],
  zoom: ["zoom", ({ x, y }) => [...x, ...y].map(brief).join(), (text) => readBrush(text)],
  ranges: ["span", writeRanges, readRanges],
  axes: ["axes", String, (text) => (["objectives", "all"].includes(text) ? text : undefined)],
  code: ["code", (code, { space }) => (space.integers ? code.join() : space.text(code)), (text, app) => app.table.space.parse(text) ?? undefined],
  goals: ["goals", (goals) => goals.join(), readGoals],
  limit: ["limit", String, (text) => (Number(text) > 0 ? Number(text) : undefined)],
  theme: ["theme", String, (text) => (["light", "dark"].includes(text) ? text : undefined)],
};

const brief = (value) => Number(value.toPrecision(12));

function readBrush(text) {
  const [x0, x1, y0, y1] = text.split(",").map(Number);
  return [x0, x1, y0, y1].every(Number.isFinite) && x0 < x1 && y0 < y1 ? { x: [x0, x1], y: [y0, y1] } : undefined;
}

function writeRanges(ranges) {
  return Object.entries(ranges).map(([key, span]) => `${key}:${span.map(brief).join("~")}`).join();
}

function readRanges(text, app) {
  const ranges = {};
  for (const part of text.split(",")) {
    const [key, span] = [part.slice(0, part.lastIndexOf(":")), part.slice(part.lastIndexOf(":") + 1)];
    const [low, high] = span.split("~").map(Number);
    if (app.table.columns.has(key) && Number.isFinite(low) && Number.isFinite(high)) ranges[key] = [low, high];
  }
  return ranges;
}

function readGoals(text, app) {
  const known = text.split(",").filter((name) => app.table.tasks.some((task) => task.name === name));
  return known.length ? known : undefined;
}

/** Keeps the address: its hash says what is shown. */
export class Link {
  constructor(app) {
    this.app = app;
    addEventListener("hashchange", () => {
      if (location.hash !== this.written) this.read();
    });
    byId("copy-link").addEventListener("click", () => {
      this.write();
      copy(location.href, "Link copied");
    });
  }

  /** Show what the address says. */
  read() {
    const { app } = this;
    const found = new URLSearchParams(location.hash.slice(1));
    const space = found.has("space") ? FIELDS.space[2](found.get("space"), app) : undefined;
    const start = app.defaults(space ?? 0);
    app.state.space = start.space; // what the other fields are checked against
    for (const [key, [name, , read]] of Object.entries(FIELDS)) {
      const value = found.has(name) ? read(found.get(name), app) : undefined;
      if (value !== undefined) start[key] = value;
    }
    app.changed = new Set(Object.keys(start));
    Object.assign(app.state, start);
    app.flush();
  }

  update() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), 200); // browsers limit how often an address may change
  }

  write() {
    const { app } = this;
    const start = app.defaults(app.state.space);
    const out = new URLSearchParams();
    for (const [key, [name, write]] of Object.entries(FIELDS)) {
      const value = app.state[key];
      const usual = key === "space" ? 0 : start[key];
      if (value !== null && JSON.stringify(value) !== JSON.stringify(usual)) out.set(name, write(value, app.table));
    }
    this.written = `#${out}`;
    if (location.hash !== this.written && (location.hash || this.written !== "#")) history.replaceState(null, "", this.written);
  }
}

/** The code in the forms in which it is used elsewhere. */
export function snippets(app) {
  const { code } = app.state;
  const { space, tasks } = app.table;
  const task = app.table.columns.get(app.state.y)?.task ?? tasks[0];
  const { release } = task;
  const text = space.text(code);
  return {
    code: text,
    python: [
      "import nasbench_mr",
      "",
      `bench = nasbench_mr.load(${JSON.stringify(release)})`,
      `result = bench.query((${code.join(", ")}), ${JSON.stringify(task.name)})`,
      `print(result[${JSON.stringify(task.objective)}], result.source)`,
      "",
    ].join("\n"),
    command: `nasbench-mr query '${text}' --release ${release}`,
  };
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Where a page from disk may not use the clipboard: select a field and copy that.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say(done);
  const shown = byId("toast");
  shown.textContent = done;
  shown.hidden = false;
  clearTimeout(copy.timer);
  copy.timer = setTimeout(() => (shown.hidden = true), 1800);
}

/** The buttons that copy and save. */
export class Share {
  constructor(app, scatter) {
    for (const [id, what] of [["code", "Code"], ["python", "Python"], ["command", "Command"]]) {
      byId(`copy-${id}`).addEventListener("click", () => copy(snippets(app)[id], `${what} copied`));
    }
    const name = () => `nasbench-mr-${app.state.y.replace(/[^A-Za-z0-9-]+/g, "-")}`;
    byId("svg").addEventListener("click", () => save(new Blob([asSvg(scatter)], { type: "image/svg+xml" }), `${name()}.svg`));
    byId("png").addEventListener("click", () => asPng(scatter).toBlob((blob) => save(blob, `${name()}.png`)));
  }

  update() {}
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Return the plot as the text of an SVG file: the same axes and marks, and every point as a path. */
export function asSvg(scatter) {
  const { width, height } = scatter.size;
  const { ground, grid } = surface(scatter.app.theme);
  const { left, right, top, bottom } = scatter.plot;
  const lines = [
    ...scatter.x.ticks(scatter.xTicks()).map((tick) => `M${scatter.x.at(tick).toFixed(1)} ${top}V${bottom}`),
    ...scatter.y.ticks(6).map((tick) => `M${left} ${scatter.y.at(tick).toFixed(1)}H${right}`),
  ];
  const points = scatter.batches().map(({ shape, alpha, at, colors }) => {
    const marks = at.map((k, i) => {
      const color = `rgb(${colors[i].join()})`;
      return `<path transform="translate(${scatter.px[k].toFixed(1)} ${scatter.py[k].toFixed(1)})" d="${outline(shape, scatter.radius)}" fill="${color}"/>`;
    });
    return `<g class="points" fill-opacity="${alpha}">${marks.join("")}</g>`;
  });
  const writer = new XMLSerializer();
  const layers = Object.entries(scatter.layers).filter(([key]) => key !== "hover").map(([, layer]) => writer.serializeToString(layer));
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">` +
    `<rect width="${width}" height="${height}" fill="${ground}"/><path d="${lines.join("")}" stroke="${grid}" fill="none"/>` +
    `${points.join("")}${layers.join("")}</svg>`
  );
}

/** Return the plot as a canvas, twice as fine as on the screen. */
export function asPng(scatter) {
  const ratio = 2;
  const canvas = document.createElement("canvas");
  canvas.width = scatter.size.width * ratio;
  canvas.height = scatter.size.height * ratio;
  const context = canvas.getContext("2d");
  context.putImageData(scatter.picture(canvas.width, canvas.height, ratio).image, 0, 0);
  context.scale(ratio, ratio);
  for (const [key, layer] of Object.entries(scatter.layers)) if (key !== "hover") paint(context, layer);
  return canvas;
}

/** Paint SVG elements on a canvas: those that the plot is made of. An image of the SVG would need a laxer policy. */
function paint(context, element) {
  const get = (name, otherwise) => element.getAttribute(name) ?? otherwise;
  const number = (name) => Number(get(name, 0));
  context.save();
  const turned = element.transform?.baseVal.consolidate()?.matrix;
  if (turned) context.transform(turned.a, turned.b, turned.c, turned.d, turned.e, turned.f);
  const fill = get("fill", "#000000");
  const stroke = get("stroke", "none");
  context.lineWidth = Number(get("stroke-width", 1));
  context.lineJoin = get("stroke-linejoin", "miter");
  context.setLineDash(get("stroke-dasharray", "").split(/[\s,]+/).filter(Boolean).map(Number));
  const draw = (path) => {
    if (fill !== "none") {
      context.fillStyle = fill;
      context.globalAlpha = Number(get("fill-opacity", 1));
      context.fill(path);
    }
    context.globalAlpha = Number(get("stroke-opacity", 1));
    context.strokeStyle = stroke;
    if (stroke !== "none") context.stroke(path);
  };
  const path = new Path2D(element.tagName === "path" ? get("d", "") : undefined);
  if (element.tagName === "rect") path.rect(number("x"), number("y"), number("width"), number("height"));
  if (element.tagName === "circle") path.arc(number("cx"), number("cy"), number("r"), 0, 2 * Math.PI);
  if (element.tagName === "line") {
    path.moveTo(number("x1"), number("y1"));
    path.lineTo(number("x2"), number("y2"));
  }
  if (element.tagName === "g") for (const child of element.children) paint(context, child);
  else if (element.tagName === "text") {
    context.font = `${get("font-weight", 400)} ${get("font-size", 11)}px ${get("font-family", "sans-serif")}`;
    context.textAlign = { middle: "center", end: "right" }[get("text-anchor")] ?? "left";
    context.fillStyle = fill;
    context.fillText(element.textContent, number("x"), number("y"));
  } else draw(path);
  context.restore();
}
