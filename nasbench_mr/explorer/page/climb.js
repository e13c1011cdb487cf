// NCP in the page: a code follows the gradient of the surrogates' predictions, step by step, within a limit on MACs.
// As nasbench_mr's search.ncp with one start: Adam on the code, rounded to the grid before every prediction, then
// the best neighbour as long as there is a better one.
import { macs } from "./cost.js";
import { slopesOf } from "./surrogate.js";

const RATE = 0.08; // of each dimension's range
const CAUTION = 1; // standard deviations by which a mean is lowered before it counts

export class Climber {
  /** `goals`: columns to make as good as they can be together; `limit`: MACs, Infinity for none. */
  constructor(table, code, goals, limit, steps = 70) {
    Object.assign(this, { table, goals, limit, steps });
    const { space } = table;
    this.slopes = new Map();
    this.terms = goals.map((column) => {
      const { mean, std } = table.moments(column);
      const factor = column.sign / std / goals.length;
      this.slopes.set(column.key, { mean: factor, std: -CAUTION * Math.abs(factor) });
      return { key: column.key, mean, factor };
    });
    this.low = space.lower;
    this.span = space.dims.map((_, k) => space.upper[k] - space.lower[k]);
    this.point = code.map((value, k) => (value - this.low[k]) / this.span[k]);
    this.first = new Float64Array(space.dim);
    this.second = new Float64Array(space.dim);
    this.step = 0;
    this.best = null;
    this.path = [];
    this.done = false;
  }

  /** Return what is maximised: the goals' predicted means less their uncertainty, on one scale. */
  score(code) {
    const expected = this.table.surrogates.predict(code);
    return this.terms.reduce((sum, { key, mean, factor }) => {
      const { mean: value, std } = expected.get(key);
      return sum + (value - mean) * factor - CAUTION * std * Math.abs(factor);
    }, 0);
  }

  allowed(code) {
    return macs(this.table.space, code) <= this.limit;
  }

  /** Take note of a code that was seen; the best within the limit is kept. */
  see(code) {
    const score = this.score(code);
    this.path.push(code);
    if (this.allowed(code) && (this.best === null || score > this.best.score)) this.best = { code, score };
  }

  /** Take one step; `done` says when there is none left. */
  advance() {
    if (this.step < this.steps) this.follow();
    else this.polish();
  }

  follow() {
    const { space, surrogates } = this.table;
    const grid = space.project(this.point.map((share, k) => this.low[k] + share * this.span[k]));
    this.see(grid);
    const at = grid.map((value, k) => (value - this.low[k]) / this.span[k]);
    let gradient = surrogates.gradient(grid, this.slopes).map((slope, k) => slope * this.span[k]);
    const over = Math.log(macs(space, grid) / this.limit);
    const slopes = slopesOf(grid, space.step, (moved) => [Math.log(macs(space, moved))], [1]);
    const normal = slopes.map((slope, k) => slope * this.span[k]);
    const size = Math.max(1e-12, dot(normal, normal));
    if (over > -0.02) {
      // At the limit: without the part of the gradient that raises the cost.
      const along = Math.max(0, dot(gradient, normal) / size);
      gradient = gradient.map((slope, k) => slope - along * normal[k]);
    }
    const rate = RATE * 0.5 * (1 + Math.cos((Math.PI * this.step) / this.steps));
    this.step += 1;
    this.point = this.point.map((value, k) => {
      this.first[k] = 0.8 * this.first[k] + 0.2 * gradient[k];
      this.second[k] = 0.95 * this.second[k] + 0.05 * gradient[k] ** 2;
      const mean = this.first[k] / (1 - 0.8 ** this.step);
      const root = Math.sqrt(this.second[k] / (1 - 0.95 ** this.step));
      return value + (rate * mean) / (root + 1e-9);
    });
    const moved = this.point.map((value, k) => value - at[k]);
    const beyond = Math.max(0, over + dot(normal, moved)) / size;
    if (Number.isFinite(beyond)) this.point = this.point.map((value, k) => value - beyond * normal[k]);
    this.point = this.point.map((value) => Math.min(1, Math.max(0, value)));
  }

  /** Move to the best neighbour, or to the best of one step up and one down; stop where none is better. */
  polish() {
    const { space } = this.table;
    if (this.best === null) {
      this.done = true;
      return;
    }
    const { code, score } = this.best;
    const near = space.neighbors(code);
    let found = this.bestOf(near);
    if (found === null || found.score <= score) {
      // Under a limit one dimension can only grow where another shrinks.
      const ranked = near.map((one) => ({ one, score: this.score(one) })).sort((a, b) => b.score - a.score);
      const up = ranked.slice(0, 6).map(({ one }) => one);
      const pairs = up.flatMap((a) => near.map((b) => a.map((value, k) => (b[k] === code[k] ? value : b[k]))));
      found = this.bestOf(pairs);
    }
    if (found === null || found.score <= score + 1e-9) this.done = true;
    else {
      this.best = found;
      this.path.push(found.code);
    }
  }

  bestOf(codes) {
    let best = null;
    for (const code of codes) {
      if (!this.allowed(code)) continue;
      const score = this.score(code);
      if (best === null || score > best.score) best = { code, score };
    }
    return best;
  }
}

const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);
