// The points of the scatter as a table, for screen readers and for reading values: the best first, page by page.
import { el, byId } from "./dom.js";
import { whole, fixed } from "./scale.js";

const SIZE = 12;

export class Mirror {
  constructor(app) {
    this.app = app;
    this.page = 0;
    byId("previous").addEventListener("click", () => this.turn(-1));
    byId("next").addEventListener("click", () => this.turn(1));
  }

  update(changed) {
    if (!["space", "x", "y", "colour", "top", "brush", "ranges"].some((key) => changed.has(key))) return;
    this.page = 0;
    this.draw();
  }

  turn(by) {
    this.page += by;
    this.draw();
  }

  /** Return the numbers of all points, the best first. */
  sorted(points) {
    const { space, x, y } = this.app.state;
    return this.app.memo("sorted", [space, x, y], () => {
      const key = Float64Array.from(points.ys, (value, k) => points.signs[points.groups[k]] * value);
      return Uint32Array.from(points.rows.keys()).sort((a, b) => key[b] - key[a] || a - b);
    });
  }

  draw() {
    const { app } = this;
    const { points, mask, table, colouring } = app;
    const order = this.sorted(points).filter((k) => mask[points.rows[k]]);
    const pages = Math.max(1, Math.ceil(order.length / SIZE));
    this.page = Math.min(pages - 1, Math.max(0, this.page));
    const shown = Array.from(order.slice(this.page * SIZE, (this.page + 1) * SIZE));
    byId("previous").disabled = this.page === 0;
    byId("next").disabled = this.page === pages - 1;
    byId("page").textContent = `${whole(this.page + 1)} of ${whole(pages)}`;
    const third = colouring.kind === "ramp" && ![points.x.key, points.y.key].includes(colouring.column.key);
    const titles = [points.y.label, points.x.label];
    if (third) titles.push(colouring.title);
    if (colouring.ofRow) titles.push(colouring.title);
    if (points.several) titles.unshift("Task");
    const number = (column, value) => (column.log ? whole(value) : fixed(value));
    const rows = shown.map((k) => {
      const row = points.rows[k];
      const code = table.space.code(row);
      const cells = [fixed(points.ys[k]), number(points.x, points.xs[k])];
      if (third) cells.push(number(colouring.column, colouring.column.values[row]));
      if (colouring.ofRow) cells.push(colouring.names[colouring.ofRow[row]] ?? "–");
      if (points.several) cells.unshift(table.tasks[points.groups[k]].name);
      return el(
        "tr",
        {},
        el("td", {}, el("button", { class: "link mono", onclick: () => app.set({ code }) }, table.space.text(code))),
        ...cells.map((cell) => el("td", { class: "number" }, cell)),
      );
    });
    const caption = `${whole(order.length)} points of the plot, the best first; a code selects its network`;
    byId("mirror").replaceChildren(
      el("caption", { class: "away" }, caption),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Code"), ...titles.map((title) => el("th", { scope: "col", class: "number" }, title)))),
      el("tbody", {}, ...rows),
    );
  }
}
