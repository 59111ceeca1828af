// Forms whose fields say by `data-path` where in the body of a call they belong, and that show what
// the server says is wrong beside the field.

/** An element with attributes and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const base64 = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => failed(new Error(`${file.name} cannot be read`));
  reader.readAsDataURL(file);
});

async function valueOf(field) {
  if (field.disabled) return undefined;
  if (field.type === "checkbox") {
    if (field.dataset.of === undefined) return field.checked;
    return field.checked ? [field.value] : undefined;
  }
  if (field.type === "file") return field.files[0] ? base64(field.files[0]) : undefined;
  if (field.multiple) {
    const chosen = [...field.selectedOptions].map((option) => option.value);
    return chosen.length ? chosen : undefined;
  }
  const text = field.value.trim();
  if (text === "") return undefined;
  if (field.type === "number") return Number(text);
  if (field.dataset.as === "list") return text.split(/\s*\n\s*/).filter(Boolean);
  return field.dataset.as === "one" ? [text] : field.value;
}

function put(body, path, value) {
  const names = path.split(".");
  const last = names.pop();
  let at = body;
  for (const name of names) at = at[name] ??= {};
  at[last] = Array.isArray(value) && Array.isArray(at[last]) ? at[last].concat(value) : value;
}

async function readFields(root) {
  const body = {};
  for (const field of root.querySelectorAll("[data-path]")) {
    if (field.closest("[data-rows]") !== root.closest("[data-rows]")) continue;
    const value = await valueOf(field);
    if (value !== undefined) put(body, field.dataset.path, value);
  }
  return body;
}

/** The body that the fields make. Empty fields are left out; files become base64. */
export async function read(form) {
  const body = await readFields(form);
  for (const rows of form.querySelectorAll("[data-rows]")) {
    const items = [];
    for (const row of rows.children) items.push(await readFields(row));
    const filled = items.filter((item) => Object.keys(item).length);
    if (filled.length) put(body, rows.dataset.rows, filled);
  }
  return body;
}

/** Lets a button add rows from a template, and each row be taken away. */
export function growRows(form) {
  for (const button of form.querySelectorAll("button[data-add]")) {
    const rows = form.querySelector(`[data-rows="${button.dataset.add}"]`);
    const template = document.getElementById(button.dataset.template);
    button.addEventListener("click", () => {
      if (rows.children.length >= Number(button.dataset.most)) return;
      const row = template.content.firstElementChild.cloneNode(true);
      const number = rows.childElementCount + 1;
      for (const label of row.querySelectorAll("label")) {
        const field = label.querySelector("input, select");
        field.setAttribute("aria-label", `${label.firstChild.textContent.trim()} ${number}`);
      }
      row.append(make("button", {
        type: "button", class: "quiet",
        onclick: () => { row.remove(); button.focus(); form.dispatchEvent(new Event("input")); },
      }, "Remove"));
      rows.append(row);
      row.querySelector("input, select").focus();
    });
  }
}

function fieldOf(form, path) {
  const exact = form.querySelector(`[data-path="${CSS.escape(path)}"]`);
  if (exact) return exact;
  const [, rows, number, rest] = /^(.*)\.(\d+)\.?(.*)$/.exec(path) || [];
  if (!rows) return null;
  const row = form.querySelector(`[data-rows="${CSS.escape(rows)}"]`)?.children[number];
  return row?.querySelector(`[data-path="${CSS.escape(rest)}"]`)
    || form.querySelector(`[data-path="${CSS.escape(rows)}"]`);
}

/** Takes back what was said to be wrong. */
export function forgive(form) {
  for (const told of form.querySelectorAll(".wrong")) told.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

let told = 0;

/** Says next to the fields what is wrong, and the rest at the top of the form. */
export function complain(form, error) {
  forgive(form);
  const rest = [];
  let first = null;
  for (const [path, why] of Object.entries(error.fields || {})) {
    const field = fieldOf(form, path);
    if (!field) { rest.push(`${path}: ${why}`); continue; }
    const id = `wrong-${++told}`;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", id);
    field.closest("details")?.setAttribute("open", "");
    field.after(make("p", { class: "wrong", id }, why));
    first ??= field;
  }
  if (!first || rest.length) {
    const text = [first ? null : error.message, ...rest].filter(Boolean).join("; ");
    form.prepend(make("p", { class: "wrong complaint", role: "alert", tabindex: "-1" }, text));
    first ??= form.firstElementChild;
  }
  first.focus();
}

/** Runs what a form is for when it is sent: once at a time, and what is refused is shown. */
export function onSubmit(form, work) {
  const button = form.querySelector("button[type=submit], button:not([type])");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled")) return;
    forgive(form);
    button.setAttribute("aria-disabled", "true");
    try {
      await work();
    } catch (error) {
      complain(form, error);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}
