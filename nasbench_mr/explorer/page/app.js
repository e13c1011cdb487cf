// What the page shows now, what follows from it, and who is told when it changes.
import { EVERY, RANKS } from "./table.js";
import { themeOf } from "./palette.js";
import { padded, extent } from "./scale.js";

/** What can be chosen; a link carries what differs from `App.defaults`. */
export class App {
  constructor(tables, header) {
    this.tables = tables;
    this.header = header;
    this.views = [];
    this.cache = new Map();
    this.state = this.defaults(0);
    this.changed = new Set();
  }

  defaults(space) {
    const table = this.tables[space];
    const { objectives } = table;
    const climb = this.header.climb?.space === space ? this.header.climb : null;
    const sought = climb?.goals.map((goal) => goal.split("/")[0]).filter((name) => table.tasks.some((t) => t.name === name));
    const first = objectives.find((column) => column.task.name === sought?.[0]) ?? objectives[0];
    const best = Array.from(table.ranks(first)).reduce((b, v, row, all) => (v > (all[b] || 0) ? row : b), 0);
    return {
      space,
      x: table.columns.has("macs") ? "macs" : first.key,
      y: first.key,
      colour: objectives.length > 1 ? objectives.at(-1).key : "",
      log: true,
      top: 100,
      brush: null,
      zoom: null,
      ranges: {},
      axes: "objectives",
      code: climb?.best ?? table.space.code(best),
      goals: sought?.length ? sought : [first.task.name],
      limit: climb?.limit ?? null,
      theme: "",
    };
  }

  get table() {
    return this.tables[this.state.space];
  }

  get theme() {
    return themeOf(this.state.theme);
  }

  /** Change what is shown; the views follow before the next frame. */
  set(patch) {
    if ("space" in patch && patch.space !== this.state.space) {
      patch = { ...this.defaults(patch.space), theme: this.state.theme, ...patch };
    }
    for (const [key, value] of Object.entries(patch)) {
      if (JSON.stringify(this.state[key]) === JSON.stringify(value)) continue;
      this.state[key] = value;
      this.changed.add(key);
    }
    if (this.changed.size && !this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => this.flush());
    }
  }

  /** Tell the views now. */
  flush() {
    this.waiting = false;
    const changed = this.changed;
    this.changed = new Set();
    for (const view of this.views) view.update(changed);
  }

  /** Return what `make` returns, computed again only when one of `keys` has changed. */
  memo(name, keys, make) {
    const key = JSON.stringify(keys);
    const known = this.cache.get(name);
    if (known?.key === key) return known.value;
    const value = make();
    this.cache.set(name, { key, value });
    return value;
  }

  get points() {
    const { space, x, y } = this.state;
    return this.memo("points", [space, x, y], () => this.table.points(x, y));
  }

  get fronts() {
    const { space, x, y } = this.state;
    return this.memo("fronts", [space, x, y], () => this.table.fronts(this.points));
  }

  /** The rows that brush, axes and top percent leave. */
  get mask() {
    const { space, x, y, brush, ranges, top } = this.state;
    return this.memo("mask", [space, x, y, brush, ranges, top], () =>
      this.table.selection(this.points, { brush, ranges, top }),
    );
  }

  get filtered() {
    const { brush, ranges, top } = this.state;
    return brush !== null || top < 100 || Object.keys(ranges).length > 0;
  }

  /** What the surrogates expect of the code: a Map, or null where there are none. */
  get prediction() {
    const { space, code } = this.state;
    return this.memo("prediction", [space, code], () => this.table.surrogates?.predict(code) ?? null);
  }

  get row() {
    return this.memo("row", [this.state.space, this.state.code], () => this.table.space.row(this.state.code));
  }

  /** Return where a code lies in a column: its tabulated value, else its exact cost, else what is expected. */
  place(key, code = this.state.code, prediction = this.prediction) {
    const column = this.table.columns.get(key);
    const row = this.table.space.row(code);
    if (row >= 0 && !Number.isNaN(column.values[row])) return { value: column.values[row], std: 0, known: true };
    if (key === "macs" || key === "params") return { value: this.table.costs(code)[key] ?? NaN, std: 0, known: true };
    const expected = prediction?.get(key);
    return { value: expected?.mean ?? NaN, std: expected?.std ?? 0, known: false };
  }

  /** Return how each row is coloured: {kind: "ramp" | "category" | "plain", ...}. */
  get colouring() {
    const { space, colour, y } = this.state;
    return this.memo("colouring", [space, colour, y], () => {
      const { table } = this;
      if (colour === "task" && this.points.several) {
        return { kind: "category", title: "", names: table.tasks.map((task) => task.name), ofPoint: this.points.groups };
      }
      if (colour === "best") {
        return { kind: "category", title: "Ranks best in", names: table.tasks.map((t) => t.name), ofRow: table.bestTask() };
      }
      if (colour === "stratum" && table.stratum) {
        return { kind: "category", title: "Sampling", names: table.strata, ofRow: table.stratum };
      }
      const column = table.columns.get(colour);
      if (!column) return { kind: "plain" };
      const sorted = Float64Array.from(column.values.filter((value) => !Number.isNaN(value))).sort();
      const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
      // Few outliers would leave one colour for all others.
      const domain = column.log ? extent(sorted, true) : extent([at(0.02), at(0.98)]);
      return { kind: "ramp", title: column.label, column, domain };
    });
  }

  /** Return whether the x axis is logarithmic. */
  get logX() {
    return this.state.log && this.points.x.log;
  }

  /** Return the domains of the plot's axes. */
  get domains() {
    const { space, x, y, log, zoom } = this.state;
    return this.memo("domains", [space, x, y, log, zoom], () =>
      zoom ?? {
        x: padded(extent(this.points.xs, this.logX), 0.03, this.logX),
        y: padded(extent(this.points.ys), 0.04, false),
      },
    );
  }

  /** Return the choices of an axis: [label, [[key, text], ...]], by task. */
  choices(withEvery) {
    const groups = new Map();
    for (const column of this.table.columns.values()) {
      if (!groups.has(column.group)) groups.set(column.group, []);
      groups.get(column.group).push([column.key, column.label]);
    }
    const out = [...groups];
    if (withEvery && this.table.tasks.length > 1) {
      out.unshift(["All tasks", [[EVERY, "All objectives"], [RANKS, "All ranks"]]]);
    }
    return out;
  }
}
