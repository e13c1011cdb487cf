// The surrogates: features of a code, small networks that share their hidden layers, means and standard deviations.
// The same arithmetic as Python's: inputs in float32, sums here in float64.

/** Return the 66 features of a point of the relaxed space (nasbench_mr's features of the 27 integers). */
export function features(space, point) {
  const x = space.dims.map((_, k) => Math.max(point[k], space.lower[k] / 2));
  const depths = [];
  space.dims.forEach((_, k) => space.upper[k] <= 4 && depths.push(x[k]));
  const depth = [];
  const byResolution = [0, 0, 0, 0];
  const workByStage = [0, 0, 0, 0];
  const workByResolution = [0, 0, 0, 0];
  let allDepth = 0;
  let allWork = 0;
  let allWeights = 0;
  space.stages.forEach((stage, s) => {
    stage.n.forEach((n, r) => {
      const units = x[stage.b] * x[n];
      const weights = units * x[stage.c[r]] ** 2;
      const work = weights * 0.25 ** r;
      depth.push(units);
      byResolution[r] += units;
      workByStage[s] += work;
      workByResolution[r] += work;
      allDepth += units;
      allWork += work;
      allWeights += weights;
    });
  });
  const sums = [...byResolution, ...workByStage, ...workByResolution, allDepth, allWork, allWeights];
  return Float64Array.from([...depths, ...[...x, ...depth, ...sums].map(Math.log2)]);
}

/** One group of tasks that were fitted together. */
class Trunk {
  constructor(described, array) {
    this.layers = described.layers.map(({ weight, bias }, k) => {
      const [members, from, to] = described.shapes[k];
      return { weight: array(weight), bias: array(bias), from, to, members };
    });
    this.centre = described.centre;
    this.scale = described.scale;
    this.spread = described.spread ** 2;
    this.columns = []; // of all tasks' metrics
  }

  /** Join the last layers of the tasks into one. */
  join(heads, array) {
    const width = this.layers.length ? this.layers.at(-1).to : this.centre.length;
    const total = heads.reduce((sum, head) => sum + head.metrics.length, 0);
    const members = array(heads[0].bias).length / heads[0].metrics.length;
    const weight = new Float32Array(members * width * total);
    const bias = new Float32Array(members * total);
    let first = 0;
    for (const head of heads) {
      const m = head.metrics.length;
      const own = { weight: array(head.weight), bias: array(head.bias) };
      for (let e = 0; e < members; e++) {
        for (let j = 0; j < m; j++) {
          bias[e * total + first + j] = own.bias[e * m + j];
          for (let i = 0; i < width; i++) {
            weight[(e * width + i) * total + first + j] = own.weight[(e * width + i) * m + j];
          }
        }
      }
      head.metrics.forEach((metric, j) =>
        this.columns.push({
          key: `${head.task}/${metric}`,
          centre: head.centre[j],
          scale: head.scale[j],
          noise: head.noise[j] ** 2,
          lower: head.lower[j] ?? -Infinity,
          upper: head.upper[j] ?? Infinity,
        }),
      );
      first += m;
    }
    this.layers.push({ weight, bias, from: width, to: total, members });
    this.members = members;
    // Room for what one prediction computes, used again by the next.
    const sizes = [this.centre.length, ...this.layers.map((layer) => layer.to)];
    this.before = this.layers.map((layer) => new Float64Array(layer.to)); // sums
    this.after = sizes.map((size) => new Float64Array(size)); // what the next layer reads
    this.outputs = new Float64Array(members * total);
  }

  /** Run one member on `this.after[0]`; fills `before` and `after`. */
  member(e) {
    this.layers.forEach((layer, k) => {
      const { weight, bias, from, to } = layer;
      const input = this.after[k];
      const sums = this.before[k];
      for (let j = 0; j < to; j++) sums[j] = bias[e * to + j];
      for (let i = 0; i < from; i++) {
        const value = input[i];
        const at = (e * from + i) * to;
        for (let j = 0; j < to; j++) sums[j] += value * weight[at + j];
      }
      const last = k === this.layers.length - 1;
      const output = this.after[k + 1];
      for (let j = 0; j < to; j++) output[j] = last ? sums[j] : sums[j] / (1 + Math.exp(-sums[j]));
    });
  }

