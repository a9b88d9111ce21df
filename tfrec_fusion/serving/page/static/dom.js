// Elements, made from text alone: nothing that a server answers ever becomes HTML.

/** An element with attributes, listeners (`onclick: …`) and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

let made = 0;

/** An id that no other element has. */
export const newId = (stem) => `${stem}-${++made}`;

/** A text cut to `length` signs, for labels. */
export function short(text, length = 80) {
  const signs = [...String(text)];
  return signs.length > length ? `${signs.slice(0, length - 1).join("")}…` : String(text);
}

const INVISIBLE = /^[\s\p{Cc}\p{Cf}\p{M}]*$/u;

/** How an item is called: its title, or its id where the title says nothing. */
export const nameOf = (item) => (INVISIBLE.test(item.title ?? "") ? item.id : item.title);

/** A name that keeps its writing direction to itself. */
export const name = (text, attributes = {}) => el("bdi", attributes, text);

/** Calls `run` when `wait` milliseconds have passed without another call. */
export function debounced(run, wait) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), wait);
  };
}

/** Tells users of screen readers, without moving the focus. */
export function announce(words) {
  const region = document.getElementById("announcements");
  if (region) region.textContent = words;
}
