// <theme-switch>: the system's appearance, light or dark; the choice stays in this browser.

import { el, newId } from "./dom.js";

const KEY = "appearance";
const CHOICES = { system: "As the system", light: "Light", dark: "Dark" };

class ThemeSwitch extends HTMLElement {
  connectedCallback() {
    const id = newId("appearance");
    const options = Object.entries(CHOICES).map(([value, words]) => el("option", { value }, words));
    const select = el("select", { id, onchange: () => this.choose(select.value) }, options);
    this.append(el("label", { for: id }, "Appearance"), select);
    const kept = stored();
    select.value = kept in CHOICES ? kept : "system";
    this.choose(select.value);
  }

  choose(value) {
    document.documentElement.dataset.theme = value;
    try {
      localStorage.setItem(KEY, value);
    } catch {
      // Storage may be switched off; the choice then lasts as long as the page.
    }
  }
}

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

customElements.define("theme-switch", ThemeSwitch);
