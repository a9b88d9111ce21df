// <model-results>: what one model answers, and what is asked of its items.

import { announce, el, name, nameOf, newId } from "./dom.js";
import { card, onArrow } from "./card.js";
import { Explanations } from "./explanations.js";
import { wordsOf } from "./models.js";
import { similarItems } from "./similar.js";
import "./snippets.js";

/**
 * Properties: `target`, the version that is asked; `items`, what it answered.
 * Events: `pick` (`{action, item}`), `answered`, `target` when another version was chosen.
 */
export class ModelResults extends HTMLElement {
  /** Builds the column: `targets` to choose among, `closes` whether it can be taken away. */
  build(models, targets, target, closes) {
    this.models = models;
    this.targets = targets;
    this.target = target;
    this.items = [];
    const [id, heading] = [newId("model"), newId("heading")];
    this.chooser = el(
      "select",
      {
        id,
        onchange: () => {
          this.target = targets[Number(this.chooser.value)];
          this.dispatchEvent(new CustomEvent("target", { bubbles: true }));
        },
      },
      targets.map((one, place) => el("option", { value: place, selected: one === target }, wordsOf(one))),
    );
    this.state = el("p", { class: "state" });
    this.notes = el("div", { class: "notes" });
    this.list = el("ol", { class: "cards", onkeydown: onArrow });
    this.code = el("request-code");
    this.foot = el("div", { class: "foot" });
    this.setAttribute("role", "region");
    this.setAttribute("aria-labelledby", heading);
    this.replaceChildren(
      el(
        "div",
        { class: "column-head" },
        el("h2", { id: heading }, closes ? "Compared with" : "Recommendations"),
        el("label", { for: id, class: "hidden" }, "Model and version"),
        this.chooser,
        closes
          ? el("button", { type: "button", class: "plain", onclick: () => this.dispatchEvent(new CustomEvent("away", { bubbles: true })) }, "Close")
          : null,
      ),
      this.state,
      this.notes,
      this.list,
      this.foot,
      this.code,
    );
    this.explanations = new Explanations(models, this);
  }

  /** Asks for a request; an older question that is still out is given up. */
  async ask(given) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    const takes = this.target.signatures.recommend.inputs;
    const left = Object.keys(given).filter((name) => !(name in takes));
    this.given = Object.fromEntries(Object.entries(given).filter(([name]) => name in takes));
    this.failed = false;
    this.setAttribute("aria-busy", "true");
    this.list.setAttribute("aria-busy", "true");
    try {
      const { outputs, milliseconds } = await this.models.predict(this.target, "recommend", this.given, signal);
      const lengths = this.given.history ? await this.lengths(signal) : {};
      this.show(outputs, milliseconds, left, lengths);
      this.list.removeAttribute("aria-busy");
      await this.explain(signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.failed = true;
      this.items = [];
      this.list.replaceChildren();
      this.list.removeAttribute("aria-busy");
      this.say({ answered: "", explained: "", both: "" });
      this.notes.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
    }
    if (signal.aborted) return;
    this.removeAttribute("aria-busy");
    this.dispatchEvent(new CustomEvent("answered", { bubbles: true }));
  }

  /** Puts a reason under each item; without one the items stay all the same. */
  async explain(signal) {
    try {
      const milliseconds = await this.explanations.sentences(signal);
      if (milliseconds !== null) this.say({ explained: `explained${during(milliseconds)}` });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.notes.append(el("p", { class: "problem", role: "alert" }, `Not explained: ${error.message}`));
    }
  }

