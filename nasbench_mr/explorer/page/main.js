// Starts the page: reads what Python put in, makes the views, and keeps the link.
import { readPayload } from "./payload.js";
import { Table } from "./table.js";
import { App } from "./app.js";
import { Scatter } from "./scatter.js";
import { Panel } from "./panel.js";
import { Controls } from "./controls.js";
import { Choices } from "./choices.js";
import { byId } from "./dom.js";

async function start() {
  const { header, array } = await readPayload(byId("payload").textContent);
  const tables = header.spaces.map((described) => new Table(described, array, header.strata));
  const app = new App(tables, header);
  const scatter = new Scatter(app, byId("scatter"));
  app.views.push(new Choices(app), scatter, new Panel(app), new Controls(app));
  app.changed = new Set(Object.keys(app.state));
  app.flush();
  // For the console: `explorer.predict(code)`, `explorer.table`, `explorer.state`.
  window.explorer = {
    app,
    scatter,
    get table() { return app.table; },
    get state() { return app.state; },
    predict: (code) => Object.fromEntries(app.table.surrogates?.predict(code) ?? []),
    costs: (code) => app.table.costs(code),
  };
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  byId("broken").hidden = false;
  byId("broken").textContent = `The page could not start (${error.message}). It needs a browser of 2023 or later.`;
  throw error;
});
