// The choices above the plots, the header and the texts about the release.
import { el, byId, fillSelect } from "./dom.js";
import { whole } from "./scale.js";

export class Choices {
  constructor(app) {
    this.app = app;
    const { header, tables } = app;
    const about = [header.release.title, `${whole(app.tables.reduce((sum, t) => sum + t.rows, 0))} networks`];
    byId("release").textContent = [header.release.name, ...about].filter(Boolean).join(" · ");
    byId("space-label").hidden = tables.length < 2;
    fillSelect(byId("space"), [[null, tables.map((table, k) => [k, table.space.name])]], 0);
    for (const id of ["x", "y", "colour", "axes"]) {
      byId(id).addEventListener("change", (event) => this.chosen(id, event.target.value));
    }
    byId("space").addEventListener("change", (event) => app.set({ space: Number(event.target.value) }));
    byId("log").addEventListener("change", (event) => app.set({ log: event.target.checked }));
    byId("top").addEventListener("input", (event) => app.set({ top: Number(event.target.value) }));
    byId("clear").addEventListener("click", () => app.set({ brush: null, ranges: {}, top: 100, zoom: null }));
    byId("zoom").addEventListener("click", () => app.set({ zoom: app.state.zoom ? null : app.state.brush }));
    byId("theme").addEventListener("click", () => app.set({ theme: app.theme === "dark" ? "light" : "dark" }));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      app.changed.add("theme");
      app.flush();
    });
    this.about();
  }

  chosen(key, value) {
    const patch = { [key]: value };
    if (key === "x" || key === "y") Object.assign(patch, { brush: null, zoom: null }); // spans of the old axes
    const { app } = this;
    if (key === "y") {
      // Several tasks at once are told apart by colour.
      const several = value.startsWith("*");
      if (several) patch.colour = "task";
      else if (app.state.colour === "task") patch.colour = app.defaults(app.state.space).colour;
    }
    app.set(patch);
  }

  update(changed) {
    const { app } = this;
    const { state, table } = app;
    document.documentElement.dataset.theme = app.theme;
    byId("theme").textContent = app.theme === "dark" ? "Light" : "Dark";
    if (changed.has("space") || changed.has("y")) {
      fillSelect(byId("x"), app.choices(false), state.x);
      fillSelect(byId("y"), app.choices(true), state.y);
      const more = [["", "one colour"]];
      if (app.points.several) more.push(["task", "task"]);
      if (table.tasks.length > 1) more.push(["best", "task it ranks best in"]);
      if (table.stratum && new Set(table.stratum).size > 1) more.push(["stratum", "how it was sampled"]);
      fillSelect(byId("colour"), [["Kinds", more], ...app.choices(false)], state.colour);
      if (changed.has("space")) this.about();
    }
    for (const id of ["space", "x", "y", "colour", "axes", "top"]) if (changed.has(id)) byId(id).value = state[id];
    byId("log").checked = state.log;
    byId("log").disabled = !app.points.x.log;
    byId("top-value").textContent = state.top === 100 ? "all" : `${state.top} %`;
    const selected = app.mask.reduce((sum, value) => sum + value, 0);
    const total = `${whole(app.points.count)} points`;
    byId("count").textContent = app.filtered ? `${whole(selected)} of ${whole(table.rows)} networks selected` : total;
    byId("clear").disabled = !app.filtered && !state.zoom;
    byId("zoom").disabled = !state.zoom && !state.brush;
    byId("zoom").textContent = state.zoom ? "Zoom out" : "Zoom in";
  }

  /** Say where the numbers come from. */
  about() {
    const { release, version } = this.app.header;
    const { tasks } = this.app.table;
    const pairs = tasks.map((task) => [`${task.name}: ${task.title}`, task.dataset]);
    for (const source of new Set(tasks.map((task) => task.provenance).filter(Boolean))) {
      const own = tasks.filter((task) => task.provenance === source).map((task) => task.name);
      pairs.push([own.length === tasks.length ? "Measured" : `Measured: ${own.join(", ")}`, source]);
    }
    const rest = [["Licence", release.license], ["Cite as", release.citation], ["Made by", `nasbench-mr ${version}`]];
    byId("about").replaceChildren(
      el("dl", {}, ...[...pairs, ...rest.filter(([, text]) => text)].map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    );
  }
}