  /** How much of a history the version reads; a version that does not say so has none. */
  async lengths(signal) {
    if (!this.target.signatures.describe) return {};
    try {
      this.target.lengths ??= (await this.models.predict(this.target, "describe", { count: 0 }, signal)).outputs;
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    return this.target.lengths ?? {};
  }

  show(outputs, milliseconds, left, lengths) {
    const first = (name) => outputs[name]?.[0];
    const ids = first("item_ids") ?? [];
    const scored = Object.keys(outputs).filter(
      (name) => !this.models.settings.diagnoses.includes(name) && Array.isArray(first(name)) && typeof first(name)[0] === "number",
    );
    scored.sort((one, other) => (other === "scores") - (one === "scores"));
    this.items = ids
      .map((id, place) => ({
        id,
        title: first("titles")?.[place] ?? id,
        figures: Object.fromEntries(scored.map((name) => [name === "scores" ? "score" : name, first(name)[place]])),
      }))
      .filter((item) => item.id !== "");
    const count = `${this.items.length} ${this.items.length === 1 ? "item" : "items"}`;
    const answered = `${count}${during(milliseconds)}`;
    this.say({ answered, explained: "", both: "" });
    announce(`${wordsOf(this.target)}: ${answered}`);
    this.list.replaceChildren(
      ...this.items.map((item, place) => card(item, place + 1, this.models.settings.pictures, this.actions(item))),
    );
    this.notes.replaceChildren(...this.remarks(outputs, left, lengths).map((words) => el("p", { class: "note" }, words)));
    this.foot.replaceChildren(...this.explanations.foot());
    this.code.show(this.models.settings.url, this.target, this.models.body(this.target, "recommend", this.given), this.given);
  }

  /** Words above the list: what was answered, how long explaining took, what another column has too. */
  say(words) {
    this.said = { ...this.said, ...words };
    this.state.textContent = ["answered", "explained", "both"].map((key) => this.said[key]).filter(Boolean).join(" · ");
  }

  actions(item) {
    const pick = (action) => () => this.dispatchEvent(new CustomEvent("pick", { bubbles: true, detail: { action, item } }));
    const takes = this.target.signatures.recommend.inputs;
    return {
      why: this.explanations.there ? () => this.explanations.of(item) : null,
      similar: this.target.signatures.similar
        ? () => similarItems(this.models, this.target, item, this.given, (action, other) =>
            this.dispatchEvent(new CustomEvent("pick", { bubbles: true, detail: { action, item: other } })))
        : null,
      more: takes.history ? pick("history") : null,
      exclude: takes.exclude ? pick("exclude") : null,
    };
  }

  /** What the model said of the request, and what it cannot do. */
  remarks(outputs, left, { history_length: read, tower_history_length: towers } = {}) {
    const remarks = [];
    const unknown = (name) => [...new Set((outputs[name]?.[0] ?? []).filter(Boolean))];
    const quoted = (names) => names.map((one) => name(one));
    if (this.given.user_id && outputs.known_user?.[0] === false) {
      const instead = this.given.history || this.given.text ? "History and words decide alone." : "What is popular comes instead.";
      remarks.push(["The user ", name(this.given.user_id), ` is not in the training data. ${instead}`]);
    }
    if (unknown("unknown_items").length) remarks.push(["In no catalogue: ", ...joined(quoted(unknown("unknown_items"))), "."]);
    if (unknown("unknown_categories").length) remarks.push(["No item has the category ", ...joined(quoted(unknown("unknown_categories"))), "."]);
    const missing = new Set(unknown("unknown_items"));
    const known = (this.given.history ?? []).filter((id) => !missing.has(id)).length;
    if (known > read) remarks.push(`The history has ${known} items, of which this model reads the newest ${read}: the older ones count for nothing.`);
    if (Math.min(known, read) > towers) remarks.push(`Its towers read the newest ${towers} items of the history; older ones count by factors and content alone.`);
    if (!this.items.length) remarks.push("Nothing is left: fewer filters, or `include_seen`, leave more.");
    if (left.length) remarks.push(`${wordsOf(this.target)} takes no ${left.map((one) => `\`${one}\``).join(", ")}: left out here.`);
    if (!this.explanations.there) {
      remarks.push("This version was pushed before explanations and similar items existed. `tfrec run` pushes one that has them.");
    }
    return remarks;
  }

  /** Where each item stands in another column; null takes that away. */
  compare(others) {
    const ranks = others && new Map(others.map((item, place) => [item.id, place + 1]));
    let shared = 0;
    for (const node of this.list.children) {
      const where = node.querySelector(".elsewhere");
      const rank = ranks?.get(node.dataset.id);
      shared += rank ? 1 : 0;
      where.hidden = !ranks;
      where.textContent = !ranks ? "" : rank ? `Rank ${rank} in the other` : "Not in the other";
      node.classList.toggle("alone", Boolean(ranks) && !rank);
    }
    this.say({ both: ranks ? `${shared} in both` : "" });
  }
}

/** ` in 4.1 ms`, where the time is known. */
const during = (milliseconds) => (milliseconds === null ? "" : ` in ${milliseconds.toFixed(1)} ms`);

const joined = (nodes) => nodes.flatMap((node, place) => (place ? [", ", node] : [node]));

customElements.define("model-results", ModelResults);
