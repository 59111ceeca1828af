// Pieces that the pages for accounts and for keeping order share.

import { call } from "./api.js";
import { make, onSubmit, read } from "./form.js";

/** Says how the last thing went, where everybody hears it. */
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  // A text that is the same as before would not be read out again.
  requestAnimationFrame(() => { place.textContent = text; });
}

/** A button that does something once and says how it went. */
export function act(label, work, done = "Done", kind = "quiet") {
  const button = make("button", { type: "button", class: kind }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const told = await work();
      say(typeof told === "string" ? told : `${label}: ${done}`);
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
  });
  return button;
}

/** The same, after a second look. */
export function actForGood(label, work) {
  const button = act(label, async () => {
    if (!button.dataset.sure) {
      button.dataset.sure = "yes";
      button.textContent = `${label}: press again`;
      return `Press again to ${label.toLowerCase()}`;
    }
    return work();
  });
  button.addEventListener("blur", () => {
    delete button.dataset.sure;
    button.textContent = label;
  });
  return button;
}

/** Rows as a table. Columns are `[title, row => text or element]`. */
export function table(caption, columns, rows) {
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...columns.map(([title]) => make("th", { scope: "col" }, title)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...columns.map(([, cell]) => make("td", {}, cell(row) ?? "")))))));
}

/** Facts as pairs. */
export const facts = (pairs) => make("dl", { class: "load" }, ...pairs
  .filter(([, value]) => value !== undefined && value !== null)
  .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));

/** A labelled field. */
export function field(label, path, attributes = {}) {
  const { options, ...rest } = attributes;
  const input = options
    ? make("select", { "data-path": path, ...rest }, ...options.map((name) => make("option", {}, name)))
    : make("input", { "data-path": path, type: "text", ...rest });
  return make("label", {}, `${label} `, input);
}

/** A small form that makes one call. */
export function formFor(fields, label, work) {
  const form = make("form", { class: "small" }, make("div", { class: "row" }, ...fields),
    make("button", { type: "submit", class: "quiet" }, label));
  onSubmit(form, async () => {
    const told = await work(await read(form), form);
    say(typeof told === "string" ? told : `${label}: done`);
  });
  return form;
}

export const number = (value) => Number(value ?? 0).toLocaleString();

export const put = (path, body) => call("PUT", path, body);
export const patch = (path, body) => call("PATCH", path, body);
export const post = (path, body) => call("POST", path, body);
export const remove = (path, body) => call("DELETE", path, body);
