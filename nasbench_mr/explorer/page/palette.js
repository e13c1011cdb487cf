// Colours that colour-blind readers can tell apart; more of something always stands out more from the page.

const RAMPS = {
  light: ["#b5de2b", "#5ec962", "#21a585", "#26828e", "#365c8d", "#46327e", "#440154"],
  dark: ["#3b4a80", "#31688e", "#26828e", "#1f9e89", "#4ac16d", "#a0da39", "#fde725"],
};
// Okabe and Ito's colours; the yellow only where the page is dark, a grey in its place.
const CATEGORIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#b8860b", "#a64d84", "#3a9bd1", "#4d4d4d"],
  dark: ["#56b4e9", "#e69f00", "#2fc49a", "#f0e442", "#e39cc4", "#f2824a", "#cfd3d8"],
};
const SURFACES = {
  light: { ground: "#ffffff", grid: "#e9ecf0", faint: "#9aa3ae" },
  dark: { ground: "#171b22", grid: "#262d37", faint: "#5b6470" },
};
export const SHAPES = ["circle", "square", "diamond", "triangle"];

/** Return "light" or "dark", as chosen or as the system has it. */
export function themeOf(choice) {
  return choice || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

export const surface = (theme) => SURFACES[theme];
export const ramp = (theme) => RAMPS[theme];

/** Return the colour and shape of category k: both change, so that neither has to be seen. */
export function category(theme, k) {
  const colors = CATEGORIES[theme];
  return { color: colors[k % colors.length], shape: SHAPES[k % SHAPES.length] };
}

/** Return 256 colours from low to high. */
export function rampColors(theme) {
  const stops = RAMPS[theme].map(rgb);
  return Array.from({ length: 256 }, (_, k) => {
    const at = (k / 255) * (stops.length - 1);
    const i = Math.min(stops.length - 2, Math.floor(at));
    const mixed = stops[i].map((c, j) => Math.round(c + (at - i) * (stops[i + 1][j] - c)));
    return `#${mixed.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
  });
}

/** Return [red, green, blue] of "#rrggbb". */
export function rgb(color) {
  const number = parseInt(color.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}
