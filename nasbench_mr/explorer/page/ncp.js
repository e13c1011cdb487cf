// The card that climbs from the selected code, and plays a search that Python made.
import { el, svg, byId, say } from "./dom.js";
import { Climber } from "./climb.js";
import { inks } from "./lettering.js";
import { surface } from "./palette.js";
import { whole, short, fixed } from "./scale.js";

export class Ncp {
  constructor(app, scatter, array) {
    this.app = app;
    this.scatter = scatter;
    this.path = []; // codes of the last climb
    this.played = app.header.climb ? new Played(app.header.climb, array, app.tables) : null;
    this.at = 0;
    if (this.played) byId("climb-card").parentElement.prepend(byId("climb-card")); // what the page is about
  }

  update(changed) {
    const { app } = this;
    byId("climb-card").hidden = !app.table.surrogates && !this.playable;
    if (changed.has("space") || !this.built) this.build();
    for (const box of byId("climb").querySelectorAll("[name=goal]")) box.checked = app.state.goals.includes(box.value);
    if (this.limit && document.activeElement !== this.limit) {
      this.limit.value = app.state.limit === null ? "" : String(Number((app.state.limit / 1e9).toPrecision(6)));
    }
    if (["space", "x", "y", "log", "zoom", "theme", "colour"].some((key) => changed.has(key))) this.draw();
  }

  /** Whether the played search is of the space that is shown. */
  get playable() {
    return this.played?.space === this.app.state.space;
  }

  build() {
    this.built = true;
    const { app } = this;
    const { table } = app;
    this.path = [];
    const parts = [];
    if (this.playable) parts.push(this.player());
    if (table.surrogates) parts.push(...this.climbing());
    byId("climb").replaceChildren(...parts);
  }

  climbing() {
    const { app } = this;
    const boxes = app.table.tasks.filter((task) => app.table.surrogates.tasks.includes(task.name)).map((task) =>
      el("label", { class: "check" }, el("input", { type: "checkbox", name: "goal", value: task.name, onchange: () => this.chosen() }), ` ${task.name}`),
    );
    this.limit = el("input", { id: "limit", inputmode: "decimal", class: "short", placeholder: "none", autocomplete: "off", onchange: () => this.limited() });
    this.run = el("button", { class: "main", type: "button", id: "climb-run", onclick: () => this.start() }, "Climb");
    this.result = el("p", { class: "hint", id: "climb-result", role: "status" });
    return [
      el("p", { class: "hint" }, "Follows the surrogates' gradient from the selected code, for all chosen tasks together."),
      el("fieldset", { class: "goals" }, el("legend", {}, "Tasks"), ...boxes),
      el("div", { class: "buttons" }, el("label", { for: "limit" }, "At most "), this.limit, el("span", {}, "GMACs"), this.run),
      this.result,
    ];
  }

  chosen() {
    const goals = [...byId("climb").querySelectorAll("[name=goal]:checked")].map((box) => box.value);
    this.app.set({ goals });
  }

  limited() {
    const value = Number(this.limit.value.replace(",", "."));
    const wrong = this.limit.value.trim() !== "" && !(value > 0);
    this.limit.setAttribute("aria-invalid", String(wrong));
    this.result.textContent = wrong ? "The limit is a number of GMACs, such as 2.5; leave it empty for none." : "";
    if (!wrong) this.app.set({ limit: this.limit.value.trim() === "" ? null : value * 1e9 });
    return !wrong;
  }

  /** Climb, a step a frame. */
  start() {
    const { app } = this;
    const { table, state } = app;
    if (this.running) {
      this.running = false;
      return;
    }
    if (!this.limited()) return;
    const goals = table.objectives.filter((column) => state.goals.includes(column.task.name));
    if (!goals.length) {
      this.result.textContent = "Choose at least one task.";
      return;
    }
    const from = state.code;
    const climber = new Climber(table, from, goals, state.limit ?? Infinity);
    this.running = true;
    this.run.textContent = "Stop";
    const frame = () => {
      if (!climber.done && this.running) {
        climber.advance();
        this.path = climber.path;
        app.set({ code: climber.path.at(-1) });
        this.draw();
        requestAnimationFrame(frame);
      } else this.finish(climber, from, goals);
    };
    frame();
  }

