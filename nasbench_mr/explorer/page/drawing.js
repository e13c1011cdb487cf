// A network of the multi-resolution space as a drawing: blocks as long as they are deep and as high as they are wide.
import { svg } from "./dom.js";
import { inks } from "./lettering.js";

const BLOCKS = {
  light: ["#0072b2", "#00876c", "#b26a00", "#a64d84"],
  dark: ["#56b4e9", "#2fc49a", "#e6a93c", "#e39cc4"],
};
const LABELS = 34; // room for the resolutions' names
const LABEL_LINE = 22;
const LANE = 40;
const TALLEST = 30;

/** Return the drawing's description in words. */
export function inWords(space, code) {
  const stages = space.stages.map((stage, s) => {
    const branches = stage.n.map((n, r) => `${code[n]} units of ${code[stage.c[r]]} channels at 1/${4 * 2 ** r}`);
    return `stage ${s + 1}, ${code[stage.b]} modules: ${branches.join(", ")}`;
  });
  const [i1, i2] = space.stem.map((k) => code[k]);
  return `Stem of ${i1} and ${i2} channels; ${stages.join("; ")}; head of ${code[space.head]} channels.`;
}

/** Draw a code into an SVG element of this width. */
export function drawNetwork(target, space, code, width, theme) {
  const { ink, muted, line } = inks(theme);
  const colors = BLOCKS[theme];
  const height = LABEL_LINE + 4 * LANE + 22;
  const modules = [];
  space.stages.forEach((stage, s) => {
    for (let k = 0; k < code[stage.b]; k++) modules.push({ stage, s, first: k === 0 });
  });
  const longest = (stage) => Math.max(...stage.n.map((k) => code[k]));
  const units = modules.reduce((sum, { stage }) => sum + longest(stage), 0) + 2 + 1.5; // stem and head as well
  const room = width - LABELS - 4;
  const gaps = modules.length + 1;
  let gap = Math.min(26, Math.max(9, room / (units * 0.9 + gaps + 1) / 1.1));
  const unit = Math.min(26, (room - gap * gaps) / units);
  gap = Math.min(64, (room - unit * units) / gaps); // a shallow network has room between its modules
  const middle = (r) => LABEL_LINE + LANE * (r + 0.5);
  const tall = (channels) => Math.max(2.5, (channels / 128) * TALLEST);
  const parts = [];
  const text = (x, y, content, attributes) =>
    svg("text", { "font-family": "system-ui, sans-serif", "font-size": 10.5, x, y, fill: muted, ...attributes }, content);
  const block = (x, r, count, channels, title) => {
    const h = tall(channels);
    const lines = Array.from({ length: count - 1 }, (_, k) => x + unit * (k + 1));
    parts.push(
      svg(
        "g",
        {},
        svg("title", {}, title),
        svg("rect", { x, y: middle(r) - h / 2, width: unit * count, height: h, rx: 1.5, fill: colors[r] }),
        ...lines.map((at) =>
          svg("path", { d: `M${at} ${middle(r) - h / 2}v${h}`, stroke: theme === "dark" ? "#171b22" : "#fff", "stroke-width": 0.8 }),
        ),
      ),
    );
  };
  const arrow = (x0, r0, x1, r1) => {
    const [y0, y1] = [middle(r0), middle(r1)];
    const look = { stroke: r0 === r1 ? muted : colors[r0], "stroke-width": r0 === r1 ? 1 : 1.3, fill: "none" };
    const [dx, dy] = [x1 - x0, y1 - y0];
    const size = Math.hypot(dx, dy) || 1;
    const [ux, uy] = [dx / size, dy / size];
    const tip = `M${x1 - 3.5 * ux - 2.2 * uy} ${y1 - 3.5 * uy + 2.2 * ux}L${x1} ${y1}L${x1 - 3.5 * ux + 2.2 * uy} ${y1 - 3.5 * uy - 2.2 * ux}`;
    parts.push(svg("path", { d: `M${x0} ${y0}L${x1} ${y1}${tip}`, ...look }));
  };
  for (let r = 0; r < 4; r++) {
    parts.push(text(0, middle(r) + 4, `1/${4 * 2 ** r}`, { fill: colors[r], "font-weight": 600 }));
    parts.push(svg("path", { d: `M${LABELS} ${middle(r)}H${width}`, stroke: line, "stroke-width": 0.6, "stroke-dasharray": "1 4" }));
  }
  // The stem's two convolutions; the second one's output is the first branch.
  let x = LABELS;
  space.stem.forEach((k, i) => {
    block(x, 0, 1, code[k], `stem, convolution ${i + 1}: ${code[k]} channels`);
    x += unit;
  });
  parts.push(text(LABELS + unit, 13, "stem", { "text-anchor": "middle" }));
  let ends = [x];
  let stageStart = 0;
  modules.forEach(({ stage, s, first }, m) => {
    const start = x + gap;
    if (first) stageStart = start;
    // Fusion: neighbours among the branches that are there; a new branch comes from the one above it.
    stage.n.forEach((_, i) => {
      if (i >= ends.length) arrow(start - gap * 0.45, i - 1, start, i);
      else [i - 1, i, i + 1].filter((j) => j >= 0 && j < ends.length).forEach((j) => arrow(ends[j], j, start, i));
    });
    ends = stage.n.map((n, r) => {
      const channels = code[stage.c[r]];
      block(start, r, code[n], channels, `stage ${s + 1}, 1/${4 * 2 ** r}: ${code[n]} units of ${channels} channels`);
      return start + unit * code[n];
    });
    x = start + unit * longest(stage);
    const last = m + 1 === modules.length || modules[m + 1].first;
    if (last) {
      const label = code[stage.b] > 1 ? `stage ${s + 1} ×${code[stage.b]}` : `stage ${s + 1}`;
      const room = x - stageStart;
      const shown = room > 62 || code[stage.b] === 1 && room > 42 ? label : room > 18 ? String(s + 1) : "";
      parts.push(text((stageStart + x) / 2, 13, shown, { "text-anchor": "middle", fill: ink, "font-weight": 600 }));
      parts.push(svg("path", { d: `M${stageStart} 18H${x}`, stroke: line }));
    }
  });
  // Every branch goes into the head, at one resolution.
  const head = x + gap;
  ends.forEach((end, r) => {
    parts.push(svg("path", { d: `M${end} ${middle(r)}H${head}`, stroke: muted, "stroke-width": 1, fill: "none" }));
  });
  const tallHead = middle(3) - middle(0) + 12;
  parts.push(
    svg(
      "g",
      {},
      svg("title", {}, `head: ${code[space.head]} channels`),
      svg("rect", { x: head, y: middle(0) - 6, width: Math.max(3, (code[space.head] / 128) * unit * 1.5), height: tallHead, rx: 1.5, fill: muted }),
    ),
  );
  parts.push(text(Math.min(width - 12, head + unit * 0.75), 13, "head", { "text-anchor": "middle" }));
  const key = "length: residual units · height: channels · arrows: fusions";
  parts.push(text(LABELS, height - 6, width < 360 ? key.split(" · ").slice(0, 2).join(" · ") : key, {}));
  target.setAttribute("viewBox", `0 0 ${width} ${height}`);
  target.setAttribute("height", String(height));
  target.setAttribute("aria-label", inWords(space, code));
  target.replaceChildren(...parts);
}
