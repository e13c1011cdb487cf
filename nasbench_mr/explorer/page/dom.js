// Elements: made from a name, attributes and children. Text is text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element; attributes that begin with "on" are listeners. */
export const el = (name, attributes, ...children) => filled(document.createElement(name), attributes, children);

/** Return an SVG element. */
export const svg = (name, attributes, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

function filled(element, attributes = {}, children = []) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string" && !(element instanceof SVGElement)) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Say something to screen readers. */
export function say(text) {
  byId("said").textContent = text;
}

/** Return a function that runs `work` once before the next frame, however often it is called. */
export function perFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/**
 * Call `work` when an element's size changes. Returns a function that tells the size: asking the element itself
 * in the middle of changes makes the browser lay the page out again.
 */
export function sized(element, work) {
  let size = null;
  new ResizeObserver(([entry]) => {
    size = [entry.contentRect.width, entry.contentRect.height];
    work();
  }).observe(element);
  return () => size ?? [element.clientWidth, element.clientHeight];
}

/** Fill a select element: `groups` is a list of [label, [[value, text], ...]]. */
export function fillSelect(select, groups, value) {
  select.replaceChildren(
    ...groups.map(([label, options]) => {
      const made = options.map(([key, text]) => el("option", { value: key }, text));
      return label ? el("optgroup", { label }, ...made) : made;
    }).flat(),
  );
  select.value = value;
}
