// The request in the page's own address, behind `#`: to keep and to share; it is never sent to a server.

import { pathOf } from "./models.js";

const LISTS = ["history", "exclude", "categories", "allow"];
const WORDS = ["user_id", "text"];

/** The request and the versions that an address holds. */
export function given(targets) {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const read = {};
  for (const name of new Set(parameters.keys())) {
    const values = parameters.getAll(name);
    if (name === "model") continue;
    read[name] = LISTS.includes(name) ? values : WORDS.includes(name) ? values[0] : plain(values[0]);
  }
  const shown = parameters.getAll("model").map((path) => targets.find((target) => pathOf(target) === path));
  return { given: read, shown: shown.filter(Boolean).slice(0, 2) };
}

/** Puts them there. */
export function write(given, shown) {
  const parameters = new URLSearchParams();
  for (const target of shown) parameters.append("model", pathOf(target));
  for (const [name, value] of Object.entries(given)) {
    for (const one of Array.isArray(value) ? value : [value]) parameters.append(name, one);
  }
  history.replaceState(null, "", `#${parameters}`);
}

/** Numbers and truth values of settings; all else stays text. */
const plain = (text) => (text === "true" ? true : text === "false" ? false : text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text);
