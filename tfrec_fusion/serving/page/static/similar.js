// Items like one item: by who chooses them, by their text, or by a mixture of both (the signature `similar`).

import { card } from "./card.js";
import { el, nameOf } from "./dom.js";
import { range } from "./form.js";

/** The panel of an item: a slider between behaviour and text, and the list. */
export async function similarItems(models, target, item, given, pick) {
  const { default: own, low, high } = models.settings.inputs.text_weight;
  const list = el("ol", { class: "cards small", "aria-label": `Like ${nameOf(item)}` });
  const words = (value) => `${Math.round(100 * value)} % text`;
  const { node, input } = range("text_weight", "Alike by", low, high, words, "Who chooses them", "What they say");
  const slider = target.signatures.embed_text ? node : null;
  input.value = (low + high) / 2;
  input.dispatchEvent(new Event("input"));
  const ask = async (weight) => {
    const { categories = [], exclude = [] } = given;
    const asked = { item_id: item.id, k: 5, categories, exclude, text_weight: weight };
    const { outputs } = await models.predict(target, "similar", asked);
    const found = outputs.item_ids[0].map((id, place) => ({
      id,
      title: outputs.titles[0][place],
      figures: { likeness: outputs.scores[0][place] },
    }));
    const cards = found
      .filter(({ id }) => id)
      .map((one, place) => card(one, place + 1, models.settings.pictures, { more: () => pick("history", one), exclude: () => pick("exclude", one) }));
    list.replaceChildren(...(cards.length ? cards : [el("li", {}, "Nothing is like it among what the filters leave.")]));
  };
  input.addEventListener("change", () => ask(Number(input.value)));
  await ask(own);
  return [slider, list].filter(Boolean);
}
