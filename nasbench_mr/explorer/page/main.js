// Starts the page: reads what Python put in, makes the views, and keeps the link.
import { readPayload } from "./payload.js";
import { Table } from "./table.js";
import { App } from "./app.js";
import { Scatter } from "./scatter.js";
import { Parallel } from "./parallel.js";
import { Mirror } from "./mirror.js";
import { Panel } from "./panel.js";
import { Controls } from "./controls.js";
import { Choices } from "./choices.js";
import { Ncp } from "./ncp.js";
import { Link, Share, snippets, asSvg } from "./share.js";
import { byId } from "./dom.js";

async function start() {
  const { header, array } = await readPayload(byId("payload").textContent);
  const tables = header.spaces.map((described) => new Table(described, array, header.strata));
  const app = new App(tables, header);
  const scatter = new Scatter(app, byId("scatter"));
  const parallel = new Parallel(app, byId("parallel"));
  const ncp = new Ncp(app, scatter, array);
  const link = new Link(app);
  app.views.push(new Choices(app), scatter, parallel, new Panel(app), new Controls(app), new Mirror(app), ncp);
  app.views.push(new Share(app, scatter), link);
  link.read();
  // For the console: `explorer.predict(code)`, `explorer.costs(code)`, `explorer.table`, `explorer.state`.
  window.explorer = {
    app, scatter, parallel, ncp, link,
    get table() { return app.table; },
    get state() { return app.state; },
    predict: (code) => Object.fromEntries(app.table.surrogates?.predict(code) ?? []),
    costs: (code) => app.table.costs(code),
    snippets: () => snippets(app),
    svg: () => asSvg(scatter),
  };
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  byId("broken").hidden = false;
  byId("broken").textContent = `The page could not start (${error.message}). It needs a browser of 2023 or later.`;
  throw error;
});
