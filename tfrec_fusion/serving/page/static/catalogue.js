// What a model says can be asked for: its items, categories and context columns (its signature `describe`).

const SHOWN = 8;

/** The items of a model by id and title, as far as `describe` names them. */
export class Catalogue {
  /** What `describe` says; an empty catalogue of a model that has no such signature, or does not answer. */
  static async load(models, target) {
    if (!target.signatures.describe) return new Catalogue({});
    const count = models.settings.inputs.count.high;
    try {
      const { outputs } = await models.predict(target, "describe", { count });
      return new Catalogue(outputs);
    } catch {
      return new Catalogue({}); // ids can be typed; a server that is gone says so with the first request
    }
  }

  constructor(described) {
    const { item_ids: ids = [], titles = [], categories = [], max_k: maxK = null } = described;
    const { context_columns: columns = [], context_inputs: inputs = [] } = described;
    this.items = ids.map((id, place) => ({ id, title: titles[place] || id }));
    this.titles = new Map(this.items.map(({ id, title }) => [id, title]));
    this.categories = categories.map((one) => ({ id: one, title: one }));
    this.contexts = inputs.map((input, place) => ({ input, column: columns[place] }));
    this.maxK = maxK;
  }

  /** The item with this id. */
  item(id) {
    return { id, title: this.titles.get(id) ?? id };
  }

  find(text) {
    this.folded ??= this.items.map((item) => folded(item.title));
    return matches(text, this.items, this.folded).map((item) => ({ ...item, hint: item.id }));
  }

  findCategories(text) {
    this.foldedCategories ??= this.categories.map((one) => folded(one.id));
    return matches(text, this.categories, this.foldedCategories);
  }
}

/** Letters without case and marks, so that `amelie` finds `Amélie`. */
const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** What fits a text best: the same id, then a title that begins with it, a word that does, and the rest. */
function matches(text, items, foldedTitles) {
  const asked = folded(text);
  const ranked = [[], [], [], []];
  for (let place = 0; place < items.length; place++) {
    const at = foldedTitles[place].indexOf(asked);
    if (items[place].id === text) ranked[0].push(items[place]);
    else if (at === 0) ranked[1].push(items[place]);
    else if (at > 0) ranked[/[\p{L}\p{N}]/u.test(foldedTitles[place][at - 1]) ? 3 : 2].push(items[place]);
  }
  return ranked.flat().slice(0, SHOWN);
}
