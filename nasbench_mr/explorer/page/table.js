// The tables of one search space as columns, and what follows from columns: ranks, fronts, selections.
import { Space } from "./space.js";
import { Surrogates } from "./surrogate.js";
import { macs, params } from "./cost.js";

/** What the y axis may show beside a column: every task's objective, as it is or as a rank. */
export const EVERY = "*";
export const RANKS = "*rank";

export class Table {
  constructor(described, array, strata) {
    this.space = new Space(described, array);
    this.rows = described.rows;
    this.tasks = described.tasks.map((task) => ({ ...task, seeds: array(task.seeds) }));
    this.exact = described.stages !== undefined; // costs by formula, sliders, a drawing
    this.columns = new Map();
    this.addCosts(described, array);
    for (const task of this.tasks) this.addTask(task, array);
    this.stratum = described.stratum ? array(described.stratum) : null;
    this.strata = strata;
    this.surrogates = null;
    if (described.surrogates?.trunks.length) {
      this.surrogates = new Surrogates(this.space, described.surrogates, array);
    }
    this.objectives = this.tasks.map((task) => this.columns.get(`${task.name}/${task.objective}`));
  }

  addCosts(described, array) {
    const formulas = { macs, params };
    const labels = { macs: "MACs", params: "Parameters" };
    for (const [key, label] of Object.entries(labels)) {
      let values = null;
      if (this.exact) {
        values = new Float64Array(this.rows);
        for (let row = 0; row < this.rows; row++) values[row] = formulas[key](this.space, this.space.code(row));
      } else if (described.costs[key]) values = array(described.costs[key]);
      if (values) this.add({ key, label, group: "Cost", unit: "", direction: "min", log: true, values });
    }
  }

  addTask(task, array) {
    for (const metric of task.metrics) {
      this.add({
        key: `${task.name}/${metric.name}`,
        label: `${task.name} ${metric.name}`,
        group: task.name,
        task,
        metric,
        unit: metric.unit === "percent" ? "%" : metric.unit,
        direction: metric.direction,
        log: false,
        values: array(metric.values),
        std: metric.std ? array(metric.std) : null,
      });
    }
    if (task.macs) {
      const label = `${task.name} MACs, its own count`;
      const values = array(task.macs);
      this.add({ key: `${task.name}:macs`, label, group: "Cost", unit: "", direction: "min", log: true, values });
    }
  }

  add(column) {
    this.columns.set(column.key, { ...column, sign: column.direction === "min" ? -1 : 1 });
  }

  /** Return each row's rank in a column as percent: 100 the best, 0 the worst; NaN where unknown. */
  ranks(column) {
    if (!column.ranks) {
      const known = Array.from(column.values.keys()).filter((row) => !Number.isNaN(column.values[row]));
      known.sort((a, b) => column.sign * (column.values[a] - column.values[b]));
      column.ranks = new Float64Array(this.rows).fill(NaN);
      const last = Math.max(1, known.length - 1);
      for (let i = 0; i < known.length; ) {
        let end = i; // equal values share the rank of their middle
        while (end + 1 < known.length && column.values[known[end + 1]] === column.values[known[i]]) end++;
        for (let k = i; k <= end; k++) column.ranks[known[k]] = (50 * (i + end)) / last;
        i = end + 1;
      }
    }
    return column.ranks;
  }

  /** Return the task in which each row ranks best, by number; tasks.length where it has none. */
  bestTask() {
    if (!this.best) {
      const ranks = this.objectives.map((column) => this.ranks(column));
      this.best = Uint8Array.from({ length: this.rows }, (_, row) => {
        let best = this.tasks.length;
        ranks.forEach((each, t) => {
          if (!Number.isNaN(each[row]) && (best === this.tasks.length || each[row] > ranks[best][row])) best = t;
        });
        return best;
      });
    }
    return this.best;
  }

