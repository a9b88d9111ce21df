// <request-form>: everything that a request may say, made from the contract and the model's signature.

import "./combobox.js";
import { debounced, el, name, nameOf, newId, short } from "./dom.js";

const WAIT = 200;
const OWN = ["user_id", "text", "history", "exclude", "categories", "diversity", "rank_weight", "k", "include_seen"];

/** Properties: `given`, the inputs that are not at their defaults. Events: `ask` when they change. */
export class RequestForm extends HTMLElement {
  /** Builds the fields for a model, with the values of `given`. */
  build(models, target, catalogue, given) {
    this.models = models;
    this.target = target;
    this.catalogue = catalogue;
    this.inputs = models.settings.inputs;
    this.fields = {};
    const takes = target.signatures.recommend.inputs;
    const has = (name) => name in takes;
    const others = Object.keys(takes).filter((name) => !OWN.includes(name));
    const form = el(
      "form",
      { onsubmit: (event) => event.preventDefault(), onchange: () => this.ask(), oninput: debounced(() => this.ask(), WAIT) },
      el(
        "fieldset",
        {},
        el("legend", {}, "Who and what"),
        has("user_id") && this.text("user_id", "User", "An id of the training data. Empty: nobody in particular."),
        (this.known = el("div", { class: "known", hidden: true })),
        has("text") && (target.signatures.embed_text
          ? this.text("text", "Looking for", "In words, as you type.", { type: "search" })
          : el("p", { class: "note" }, "This model reads no words: it was trained with `text: none`.")),
        has("history") && this.choices("history", "History", "Items chosen before, latest last. They replace what the model knows of the user.", {
          suggest: (text, signal) => this.suggestItems(text, signal),
          placeholder: "Title or id",
        }),
      ),
      el(
        "details",
        { class: "which", open: matchMedia("(min-width: 56rem)").matches },
        el("summary", {}, "Which items"),
        has("categories") && catalogue.categories.length
          ? this.choices("categories", "Categories", "Only items that have one of them.", {
              suggest: async (text) => this.catalogue.findCategories(text),
              placeholder: "Name of a category",
            })
          : null,
        has("exclude") && this.choices("exclude", "Excluded", "Items that must not come.", {
          suggest: (text, signal) => this.suggestItems(text, signal),
          placeholder: "Title or id",
        }),
        has("diversity") && this.slider("diversity", "Diversity", ["By score alone", "As unlike as can be"]),
        has("rank_weight") && this.weight(),
        has("k") && this.number("k", "How many", catalogue.maxK),
        has("include_seen") && this.check("include_seen", "Also items that the user has chosen before"),
      ),
      others.length
        ? el("details", {}, el("summary", {}, "More settings"), others.map((name) => this.other(name, takes[name])))
        : null,
      el("button", { type: "button", class: "plain", onclick: () => this.clear() }, "Start again"),
    );
    this.replaceChildren(form);
    this.given = given;
  }

  /** Titles that fit; where few do, items that fit by meaning, if the model reads words. */
  async suggestItems(text, signal) {
    const found = this.catalogue.find(text);
    if (found.length >= 5 || !this.target.signatures.embed_text) return found;
    const { outputs } = await this.models.predict(this.target, "recommend", { text, k: 5 }, signal);
    const known = new Set(found.map((item) => item.id));
    const ids = outputs.item_ids[0];
    const close = ids.map((id, place) => ({ id, title: outputs.titles?.[0][place] ?? id, hint: "by meaning" }));
    return [...found, ...close.filter((item) => item.id && !known.has(item.id))];
  }

  /** What the model knows of the user, as far as its explanations name it. */
  showKnown(items) {
    const { user_id: user, history } = this.given;
    this.known.hidden = !items.length || !user || Boolean(history);
    const use = () => this.dispatchEvent(new CustomEvent("use-history", { bubbles: true, detail: items.map(({ id }) => id) }));
    this.known.replaceChildren(
      el("h3", {}, "What the model knows they chose"),
      el("ul", { tabindex: "0", role: "list", "aria-label": "Known history" }, items.map((item) => el("li", {}, name(short(nameOf(item)))))),
      el("button", { type: "button", class: "plain", onclick: use }, "Change this history"),
    );
  }

  ask() {
    this.dispatchEvent(new Event("ask", { bubbles: true }));
  }

  clear() {
    this.given = {};
    this.ask();
    this.querySelector("input")?.focus();
  }

  /** Adds an item to the history or to what is excluded. */
  add(name, item) {
    this.fields[name]?.box.add(item);
  }

  get given() {
    const given = {};
    for (const [name, field] of Object.entries(this.fields)) {
      const value = field.read();
      const standard = Array.isArray(value) ? [] : this.standardOf(name);
      if (JSON.stringify(value) !== JSON.stringify(standard)) given[name] = value;
    }
    return given;
  }

  set given(given) {
    for (const [name, field] of Object.entries(this.fields)) {
      field.write(given[name] ?? (field.box ? [] : this.standardOf(name)));
    }
  }

  /** What an input is if nobody says otherwise: by the model, else by the contract. */
  standardOf(name) {
    return this.target.signatures.recommend.inputs[name]?.standard ?? this.inputs[name]?.default ?? "";
  }

