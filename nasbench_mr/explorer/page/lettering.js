// Text in drawings: its font, its colours, its width.

export const FONT = { "font-family": "system-ui, sans-serif", "font-size": 11.5 };

/** Return the colours of text and lines. */
export const inks = (theme) =>
  theme === "dark"
    ? { ink: "#e6e9ee", muted: "#a3adba", accent: "#ff9e64", line: "#46505e" }
    : { ink: "#1b2430", muted: "#566270", accent: "#c2410c", line: "#b9c1cb" };

let meter = null;

/** Return the width of a text in the axes' font. */
export function measured(text) {
  if (!meter) {
    meter = document.createElement("canvas").getContext("2d");
    meter.font = `600 ${FONT["font-size"]}px ${FONT["font-family"]}`;
  }
  return meter.measureText(text).width;
}

/** Return a text cut to a width. */
export function clipped(text, room) {
  if (measured(text) <= room) return text;
  let end = text.length;
  while (end > 1 && measured(`${text.slice(0, end)}…`) > room) end--;
  return `${text.slice(0, end)}…`;
}