  finish(climber, from, goals) {
    const { app } = this;
    this.running = false;
    this.run.textContent = "Climb";
    if (climber.best === null) {
      app.set({ code: from });
      this.result.textContent = `No network within ${short(climber.limit)} MACs was found; the selected one is as it was. Raise the limit.`;
      return;
    }
    const { code } = climber.best;
    app.set({ code });
    const [before, after] = [from, code].map((one) => app.table.surrogates.predict(one));
    const gains = goals.map(({ key, task }) => `${task.name} ${fixed(before.get(key).mean)} → ${fixed(after.get(key).mean)}`);
    const cost = [from, code].map((one) => short(app.table.costs(one).macs, 4)).join(" → ");
    this.result.textContent = `Predicted: ${gains.join(", ")}; MACs ${cost}; ${whole(climber.path.length)} steps.`;
    say(this.result.textContent);
  }

  /** Return the player of Python's search. */
  player() {
    const { played } = this;
    const position = el("input", { type: "range", id: "play-at", min: 0, max: played.steps - 1, value: 0, step: 1 });
    const text = el("output", { for: "play-at" });
    const button = el("button", { class: "main", type: "button", id: "play" }, "Play");
    const show = (at) => {
      this.at = at;
      position.value = String(at);
      text.textContent = `step ${at} of ${played.steps - 1}`;
      this.draw();
    };
    const frame = () => {
      if (!this.playing) return;
      if (this.at >= played.steps - 1) return stop();
      show(this.at + 1);
      this.timer = setTimeout(frame, 90);
    };
    const stop = () => {
      this.playing = false;
      button.textContent = "Play";
      this.app.set({ code: played.bestAt(this.at) });
    };
    button.addEventListener("click", () => {
      if (this.playing) return stop();
      this.playing = true;
      button.textContent = "Stop";
      if (this.at >= played.steps - 1) show(0);
      return frame();
    });
    position.addEventListener("input", () => show(Number(position.value)));
    const limit = played.limit === null ? "" : `, at most ${short(played.limit)} MACs`;
    show(0);
    return el(
      "div",
      { class: "player" },
      el("p", { class: "hint" }, `The search for ${played.goals.join(" and ")}${limit}: the ${played.paths} of its paths that ended best.`),
      el("div", { class: "buttons" }, button, el("label", { for: "play-at", class: "away" }, "Step of the search"), position, text),
    );
  }

  /** Draw the climb's path, or the places of the played search at its step. */
  draw() {
    const { app, scatter } = this;
    const { points, theme } = app;
    if (!scatter.x || points.several) return scatter.layers.climb.replaceChildren();
    const { accent, ink } = inks(theme);
    const { ground } = surface(theme);
    const place = (code) => {
      const prediction = app.table.surrogates?.predict(code);
      const [x, y] = [points.x.key, points.y.key].map((key) => app.place(key, code, prediction).value);
      return [scatter.x.at(x), scatter.y.at(y)];
    };
    const line = (codes, look) => {
      const d = codes.map(place).filter((at) => at.every(Number.isFinite)).map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`);
      return svg("path", { d: d.join(""), fill: "none", "stroke-linejoin": "round", ...look });
    };
    const parts = [];
    if (this.path.length > 1) {
      parts.push(line(this.path, { stroke: ground, "stroke-width": 5, "stroke-opacity": 0.8 }));
      parts.push(line(this.path, { stroke: accent, "stroke-width": 2 }));
    }
    if (this.playable && this.at > 0) {
      for (let path = 0; path < this.played.paths; path++) {
        const since = Math.max(0, this.at - 6);
        const codes = Array.from({ length: this.at - since + 1 }, (_, k) => this.played.code(since + k, path));
        parts.push(line(codes, { stroke: ink, "stroke-width": 1.2, "stroke-opacity": 0.45 }));
        const [cx, cy] = place(codes.at(-1));
        if (Number.isFinite(cx) && Number.isFinite(cy)) parts.push(svg("circle", { cx, cy, r: 4, fill: accent, stroke: ground, "stroke-width": 1.2 }));
      }
    }
    return scatter.layers.climb.replaceChildren(...parts);
  }
}

/** A search that Python made: its paths, step by step. */
class Played {
  constructor(described, array, tables) {
    Object.assign(this, described);
    this.dim = tables[described.space].space.dim;
    this.values = array(described.codes);
    this.scores = array(described.score);
  }

  code(step, path) {
    const at = (step * this.paths + path) * this.dim;
    return Array.from(this.values.subarray(at, at + this.dim));
  }

  /** Return the code with the highest score at a step; at the last one what the search found. */
  bestAt(step) {
    if (step === this.steps - 1) return this.best;
    let best = 0;
    for (let path = 1; path < this.paths; path++) {
      if (this.scores[step * this.paths + path] > this.scores[step * this.paths + best]) best = path;
    }
    return this.code(step, best);
  }
}
