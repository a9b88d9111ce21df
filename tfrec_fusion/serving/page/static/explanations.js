// Why items stand where they stand, from the model's signature `explain`: a sentence, terms, and "why not?".

import "./combobox.js";
import { el, name, nameOf, short } from "./dom.js";
import { figure } from "./card.js";

const COUNT = 20; // sources of each item
const MOST = 50; // items that are explained at once

/** The explanations of one column of results. */
export class Explanations {
  constructor(models, column) {
    this.models = models;
    this.column = column;
    this.known = [];
  }

  /** Whether the version that is asked explains itself. */
  get there() {
    return Boolean(this.column.target.signatures.explain);
  }

  /** The explanations of some items: `{answers, milliseconds}`. */
  async ask(items, signal) {
    const asked = { ...this.column.given, item_ids: items.map(({ id }) => id), count: COUNT };
    const { outputs, milliseconds } = await this.models.predict(this.column.target, "explain", asked, signal);
    const sentences = await this.models.sentences(outputs, signal);
    return { answers: items.map((_, place) => read(outputs, place, sentences[place])), milliseconds };
  }

  /** Puts a sentence under each item, in one request; how many milliseconds that took, null where nothing was asked. */
  async sentences(signal) {
    this.known = [];
    const items = this.column.items.slice(0, MOST);
    if (!this.there || !items.length) return null;
    const { answers, milliseconds } = await this.ask(items, signal);
    const history = new Map();
    answers.forEach((answer, place) => {
      for (const source of answer.sources) if (source.kind === "history") history.set(source.id, source.title);
      const node = this.column.list.children[place].querySelector(".sentence");
      node.textContent = answer.sentence;
      node.hidden = !answer.sentence;
    });
    this.known = [...history].map(([id, title]) => ({ id, title }));
    return milliseconds;
  }

  /** The terms of one item, for its panel. */
  async of(item) {
    const { answers } = await this.ask([item]);
    return terms(answers[0]);
  }

  /** What stands below the list: a field that asks why an item is not in it. */
  foot() {
    if (!this.there) return [];
    const answer = el("div", { class: "panel", hidden: true, "aria-live": "polite" });
    const box = el("choice-box");
    box.suggest = (text, signal) => this.column.suggest(text, signal);
    box.build({ label: "Why not …?", help: "An item that you expected here.", placeholder: "Title or id", free: true });
    box.addEventListener("change", async () => {
      const item = box.items.at(-1);
      if (box.items.length > 1) {
        box.items = [item];
        box.draw();
      }
      answer.hidden = !item;
      if (!item) return;
      try {
        const { answers } = await this.ask([item]);
        answer.replaceChildren(...whyNot(item, answers[0]));
      } catch (error) {
        answer.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
      }
    });
    return [box, answer];
  }
}

/** One item's part of the outputs of `explain`. */
function read(outputs, place, sentence) {
  const of = (output) => outputs[output]?.[0]?.[place];
  const names = outputs.part_names;
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const sources = of("source_kinds")
    .map((kind, number) => ({
      kind,
      id: of("sources")[number],
      title: of("source_titles")[number] || of("sources")[number],
      value: sum(of("contributions")[number]),
    }))
    .filter(({ kind }) => kind);
  return {
    sentence,
    sources,
    score: of("scores"),
    state: of("states"),
    parts: names.map((part, number) => ({ part, value: of("parts")[number] })),
    rest: {
      "without any of these": sum(of("base")),
      "further sources": sum(of("others")),
      "error of the method": sum(of("completeness_error")),
    },
    last: outputs.last_parts
      ? { id: outputs.last_id[0], title: outputs.last_title[0], parts: outputs.last_parts[0] }
      : null,
  };
}

const KINDS = {
  history: "history",
  user: "the user",
  feature: "feature",
  word: "word",
  item: "the item itself",
  item_feature: "the item's feature",
  item_text: "the item's text",
};

const partName = (part) => part.replaceAll("_", " ");

function terms(answer) {
  const parts = answer.parts.map(({ part, value }) => [partName(part), value]);
  const sources = answer.sources.map(({ kind, id, title, value }) => [
    [name(short(nameOf({ id, title }))), el("small", {}, ` ${KINDS[kind] ?? kind}`)],
    value,
  ]);
  const rest = Object.entries(answer.rest);
  return [
    table(`Score ${figure(answer.score)} is the sum of`, parts),
    table("It comes from", [...sources, ...rest]),
  ];
}

function whyNot(item, answer) {
  const gaps = answer.last ? answer.parts.map(({ part, value }, place) => [partName(part), value - answer.last.parts[place]]) : [];
  const behind = answer.state === "outscored";
  return [
    el("p", { class: "sentence" }, name(nameOf(item)), `: ${answer.sentence}`),
    ...(behind ? [table(`Its parts, less those of the last item here, ${short(nameOf(answer.last))}`, gaps)] : []),
    ...(answer.state === "unknown" ? [] : terms(answer)),
  ];
}

/** Terms that are not 0 as a table with bars, the longest as wide as its column. */
function table(caption, rows) {
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)), 1e-12);
  const told = rows.filter(([, value]) => Math.abs(value) > 1e-6 * most);
  return el(
    "table",
    { class: "terms" },
    el("caption", {}, caption),
    el(
      "tbody",
      {},
      told.map(([words, value]) => {
        const meter = el("span", { class: value < 0 ? "meter less" : "meter" });
        meter.style.width = `${(100 * Math.abs(value)) / most}%`;
        return el(
          "tr",
          {},
          el("th", { scope: "row" }, words),
          el("td", {}, (value < 0 ? "−" : "+") + figure(Math.abs(value))),
          el("td", { class: "bar-cell", "aria-hidden": "true" }, meter),
        );
      }),
    ),
  );
}
