// The selected network: its code, drawing, costs, results in every task, and the nearest tabulated networks.
import { el, svg, byId, perFrame, sized } from "./dom.js";
import { whole, fixed, short } from "./scale.js";
import { drawNetwork } from "./drawing.js";

export class Panel {
  constructor(app) {
    this.app = app;
    this.drawing = svg("svg", { role: "img", width: "100%" });
    byId("drawing").append(this.drawing);
    this.redraw = perFrame(() => this.draw());
    this.room = sized(byId("drawing"), this.redraw);
    byId("code-text").addEventListener("change", (event) => this.typed(event.target));
  }

  update(changed) {
    if (!["space", "code", "theme", "y"].some((key) => changed.has(key))) return;
    this.draw();
    this.results();
    if (changed.has("code") || changed.has("space")) this.neighbours();
  }

  typed(field) {
    const code = this.app.table.space.parse(field.value);
    byId("code-wrong").hidden = code !== null;
    field.setAttribute("aria-invalid", String(code === null));
    if (code) this.app.set({ code });
    else byId("code-wrong").textContent = this.expected();
  }

  expected() {
    const { space } = this.app.table;
    const written = space.text(space.lower);
    const integers = space.integers ? `${space.dim} integers with commas, or ` : "";
    return `Not a code of this space. Expected ${integers}the written form, such as ${written}`;
  }

  draw() {
    const { app } = this;
    const { space } = app.table;
    const { code } = app.state;
    const field = byId("code-text");
    field.value = space.text(code);
    field.setAttribute("aria-invalid", "false");
    byId("code-wrong").hidden = true;
    byId("drawing").hidden = !app.table.exact;
    const [width] = this.room();
    if (app.table.exact && width) drawNetwork(this.drawing, space, code, width, app.theme);
    const { macs, params } = app.table.costs(code);
    const amount = (value) => (value === null || Number.isNaN(value) ? "unknown" : whole(value));
    byId("macs").textContent = amount(macs);
    byId("params").textContent = amount(params);
    const distance = app.row >= 0 ? 0 : space.distance(code);
    const unit = space.unit[distance === 1 ? 0 : 1];
    byId("distance").textContent = distance === 0 ? "itself" : `${distance} ${unit}`;
  }

  /** Fill the table of results: what the tables say, and what the surrogates expect. */
  results() {
    const { app } = this;
    const { table, prediction } = app;
    const rows = table.tasks.flatMap((task) =>
      task.metrics.map((metric, i) => {
        const column = table.columns.get(`${task.name}/${metric.name}`);
        const known = app.row >= 0 && !Number.isNaN(column.values[app.row]);
        const seeds = app.row >= 0 ? task.seeds[app.row] : 0;
        const std = column.std?.[app.row];
        const expected = prediction?.get(column.key);
        const measured = known ? fixed(column.values[app.row]) : "–";
        const spread = known && Number.isFinite(std) ? ` ± ${fixed(std)}` : "";
        const source = known ? `table, ${seeds} ${seeds === 1 ? "seed" : "seeds"}` : expected ? "surrogate" : "none";
        const guess = expected ? [fixed(expected.mean), el("span", { class: "std" }, ` ± ${fixed(expected.std)}`)] : "–";
        const rank = known ? `top ${percent(table.ranks(column)[app.row])}` : "";
        return el(
          "tr",
          { class: i === 0 ? "objective" : "" },
          el("th", { scope: "row", title: i === 0 ? task.title : metric.description }, i === 0 ? task.name : ""),
          el("td", {}, metric.name),
          el("td", { class: "number" }, measured, el("span", { class: "std" }, spread)),
          el("td", { class: "number rank" }, rank),
          el("td", { class: "number" }, guess),
          el("td", { class: "source" }, source),
        );
      }),
    );
    // A task's name stands once, for all of its metrics.
    let at = 0;
    for (const task of table.tasks) {
      rows[at].firstChild.rowSpan = task.metrics.length;
      for (let i = 1; i < task.metrics.length; i++) rows[at + i].firstChild.remove();
      at += task.metrics.length;
    }
    byId("results").replaceChildren(...rows);
    byId("no-surrogates").hidden = prediction !== null;
    const fit = `nasbench-mr surrogate fit ${table.tasks[0].release.split("@")[0]}`;
    byId("no-surrogates").textContent = table.exact
      ? `This release has no surrogates, so nothing is predicted here. To fit them: ${fit}; then make this page again.`
      : "What was trained is in the table; nothing is predicted for this space, and other costs are not known here.";
  }

  neighbours() {
    const { app } = this;
    const { table } = app;
    const column = table.columns.get(app.state.y) ?? table.objectives[0];
    const near = table.space.nearest(app.state.code, 10);
    const costs = ["macs", "params"].map((key) => table.columns.get(key));
    byId("neighbours-metric").textContent = column.label;
    byId("neighbours").replaceChildren(
      ...near.map(({ row, distance }) => {
        const code = table.space.code(row);
        return el(
          "tr",
          {},
          el("td", {}, String(distance)),
          el("td", {}, el("button", { class: "link mono", onclick: () => app.set({ code }) }, table.space.text(code))),
          el("td", { class: "number" }, fixed(column.values[row])),
          ...costs.map((cost) => el("td", { class: "number" }, cost ? short(cost.values[row]) : "–")),
        );
      }),
    );
  }
}

function percent(rank) {
  const top = 100 - rank;
  return top < 1 ? `${Math.max(0.1, top).toFixed(1)} %` : `${Math.round(top)} %`;
}
