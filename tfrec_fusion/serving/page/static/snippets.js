// <request-code>: the same request to copy, as curl and as Python.

import { announce, el } from "./dom.js";
import { pathOf } from "./models.js";

// Signs that would change how the line reads are written as escapes: JSON and Python have the same ones.
const ODD = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const escaped = (text) =>
  text.replace(ODD, (sign) =>
    [...Array(sign.length).keys()]
      .map((place) => `\\u${sign.charCodeAt(place).toString(16).padStart(4, "0")}`)
      .join(""),
  );
const literal = (value) => escaped(JSON.stringify(value));

/** A line for the shell that sends `body`. */
export function curl(url, target, body) {
  return `curl -d '${literal(body).replaceAll("'", "'\\''")}' ${url}${pathOf(target)}:predict`;
}

const python = (value) =>
  typeof value === "boolean"
    ? { true: "True", false: "False" }[value]
    : Array.isArray(value)
      ? `[${value.map(python).join(", ")}]`
      : literal(value);

/** A program that asks the same; `given` holds what is not at its default. */
export function program(url, target, given) {
  const { user_id: user, ...others } = given;
  // The client wants something to go by; "" is nobody in particular.
  const whom = user || Object.keys(others).some((name) => name !== "k") ? user : "";
  const words = Object.entries(others).map(([name, value]) => `${name}=${python(value)}`);
  const version = target.version ? `, version=${target.version}` : "";
  return [
    "from tfrec_fusion.serving import Client",
    "",
    `with Client.connect(${literal(url)}, ${literal(target.model)}${version}) as client:`,
    `    for item in client.recommend(${[...(whom === undefined ? [] : [literal(whom)]), ...words].join(", ")}):`,
    "        print(item.item_id, item.score, item.title)",
  ].join("\n");
}

class RequestCode extends HTMLElement {
  /** Shows the request of one column of results. */
  show(url, target, body, given) {
    const open = this.querySelector("details")?.open ?? false;
    const parts = [
      ["As curl", curl(url, target, body)],
      ["As Python", program(url, target, given)],
    ];
    this.replaceChildren(
      el("details", { open }, el("summary", {}, "The same request as code"), ...parts.map(([title, text]) => block(title, text))),
    );
  }
}

function block(title, text) {
  const code = el("pre", { tabindex: "0", role: "group", "aria-label": title }, el("code", {}, text));
  const copy = el(
    "button",
    {
      type: "button",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          announce(`${title}: copied`);
          copy.textContent = "Copied";
          setTimeout(() => (copy.textContent = "Copy"), 2000);
        } catch {
          getSelection().selectAllChildren(code);
          announce(`${title}: selected; copy it with the keyboard`);
        }
      },
    },
    "Copy",
  );
  copy.setAttribute("aria-label", `Copy: ${title}`);
  return el("div", { class: "code" }, el("div", { class: "code-head" }, el("h4", {}, title), copy), code);
}

customElements.define("request-code", RequestCode);
