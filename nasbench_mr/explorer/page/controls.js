// One slider for each of the 27 integers, grouped as the network is.
import { el, byId } from "./dom.js";

export class Controls {
  constructor(app) {
    this.app = app;
    this.sliders = [];
  }

  update(changed) {
    if (changed.has("space") || !this.built) this.build();
    if (changed.has("space") || changed.has("code")) {
      this.sliders.forEach(({ input, output }, k) => {
        const value = this.app.state.code[k];
        input.value = value;
        input.style.setProperty("--share", (value - input.min) / (input.max - input.min));
        output.textContent = String(value);
      });
    }
  }

  build() {
    this.built = true;
    const { table } = this.app;
    byId("controls-card").hidden = !table.exact;
    this.sliders = [];
    if (!table.exact) return byId("controls").replaceChildren();
    const { space } = table;
    const group = (title, ...rows) => el("fieldset", {}, el("legend", {}, title), ...rows);
    const [i1, i2] = space.stem;
    const stem = group("Stem", this.slider(i1, "channels, 1/2"), this.slider(i2, "channels, 1/4"));
    const stages = space.stages.map((stage, s) =>
      group(
        `Stage ${s + 1}`,
        this.slider(stage.b, "modules"),
        ...stage.n.flatMap((n, r) => [
          this.slider(n, `units, 1/${4 * 2 ** r}`),
          this.slider(stage.c[r], `channels, 1/${4 * 2 ** r}`),
        ]),
      ),
    );
    const head = group("Head", this.slider(space.head, "channels"));
    head.className = "last";
    const [first, second, ...wide] = stages;
    return byId("controls").replaceChildren(el("div", {}, stem, first, second, head), el("div", {}, ...wide));
  }

  slider(k, label) {
    const { space } = this.app.table;
    const id = `dim-${space.dims[k]}`;
    const input = el("input", { type: "range", id, min: space.lower[k], max: space.upper[k], step: space.step[k] });
    input.addEventListener("input", () => this.app.set({ code: this.app.state.code.with(k, Number(input.value)) }));
    const output = el("output", { for: id });
    this.sliders[k] = { input, output };
    const name = el("span", { class: "dim" }, space.dims[k]);
    return el("div", { class: "slider" }, el("label", { for: id }, name, ` ${label}`), input, output);
  }
}