  /** Return the points of the scatter for its x and y: one a row, or one a row and task. */
  points(xKey, yKey) {
    const x = this.columns.get(xKey);
    const several = yKey === EVERY || yKey === RANKS;
    const series = several
      ? this.objectives.map((column) => ({ ...column, values: yKey === RANKS ? this.ranks(column) : column.values }))
      : [this.columns.get(yKey)];
    const rows = [];
    const xs = [];
    const ys = [];
    const groups = [];
    series.forEach((column, group) => {
      for (let row = 0; row < this.rows; row++) {
        const y = column.values[row];
        if (Number.isNaN(y) || Number.isNaN(x.values[row])) continue;
        rows.push(row);
        xs.push(x.values[row]);
        ys.push(y);
        groups.push(group);
      }
    });
    const unit = yKey === RANKS ? "% of networks it beats" : series[0].unit;
    const y = several
      ? { key: yKey, label: yKey === RANKS ? "Rank in each task" : "Objective of each task", unit, sign: 1, log: false }
      : series[0];
    const signs = series.map((column) => (yKey === RANKS ? 1 : column.sign));
    return { x, y, several, signs, rows, xs, ys, groups, count: rows.length };
  }

  /** Return the point numbers on the Pareto front of each group, by rising x. */
  fronts(points) {
    return points.signs.map((sign, group) => {
      const own = Array.from(points.rows.keys()).filter((k) => points.groups[k] === group);
      const towards = points.x.sign;
      own.sort((a, b) => towards * (points.xs[b] - points.xs[a]) || sign * (points.ys[b] - points.ys[a]));
      const front = [];
      let record = -Infinity;
      for (const k of own) {
        if (sign * points.ys[k] > record) {
          record = sign * points.ys[k];
          front.push(k);
        }
      }
      return towards < 0 ? front : front.reverse();
    });
  }

  /**
   * Return which rows are selected, `(rows,)` of 0 and 1.
   * `brush`: {x, y}, spans of the scatter, or null. `ranges`: a span by column. `top`: percent of the rows, by y.
   */
  selection(points, { brush, ranges, top }) {
    const mask = new Uint8Array(this.rows).fill(1);
    if (brush) {
      const inside = new Uint8Array(this.rows);
      points.rows.forEach((row, k) => {
        if (within(points.xs[k], brush.x) && within(points.ys[k], brush.y)) inside[row] = 1;
      });
      mask.set(inside);
    }
    for (const [key, span] of Object.entries(ranges)) {
      const { values } = this.columns.get(key);
      for (let row = 0; row < this.rows; row++) if (!within(values[row], span)) mask[row] = 0;
    }
    if (top < 100) {
      const ranks = points.several ? this.meanRanks() : this.ranks(points.y);
      const known = Array.from(ranks.keys()).filter((row) => !Number.isNaN(ranks[row]));
      known.sort((a, b) => ranks[b] - ranks[a] || a - b);
      const kept = new Uint8Array(this.rows);
      known.slice(0, Math.max(1, Math.round((known.length * top) / 100))).forEach((row) => (kept[row] = 1));
      for (let row = 0; row < this.rows; row++) mask[row] &= kept[row];
    }
    return mask;
  }

  /** Return each row's mean rank over the tasks that have it. */
  meanRanks() {
    if (!this.means) {
      const every = this.objectives.map((column) => this.ranks(column));
      this.means = Float64Array.from({ length: this.rows }, (_, row) => {
        const known = every.map((ranks) => ranks[row]).filter((rank) => !Number.isNaN(rank));
        return known.reduce((a, b) => a + b, 0) / known.length;
      });
    }
    return this.means;
  }

  /** Return the macs and params of any code; null where only tables know them and have it not. */
  costs(code) {
    if (this.exact) return { macs: macs(this.space, code), params: params(this.space, code) };
    const row = this.space.row(code);
    const of = (key) => (row >= 0 && this.columns.has(key) ? this.columns.get(key).values[row] : null);
    return { macs: of("macs"), params: of("params") };
  }

  /** Return the mean and standard deviation of a column, for putting several on one scale. */
  moments(column) {
    const known = column.values.filter((value) => !Number.isNaN(value));
    const mean = known.reduce((a, b) => a + b, 0) / known.length;
    const variance = known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / known.length;
    return { mean, std: Math.sqrt(variance) || 1 };
  }
}

const within = (value, [low, high]) => value >= low && value <= high;
