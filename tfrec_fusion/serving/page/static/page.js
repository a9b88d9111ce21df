// <recommender-page>: the request at one side, one or two models' answers at the other.

import "./theme.js";
import "./form.js";
import "./results.js";
import { Catalogue } from "./catalogue.js";
import { el, newId } from "./dom.js";
import { Models, pathOf, wordsOf } from "./models.js";
import { given as readAddress, write as writeAddress } from "./address.js";

class RecommenderPage extends HTMLElement {
  async connectedCallback() {
    this.form = el("request-form");
    this.columns = el("div", { class: "columns" });
    this.others = el("div", { class: "compare" });
    this.replaceChildren(
      el("p", { id: "announcements", class: "hidden", role: "status", "aria-live": "polite" }),
      el(
        "div",
        { class: "layout" },
        el("aside", { class: "request", "aria-label": "Request" }, this.form),
        el("main", { id: "results", tabindex: "-1" }, this.others, this.columns),
      ),
    );
    try {
      this.models = await Models.load();
      const { found, failures } = await this.models.targets();
      if (!found.length) throw new Error(["No model here recommends.", ...failures].join(" "));
      this.targets = found;
      this.problems = failures;
    } catch (error) {
      this.columns.replaceChildren(el("p", { class: "problem", role: "alert" }, `${error.message} Reload the page when the server answers.`));
      return;
    }
    this.listen();
    const { given, shown } = readAddress(this.targets);
    this.shown = shown.length ? shown : [this.targets[0]];
    await this.rebuild(given);
  }

  listen() {
    this.addEventListener("ask", () => this.ask());
    this.addEventListener("pick", ({ detail: { action, item } }) => this.form.add(action, item));
    this.addEventListener("away", () => this.against(null));
    this.addEventListener("answered", () => this.compare());
    this.addEventListener("use-history", ({ detail }) => {
      const given = { ...this.form.given, history: detail };
      this.form.given = given;
      this.ask();
    });
    this.addEventListener("target", () => {
      this.shown = this.results.map((column) => column.target);
      this.rebuild(this.form.given);
    });
  }

  /** The columns of results, one or two. */
  get results() {
    return [...this.columns.children];
  }

  /** Builds form and columns for the versions that are shown, and asks. */
  async rebuild(given) {
    this.columns.replaceChildren(
      ...this.shown.map((target, place) => {
        const column = el("model-results");
        column.build(this.models, this.targets, target, place > 0);
        column.suggest = (text, signal) => this.form.suggestItems(text, signal);
        return column;
      }),
    );
    this.columns.classList.toggle("two", this.shown.length > 1);
    const [first] = this.shown;
    if (this.catalogueOf !== pathOf(first)) {
      this.catalogueOf = pathOf(first);
      this.catalogue = await Catalogue.load(this.models, first);
    }
    this.form.build(this.models, first, this.catalogue, given);
    this.drawOthers();
    this.ask();
  }

  /** The choice of a second model. */
  drawOthers() {
    const [first, second] = this.shown;
    const others = this.targets.filter((target) => target !== first && target !== second);
    const id = newId("against");
    const select = el(
      "select",
      { id, onchange: () => this.against(select.value === "" ? null : others[Number(select.value)]) },
      el("option", { value: "" }, "nothing"),
      others.map((target, place) => el("option", { value: place }, wordsOf(target))),
    );
    const failures = this.problems.map((words) => el("p", { class: "note" }, words));
    this.others.replaceChildren(
      ...(second || !others.length ? [] : [el("label", { for: id }, "Compare with"), select]),
      ...failures,
    );
  }

  against(target) {
    this.shown = target ? [this.shown[0], target] : [this.shown[0]];
    this.rebuild(this.form.given);
  }

  ask() {
    const given = this.form.given;
    const key = JSON.stringify([given, this.shown.map(pathOf)]);
    if (key === this.asked && !this.results.some((column) => column.failed)) return;
    this.asked = key;
    writeAddress(given, this.shown);
    for (const column of this.results) column.ask(given);
  }

  compare() {
    const [first, second] = this.results;
    first?.compare(second ? second.items : null);
    second?.compare(first.items);
    this.form.showKnown(first?.explanations.known ?? []);
  }
}

customElements.define("recommender-page", RecommenderPage);
