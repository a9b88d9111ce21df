// One recommended item: what it is, its figures, and what can be done with it.

import { el, name, nameOf, short } from "./dom.js";

const ACTIONS = { why: "Why?", similar: "Similar", more: "More like this", exclude: "Exclude" };

/** `0.827`, `1.23e-8`: four figures at most. */
export const figure = (value) =>
  value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 1e5) ? String(Number(value.toFixed(3))) : value.toExponential(2);

/**
 * The card of an item.
 *
 * Args:
 *   item: `{id, title, figures}`, figures by the output's name.
 *   rank: from 1.
 *   pictures: whether items may have one.
 *   actions: what is done on `why`, `similar`, `more` and `exclude`; those left out have no button.
 *     `why` and `similar` are given the card's panel to fill and return a promise.
 */
export function card(item, rank, pictures, actions) {
  const panel = el("div", { class: "panel", hidden: true });
  const buttons = Object.keys(ACTIONS)
    .filter((action) => actions[action])
    .map((action) => {
      const opens = action === "why" || action === "similar";
      const button = el(
        "button",
        {
          type: "button",
          "data-action": action,
          "aria-expanded": opens ? "false" : null,
          "aria-label": `${ACTIONS[action]}: ${short(nameOf(item))}`,
          onclick: () => (opens ? toggle(button, panel, actions[action]) : actions[action](item)),
        },
        ACTIONS[action],
      );
      return button;
    });
  const node = el(
    "li",
    {
      class: "card",
      "data-id": item.id,
      onkeydown: (event) => {
        if (event.key !== "Escape" || panel.hidden) return;
        const open = buttons.find((button) => button.getAttribute("aria-expanded") === "true");
        close(buttons, panel);
        open?.focus();
      },
    },
    el("span", { class: "rank", "aria-hidden": "true" }, String(rank)),
    pictures ? picture(item) : null,
    el(
      "div",
      { class: "item" },
      el("h3", {}, name(nameOf(item), { dir: "auto" })),
      el("p", { class: "figures" }, figures(item)),
      el("p", { class: "elsewhere", hidden: true }),
      el("p", { class: "sentence", hidden: true }),
      el("div", { class: "actions" }, buttons),
      panel,
    ),
  );
  return node;
}

function figures(item) {
  const known = Object.entries(item.figures).map(([label, value]) =>
    el("span", {}, `${label.replaceAll("_", " ")} `, el("b", {}, figure(value))),
  );
  return [el("span", { class: "id" }, name(short(item.id, 60))), ...known];
}

/** The picture's frame keeps its room where there is no picture, so that nothing moves under the pointer. */
function picture(item) {
  const image = el("img", { alt: "", loading: "lazy", width: 64, height: 96, onerror: () => image.remove() });
  image.src = `pictures/${encodeURIComponent(item.id)}`;
  return el("span", { class: "picture" }, image);
}

function close(buttons, panel) {
  for (const button of buttons) if (button.hasAttribute("aria-expanded")) button.setAttribute("aria-expanded", "false");
  panel.hidden = true;
  panel.replaceChildren();
}

async function toggle(button, panel, fill) {
  const opened = button.getAttribute("aria-expanded") === "true";
  close([...button.parentElement.children], panel);
  if (opened) return;
  button.setAttribute("aria-expanded", "true");
  panel.hidden = false;
  try {
    const nodes = await fill();
    if (button.getAttribute("aria-expanded") === "true") panel.replaceChildren(...nodes);
  } catch (error) {
    panel.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  }
}

/** Moves the focus from a card's button to the same one of the next card, with the arrow keys. */
export function onArrow(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const action = event.target.dataset?.action;
  if (!step || !action) return;
  const cards = [...event.currentTarget.children];
  const next = cards[cards.indexOf(event.target.closest("li.card")) + step];
  const button = next?.querySelector(`:scope > .item > .actions > [data-action="${action}"]`);
  if (!button) return;
  event.preventDefault();
  button.focus();
  next.scrollIntoView({ block: "nearest" });
}
