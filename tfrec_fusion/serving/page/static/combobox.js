// <choice-box>: a field with suggestions (ARIA's combobox with a listbox) and what was chosen as buttons.

import { announce, debounced, el, name, nameOf, newId, short } from "./dom.js";

const WAIT = 150;

/**
 * Properties: `suggest(text, signal)` → `[{id, title, hint}]`, and `items`, what is chosen.
 * Events: `change` when `items` changed.
 */
export class ChoiceBox extends HTMLElement {
  constructor() {
    super();
    this.items = [];
    this.suggest = async () => [];
    this.shown = [];
    this.active = -1;
    this.abort = null;
  }

  /** Builds the field: `label` above it, `help` below, and whether any text may be chosen as an id. */
  build({ label, help, placeholder, free = false }) {
    const [id, list, hint] = ["field", "suggestions", "help"].map(newId);
    this.free = free;
    this.label = label;
    this.chips = el("ul", { class: "chips", "aria-label": label });
    this.list = el("ul", { id: list, role: "listbox", "aria-label": `Suggestions for ${label}`, hidden: true });
    this.input = el("input", {
      id,
      type: "text",
      role: "combobox",
      autocomplete: "off",
      spellcheck: "false",
      placeholder,
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": list,
      "aria-describedby": hint,
      onkeydown: (event) => this.onKey(event),
      onblur: () => this.close(),
    });
    const later = debounced(() => this.look(), WAIT);
    this.input.addEventListener("input", (event) => {
      event.stopPropagation(); // what is typed is no choice yet
      this.abort?.abort();
      later();
    });
    const field = el("div", { class: "suggesting" }, this.input, this.list);
    this.replaceChildren(
      el("label", { for: id }, label),
      field,
      el("p", { id: hint, class: "help" }, help),
      this.chips,
    );
    this.draw();
  }

  async look() {
    const text = this.input.value.trim();
    if (!text) return this.close();
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    try {
      const found = await this.suggest(text, signal);
      if (signal.aborted || document.activeElement !== this.input) return;
      const chosen = new Set(this.items.map((item) => item.id));
      this.shown = found.filter((item) => !chosen.has(item.id));
      if (this.free && !found.some((item) => item.id === text) && !chosen.has(text)) {
        this.shown.push({ id: text, title: text, hint: "use as an id" });
      }
      this.open();
    } catch (error) {
      if (error.name !== "AbortError") this.close(error.message);
    }
  }

  open() {
    this.active = -1;
    this.list.replaceChildren(
      ...this.shown.map((item, place) =>
        el(
          "li",
          {
            id: newId("suggestion"),
            role: "option",
            "aria-selected": "false",
            // Before the field loses the focus and the list goes.
            onmousedown: (event) => {
              event.preventDefault();
              this.choose(place);
            },
          },
          name(nameOf(item)),
          el("small", {}, item.hint ?? ""),
        ),
      ),
    );
    this.list.hidden = !this.shown.length;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    announce(this.shown.length ? `${this.shown.length} suggestions` : `Nothing fits in ${this.label}`);
  }

  close(words = "") {
    this.abort?.abort();
    this.shown = [];
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    if (words) announce(words);
  }

  move(step) {
    const options = [...this.list.children];
    if (!options.length) return;
    options[this.active]?.setAttribute("aria-selected", "false");
    this.active = (this.active + step + options.length + (this.active < 0 && step < 0 ? 1 : 0)) % options.length;
    const option = options[this.active];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  onKey(event) {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (this.list.hidden) this.look();
      else this.move(key === "ArrowDown" ? 1 : -1);
    } else if (key === "Enter" && this.shown.length) {
      event.preventDefault();
      this.choose(Math.max(this.active, 0));
    } else if (key === "Escape") {
      if (this.list.hidden) this.input.value = "";
      this.close();
    } else if (key === "Backspace" && !this.input.value && this.items.length) {
      this.remove(this.items.length - 1);
    }
  }

  choose(place) {
    const { id, title } = this.shown[place];
    this.input.value = "";
    this.close();
    this.add({ id, title });
  }

  /** Adds an item, unless it is there. */
  add(item) {
    if (this.items.some((one) => one.id === item.id)) return;
    this.items = [...this.items, item];
    this.changed(`${short(nameOf(item))} added to ${this.label}`);
  }

  remove(place) {
    const [gone] = this.items.slice(place, place + 1);
    this.items = this.items.filter((_, other) => other !== place);
    this.changed(`${short(nameOf(gone))} removed from ${this.label}`);
    (this.chips.children[Math.min(place, this.items.length - 1)]?.firstChild ?? this.input).focus();
  }

  changed(words) {
    this.draw();
    announce(words);
    this.dispatchEvent(new Event("change", { bubbles: true }));
  }

  draw() {
    this.chips.replaceChildren(
      ...this.items.map((item, place) =>
        el(
          "li",
          {},
          el(
            "button",
            { type: "button", class: "chip", onclick: () => this.remove(place) },
            el("span", { class: "hidden" }, "Remove "),
            name(short(nameOf(item), 60)),
            el("span", { "aria-hidden": "true" }, " ×"),
          ),
        ),
      ),
    );
    this.chips.hidden = !this.items.length;
  }
}

customElements.define("choice-box", ChoiceBox);
