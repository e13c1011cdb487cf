// A search space: its dimensions, its codes as text, and the distance between codes.

export class Space {
  constructor(described, array) {
    Object.assign(this, described);
    this.dim = this.dims.length;
    this.indices = array(described.codes); // column by column: the value's number in its dimension
  }

  /** Return the code of a row of the table. */
  code(row) {
    return this.dims.map((_, k) => this.lower[k] + this.indices[k * this.rows + row] * this.step[k]);
  }

  /** Return the row of a code, or -1 where it is not tabulated. */
  row(code) {
    if (!this.rowsByKey) {
      this.rowsByKey = new Map();
      for (let row = 0; row < this.rows; row++) this.rowsByKey.set(this.code(row).join(), row);
    }
    return this.rowsByKey.get(code.join()) ?? -1;
  }

  /** Return the text of a code, as Python's `to_string` writes it. */
  text(code) {
    return this.form.replace(/\{(\d+)\}/g, (_, k) => (this.words ? this.words[k][code[k]] : code[k]));
  }

  /** Return the code that a text means (its written form, or the integers with commas), or null. */
  parse(text) {
    let values = null;
    const form = this.form.replace(/[|+~]/g, "\\$&").replace(/\{\d+\}/g, this.words ? "([A-Za-z0-9_.+-]+)" : "(\\d+)");
    const found = new RegExp(`^${form}$`).exec(text.trim());
    if (found) {
      const order = [...this.form.matchAll(/\{(\d+)\}/g)].map((match) => Number(match[1]));
      values = [];
      order.forEach((k, i) => {
        values[k] = this.words ? this.words[k].indexOf(found[i + 1]) : Number(found[i + 1]);
      });
    } else if (this.integers && /^[\s[(]*\d+([\s,]+\d+)*[\s\])]*$/.test(text) && text.length <= 400) {
      values = text.match(/\d+/g).map(Number);
    }
    return values !== null && this.contains(values) ? values : null;
  }

  contains(code) {
    return (
      code.length === this.dim &&
      code.every((v, k) => v >= this.lower[k] && v <= this.upper[k] && (v - this.lower[k]) % this.step[k] === 0)
    );
  }

  /** Return the steps of the grid from a code to every tabulated one; 1 for another choice, as these have no order. */
  distances(code) {
    const out = new Uint16Array(this.rows);
    for (let k = 0; k < this.dim; k++) {
      const own = (code[k] - this.lower[k]) / this.step[k];
      const column = this.indices.subarray(k * this.rows, (k + 1) * this.rows);
      for (let row = 0; row < this.rows; row++) {
        out[row] += this.choices[k] ? Number(column[row] !== own) : Math.abs(column[row] - own);
      }
    }
    return out;
  }

  /** Return the `count` nearest tabulated rows, without the code itself: [{row, distance}]. */
  nearest(code, count) {
    const distances = this.distances(code);
    // How many rows are at each distance tells how far the last of the nearest is; only those are sorted.
    const at = [];
    for (const distance of distances) at[distance] = (at[distance] ?? 0) + 1;
    let reach = 0;
    for (let found = 0; found < count && reach < at.length - 1; ) found += at[++reach] ?? 0;
    const rows = [];
    for (let row = 0; row < this.rows; row++) if (distances[row] > 0 && distances[row] <= reach) rows.push(row);
    rows.sort((a, b) => distances[a] - distances[b] || a - b);
    return rows.slice(0, count).map((row) => ({ row, distance: distances[row] }));
  }

  /** Return the distance to the nearest tabulated code; 0 for a tabulated one. */
  distance(code) {
    return this.distances(code).reduce((least, d) => (d < least ? d : least), Infinity);
  }

  /** Return the point of the grid that is nearest to any point. */
  project(point) {
    return Array.from(point, (v, k) => {
      const steps = Math.round(v / this.step[k]) * this.step[k];
      return Math.min(this.upper[k], Math.max(this.lower[k], steps));
    });
  }

  /** Return all codes that differ from a code in one dimension by one step. */
  neighbors(code) {
    const out = [];
    for (let k = 0; k < this.dim; k++) {
      for (const move of [-this.step[k], this.step[k]]) {
        const moved = code[k] + move;
        if (moved >= this.lower[k] && moved <= this.upper[k]) out.push(code.with(k, moved));
      }
    }
    return out;
  }
}