  /** Set the input, and `outputs` of every member. */
  run(values) {
    for (let i = 0; i < values.length; i++) {
      this.after[0][i] = Math.fround((values[i] - this.centre[i]) / this.scale[i]);
    }
    for (let e = 0; e < this.members; e++) {
      this.member(e);
      this.outputs.set(this.after.at(-1), e * this.columns.length);
    }
  }

  /** Return the mean of the members' outputs of a column, and the variance between them. */
  moments(j) {
    const m = this.columns.length;
    let mean = 0;
    for (let e = 0; e < this.members; e++) mean += this.outputs[e * m + j];
    mean /= this.members;
    let variance = 0;
    for (let e = 0; e < this.members; e++) variance += (this.outputs[e * m + j] - mean) ** 2;
    return { mean, variance: variance / (this.members - 1) };
  }

  /** Return the gradient in the features of a sum over the columns of a mean's and a standard deviation's slope. */
  gradient(values, slopes) {
    this.run(values);
    const m = this.columns.length;
    const out = new Float64Array(values.length);
    const moments = this.columns.map((_, j) => this.moments(j));
    for (let e = 0; e < this.members; e++) {
      this.member(e);
      let back = new Float64Array(m);
      this.columns.forEach((column, j) => {
        const slope = slopes.get(column.key);
        if (!slope) return;
        const std = Math.sqrt(moments[j].variance * this.spread + column.noise);
        const apart = this.outputs[e * m + j] - moments[j].mean;
        const ofStd = (this.spread * apart) / ((this.members - 1) * std);
        back[j] = column.scale * (slope.mean / this.members + slope.std * ofStd);
      });
      for (let k = this.layers.length - 1; k >= 0; k--) {
        const { weight, from, to } = this.layers[k];
        const next = new Float64Array(from);
        for (let i = 0; i < from; i++) {
          const at = (e * from + i) * to;
          let sum = 0;
          for (let j = 0; j < to; j++) sum += back[j] * weight[at + j];
          next[i] = sum;
        }
        if (k > 0) {
          for (let i = 0; i < from; i++) {
            const x = this.before[k - 1][i];
            const gate = 1 / (1 + Math.exp(-x));
            next[i] *= gate * (1 + x * (1 - gate));
          }
        }
        back = next;
      }
      for (let i = 0; i < out.length; i++) out[i] += back[i] / this.scale[i];
    }
    return out;
  }
}

/** All surrogates of a space. */
export class Surrogates {
  constructor(space, described, array) {
    this.space = space;
    const heads = Object.entries(described.heads).map(([task, head]) => ({ task, ...head }));
    this.tasks = heads.map((head) => head.task);
    this.trunks = described.trunks.map((each, k) => {
      const trunk = new Trunk(each, array);
      trunk.join(heads.filter((head) => head.trunk === k), array);
      return trunk;
    });
  }

  /** Return what to expect of a code (or a point between codes): a Map from "task/metric" to {mean, std}. */
  predict(point) {
    const values = features(this.space, point);
    const out = new Map();
    for (const trunk of this.trunks) {
      trunk.run(values);
      trunk.columns.forEach((column, j) => {
        const { mean, variance } = trunk.moments(j);
        const scaled = mean * column.scale + column.centre;
        out.set(column.key, {
          mean: Math.min(column.upper, Math.max(column.lower, scaled)),
          std: Math.sqrt(variance * trunk.spread + column.noise) * column.scale,
        });
      });
    }
    return out;
  }

  /** Return the gradient in the code of the sum of `slopes`: a Map from "task/metric" to {mean, std}. */
  gradient(point, slopes) {
    const values = features(this.space, point);
    const inFeatures = values.map(() => 0);
    for (const trunk of this.trunks) {
      if (!trunk.columns.some((column) => slopes.has(column.key))) continue;
      trunk.gradient(values, slopes).forEach((slope, i) => (inFeatures[i] += slope));
    }
    return slopesOf(point, this.space.step, (moved) => features(this.space, moved), inFeatures);
  }
}

/** Return the gradient of `weights @ f(point)` by central differences; exact for a polynomial of degree 2. */
export function slopesOf(point, steps, f, weights, share = 1e-3) {
  return Float64Array.from(steps, (step, k) => {
    const moved = Array.from(point);
    const width = step * share;
    moved[k] = point[k] + width;
    const above = f(moved);
    moved[k] = point[k] - width;
    const below = f(moved);
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += weights[i] * (above[i] - below[i]);
    return sum / (2 * width);
  });
}