  text(name, label, help, attributes = {}) {
    const [id, hint] = [newId(name), newId("help")];
    const input = el("input", { id, type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": hint, ...attributes });
    this.fields[name] = { read: () => input.value.trim(), write: (value) => (input.value = value) };
    return el("div", { class: "field" }, el("label", { for: id }, label), input, el("p", { id: hint, class: "help" }, help));
  }

  choices(name, label, help, { suggest, placeholder }) {
    const box = el("choice-box", { class: "field" });
    box.suggest = suggest;
    box.build({ label, help, placeholder, free: true });
    box.addEventListener("change", (event) => {
      event.stopPropagation();
      if (event.target === box) this.ask();
    });
    const itemOf = name === "categories" ? (id) => ({ id, title: id }) : (id) => this.catalogue.item(id);
    this.fields[name] = {
      box,
      read: () => box.items.map((item) => item.id),
      write: (ids) => {
        box.items = ids.map(itemOf);
        box.draw();
      },
    };
    return box;
  }

  number(name, label, most = null) {
    const { low, high, off, help, absent, default: standard, dtype } = this.inputs[name];
    const [id, hint] = [newId(name), newId("help")];
    const input = el("input", {
      id,
      type: "number",
      min: Math.min(...[low, standard, off].filter((one) => one !== null)),
      max: most ?? high,
      step: dtype === "int32" ? 1 : "any",
      "aria-describedby": hint,
    });
    this.fields[name] = {
      read: () => (input.value === "" ? standard : Number(input.value)),
      write: (value) => (input.value = value),
    };
    const words = standard < low ? `${help}; ${standard} for ${absent}` : help;
    return el("div", { class: "field" }, el("label", { for: id }, label), input, el("p", { id: hint, class: "help" }, words));
  }

  /** One of a few words. */
  choice(name, { choices, help }) {
    const [id, hint] = [newId(name), newId("help")];
    const select = el("select", { id, "aria-describedby": hint }, choices.map((one) => el("option", { value: one }, one)));
    this.fields[name] = { read: () => select.value, write: (value) => (select.value = value) };
    return el("div", { class: "field" }, el("label", { for: id }, name), select, el("p", { id: hint, class: "help" }, help));
  }

  check(name, label) {
    const id = newId(name);
    const input = el("input", { id, type: "checkbox" });
    this.fields[name] = { read: () => input.checked, write: (value) => (input.checked = value) };
    return el("div", { class: "field check" }, input, el("label", { for: id }, label));
  }

  slider(name, label, [least, most]) {
    const { low, high } = this.inputs[name];
    const { node, input, show } = range(name, label, low, high, (value) => value.toFixed(2), least, most);
    this.fields[name] = {
      read: () => Number(input.value),
      write: (value) => {
        input.value = value;
        show();
      },
    };
    return node;
  }

  /** The rank weight: what was validated, or a slider of one's own, whose 0 is "not at all". */
  weight() {
    const { low, high, off, default: validated } = this.inputs.rank_weight;
    const words = (value) => (value ? value.toFixed(2) : "not at all");
    const { node, input, show } = range("rank_weight", "Rank weight", low, high, words, "Retrieval alone", "Ranking alone");
    const id = newId("validated");
    const box = el("input", { id, type: "checkbox" });
    const draw = () => {
      input.disabled = box.checked;
      show();
    };
    box.addEventListener("change", draw);
    this.fields.rank_weight = {
      read: () => (box.checked ? validated : Number(input.value) || off),
      write: (value) => {
        box.checked = value === validated;
        input.value = value === off || box.checked ? low : value;
        draw();
      },
    };
    node.append(el("div", { class: "check" }, box, el("label", { for: id }, "The weight that validated best")));
    return node;
  }

  /** An input that has no field of its own. */
  other(name, { dtype, rank }) {
    const known = this.inputs[name];
    if (known?.choices?.length) return this.choice(name, known);
    if (known && known.axes === 0 && known.dtype !== "bool" && known.dtype !== "string") return this.number(name, name);
    const context = this.catalogue.contexts.find(({ input }) => input === name);
    const help = known ? `${known.help}${rank === 2 ? ", divided by commas" : ""}` : "Known when the choice is made; empty: not known.";
    if (dtype !== "DT_STRING") return null;
    const node = this.text(name, context?.column ?? name, help);
    if (rank === 2) {
      const { read, write } = this.fields[name];
      this.fields[name] = {
        read: () => read().split(",").map((one) => one.trim()).filter(Boolean),
        write: (ids) => write(ids.length ? ids.join(", ") : ""),
      };
    }
    return node;
  }
}

/** A slider with its value beside it, and words at its ends. */
export function range(name, label, low, high, words, least, most) {
  const id = newId(name);
  const output = el("output", { for: id });
  const input = el("input", { id, type: "range", min: low, max: high, step: 0.05, value: low });
  const show = () => {
    const text = input.disabled ? "" : words(Number(input.value));
    output.textContent = text;
    input.setAttribute("aria-valuetext", text || "as validated");
  };
  input.addEventListener("input", show);
  const ends = el("div", { class: "ends", "aria-hidden": "true" }, el("span", {}, least), el("span", {}, most));
  const head = el("div", { class: "slider-head" }, el("label", { for: id }, label), output);
  show();
  return { node: el("div", { class: "field slider" }, head, input, ends), input, show };
}

customElements.define("request-form", RequestForm);
