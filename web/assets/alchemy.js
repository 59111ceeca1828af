// Asks for work on a picture and shows what comes of it.

import { call, get, patient } from "./api.js";
import { make, onSubmit, read } from "./form.js";
import { pricing } from "./price.js";
import { reasons } from "./reason.js";

const form = document.getElementById("alchemy");
const works = document.getElementById("works");

/** How long work may wait until it is asked about, in milliseconds. */
const PATIENCE = 3000;

/** How the answer to a form is shown. */
function shown(name, answer) {
  if (answer == null) return make("p", {}, "No answer");
  if (typeof answer === "string" && /^(https?:|\/)/.test(answer)) {
    return make("figure", {},
      make("a", { href: answer }, make("img", { src: answer, alt: `The picture after ${name}` })),
      make("p", { class: "actions" }, make("a", { href: answer, download: `${name}.webp` }, "Download")));
  }
  if (Array.isArray(answer) && answer.every((item) => item?.text !== undefined)) {
    return make("ul", {}, ...answer.map(({ text, confidence }) => make("li", {}, `${text} (${Math.round(confidence)} %)`)));
  }
  if (typeof answer === "object") {
    return make("dl", { class: "facts" }, ...Object.entries(answer).flatMap(([key, value]) => [
      make("dt", {}, key),
      make("dd", {}, typeof value === "object" ? shown(key, value) : String(value)),
    ]));
  }
  return make("p", {}, String(answer));
}

async function follow(id, state, reason, forms) {
  for (;;) {
    const lost = () => { state.textContent = "Connection lost, trying again"; };
    const now = await patient(() => get(`/interrogate/status/${id}`, { wait: 30 }), lost);
    for (const { form: name, state: how, result } of now.forms) {
      const place = forms.get(name);
      if (!place || place.dataset.state === how) continue;
      place.dataset.state = how;
      const answer = result?.[name] ?? result;
      place.lastChild.replaceWith(how === "done" ? shown(name, answer) : make("p", {}, how));
    }
    reason.waits(now.forms.some(({ state: how }) => how === "waiting"));
    const over = ["done", "faulted", "partial", "cancelled"].includes(now.state);
    state.textContent = over ? { done: "Done" }[now.state] ?? now.state : "The horde works on it";
    if (over) return;
  }
}

/** The body of the form, and the names of what is to be done. */
async function request() {
  const { link, forms = [], ...body } = await read(form);
  body.source_image ||= link;
  body.forms = forms.map((name) => ({ name }));
  return { body, forms };
}

onSubmit(form, async () => {
  const { body, forms } = await request();
  const { id } = await call("POST", "/interrogate/async", body);
  const state = make("p", { role: "status" }, "Waiting");
  const places = new Map(forms.map((name) => [name, make("section", { "aria-label": name }, make("h2", {}, name), make("p", {}, "waiting"))]));
  const reason = reasons(`/interrogate/status/${id}`);
  works.prepend(make("article", { class: "card", "aria-label": "Work on a picture" }, state, reason.note, ...places.values()));
  // Nobody says whether any worker could: what still waits then is asked about.
  setTimeout(() => reason.doubt(), PATIENCE);
  follow(id, state, reason, places)
    .catch((error) => { state.textContent = error.message; })
    .finally(() => reason.end());
});

const price = pricing("/interrogate/async");
let pending = 0;
form.addEventListener("change", () => {
  clearTimeout(pending);
  pending = setTimeout(async () => {
    const { body, forms } = await request();
    if (body.source_image && forms.length) await price(body);
  }, 700);
});
