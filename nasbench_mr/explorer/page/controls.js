// A field for each dimension: a slider for what has an order, a list for choices. The 27 integers are grouped as
// the network is.
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
        if (!output) return;
        input.style.setProperty("--share", (value - input.min) / (input.max - input.min));
        output.textContent = this.word(k, value);
        input.setAttribute("aria-valuetext", this.word(k, value));
      });
    }
  }

  build() {
    this.built = true;
    const { table } = this.app;
    const { space } = table;
    this.sliders = [];
    const group = (title, ...rows) => el("fieldset", {}, el("legend", {}, title), ...rows);
    if (!table.exact) {
      const fields = space.dims.map((_, k) => (space.choices[k] ? this.list(k) : this.slider(k, "")));
      return byId("controls").replaceChildren(group("Dimensions", ...fields));
    }
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

  /** Return a value of a dimension as the space writes it. */
  word(k, value) {
    return String(this.app.table.space.words?.[k][value] ?? value);
  }

  slider(k, label) {
    const { space } = this.app.table;
    const input = el("input", { type: "range", min: space.lower[k], max: space.upper[k], step: space.step[k] });
    return this.field(k, label, input, el("output", { for: `dim-${space.dims[k]}` }));
  }

  list(k) {
    const options = this.app.table.space.words[k].map((word, value) => el("option", { value: String(value) }, word));
    return this.field(k, "", el("select", {}, ...options), null);
  }

  field(k, label, input, output) {
    const name = this.app.table.space.dims[k];
    input.id = `dim-${name}`;
    input.addEventListener("input", () => this.app.set({ code: this.app.state.code.with(k, Number(input.value)) }));
    this.sliders[k] = { input, output };
    return el("div", { class: "slider" }, el("label", { for: input.id }, el("span", { class: "dim" }, name), ` ${label}`), input, output);
  }
}
