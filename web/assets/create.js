// Asks for pictures and shows them as they come.

import { call, follow, get } from "./api.js";
import { complain, growRows, make, onSubmit, read } from "./form.js";
import { noPrice, pricing } from "./price.js";
import { reasons } from "./reason.js";

const form = document.getElementById("create");
const gallery = document.getElementById("gallery");
const KEPT = "ordu.pictures";
const MOST_KEPT = 20;

/** The smallest picture. */
const DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg==";

/** What this tab asked for, newest first: `{id, body}` without pictures. */
const asked = {
  all: () => JSON.parse(sessionStorage.getItem(KEPT) || "[]"),
  keep(list) { sessionStorage.setItem(KEPT, JSON.stringify(list.slice(0, MOST_KEPT))); },
  add(id, body) {
    const { source_image, source_mask, extra_source_images, ...rest } = body;
    this.keep([{ id, body: rest }, ...this.all()]);
  },
  drop(id) { this.keep(this.all().filter((entry) => entry.id !== id)); },
};

/** The body of the form, put right where fields belong together. */
async function request() {
  const body = await read(form);
  const params = body.params ??= {};
  // Left out, it would mean the protocol's default model.
  body.models ??= [];
  if (body.negative) body.prompt = `${body.prompt ?? ""}###${body.negative}`;
  delete body.negative;
  const { qr_code, ...layout } = body.qr ?? {};
  delete body.qr;
  if (qr_code) {
    params.workflow = "qr_code";
    params.extra_texts = Object.entries({ qr_code, ...layout })
      .map(([reference, text]) => ({ reference, text: String(text) }));
  }
  if (!body.source_image) {
    delete body.source_processing;
    delete body.source_mask;
    delete params.denoising_strength;
  }
  for (const flag of ["hires_fix", "tiling", "transparent", "image_is_control", "return_control_map"]) {
    if (!params[flag]) delete params[flag];
  }
  if (!params.control_type) {
    delete params.image_is_control;
    delete params.return_control_map;
  }
  return body;
}

/** A request and its pictures. */
class Card {
  constructor(id, body) {
    this.id = id;
    this.body = body;
    this.state = make("p", { role: "status" }, "Waiting");
    this.bar = make("progress", { max: 1, "aria-label": "Progress" });
    this.preview = make("img", { class: "preview", alt: "Unfinished picture", hidden: true });
    this.pictures = make("div", { class: "gallery" });
    this.reason = reasons(`/generate/check/${id}`);
    this.cancel = make("button", { type: "button", class: "quiet", onclick: () => this.giveUp() }, "Cancel");
    const prompt = (body.prompt || "").split("###")[0];
    this.element = make("article", { class: "card", "aria-label": prompt },
      make("h3", {}, prompt), this.state, this.reason.note, this.bar, this.preview, this.pictures, this.cancel);
    this.shown = new Set();
    this.jobs = new Map();
  }

  follow() {
    this.end = follow(this.id, (name, data) => this.heard(name, data),
      () => { this.state.textContent = "Connection lost, trying again"; });
  }

  heard(name, data) {
    const told = { queued: this.queued, progress: this.progress, generation: this.show };
    if (told[name]) told[name].call(this, data);
    if (name !== "queued") this.reason.end();
    if (name === "assigned") this.say(`A worker begins, with ${data.model || "its model"}`);
    if (name === "done") this.over(this.shown.size ? "Done" : "Cancelled");
    if (name === "faulted") this.over("The horde gave up on this request");
    if (name === "gone") this.over("This request has expired");
  }

  say(text) { this.state.textContent = text; }

  queued(now) {
    if (now.processing > 0 || now.finished > 0) return;
    const place = now.queue_position ? `, place ${now.queue_position}` : "";
    const wait = now.wait_time ? `, about ${now.wait_time} s` : "";
    this.say(now.is_possible === false
      ? "No worker that is here can do this: it waits until one comes"
      : `Waiting${place}${wait}`);
    if (now.is_possible === false) this.reason.doubt();
  }

  progress({ id, step, of, preview }) {
    this.jobs.set(id, step / of);
    const sum = [...this.jobs.values()].reduce((all, part) => all + part, 0);
    this.bar.value = Math.min(1, sum / (this.body.params?.n || 1));
    this.say(`Painting, step ${step} of ${of}`);
    if (preview) {
      this.preview.src = `data:;base64,${preview}`;
      this.preview.hidden = false;
    }
  }

  show(picture) {
    if (this.shown.has(picture.id)) return;
    this.shown.add(picture.id);
    this.jobs.set(picture.id, 1);
    this.preview.hidden = true;
    const name = `${picture.seed}.webp`;
    const text = picture.censored ? "Withheld: it was not fit to be shown" : `Seed ${picture.seed}, ${picture.model}, by ${picture.worker_name}`;
    const notes = (picture.gen_metadata || []).map((note) => `${note.type}: ${note.ref || note.value}`);
    this.pictures.append(make("figure", {},
      make("a", { href: picture.img }, make("img", { src: picture.img, alt: this.element.getAttribute("aria-label") || "Picture" })),
      make("figcaption", {}, [text, ...notes].join(" · ")),
      make("p", { class: "actions" },
        make("a", { href: picture.img, download: name }, "Download"),
        make("button", { type: "button", class: "quiet", onclick: () => this.again(picture.seed) }, "Use seed"),
        make("button", { type: "button", class: "quiet", onclick: () => this.asSource(picture) }, "Use as source"))));
  }

  again(seed) {
    const field = form.querySelector('[data-path="params.seed"]');
    field.value = seed;
    form.querySelector('[data-path="prompt"]').value = (this.body.prompt || "").split("###")[0];
    field.scrollIntoView({ block: "center" });
    field.focus();
  }

  async asSource(picture) {
    const field = form.querySelector('[data-path="source_image"]');
    const blob = await (await fetch(picture.img)).blob();
    const files = new DataTransfer();
    files.items.add(new File([blob], `${picture.seed}.webp`, { type: blob.type }));
    field.files = files.files;
    field.closest("details").open = true;
    field.scrollIntoView({ block: "center" });
    field.focus();
  }

  async giveUp() {
    try { await call("DELETE", `/generate/status/${this.id}`); } catch (error) { this.say(error.message); }
  }

  over(text) {
    this.reason.end();
    this.say(text);
    this.bar.remove();
    this.preview.remove();
    this.cancel.remove();
    if (!this.shown.size) asked.drop(this.id);
  }
}

function open(id, body) {
  const card = new Card(id, body);
  gallery.prepend(card.element);
  card.follow();
  return card;
}

onSubmit(form, async () => {
  const body = await request();
  const accepted = await call("POST", "/generate/async", body);
  asked.add(accepted.id, body);
  const card = open(accepted.id, body);
  for (const { code, message } of accepted.warnings || []) {
    card.state.before(make("p", { class: "note" }, message || code));
  }
});

// What this tab asked for before it was loaded anew.
for (const { id, body } of asked.all().reverse()) open(id, body);

const price = pricing("/generate/async");
let pending = 0;
async function ask() {
  try {
    const body = await request();
    // No price hangs on what a picture shows, neither this one nor its source.
    body.prompt = "?";
    if (body.source_image) body.source_image = DOT;
    if (body.source_mask) body.source_mask = DOT;
    for (const extra of body.extra_source_images ?? []) extra.image = DOT;
    await price(body);
  } catch (error) {
    noPrice(error.message);
  }
}
form.addEventListener("input", () => {
  clearTimeout(pending);
  pending = setTimeout(ask, 700);
});

/** What there is to choose from: workers may come while the page is open. */
async function models() {
  const select = form.querySelector("#model");
  const known = new Set([...select.options].map((option) => option.value));
  try {
    for (const { name, count } of await get("/status/models?type=image")) {
      if (!known.has(name)) select.append(make("option", { value: name }, `${name} (${count})`));
    }
  } catch { /* the list stays as it is */ }
}

/** The values that a model wants, as `[what, value]`. */
const wishes = ({ requirements: wants = {} }) => [
  ["clip skip", wants.clip_skip],
  ["steps from", wants.min_steps],
  ["steps up to", wants.max_steps],
  ["guidance", wants.cfg_scale],
  ["guidance from", wants.min_cfg_scale],
  ["guidance up to", wants.max_cfg_scale],
  ["sampler", wants.samplers?.join(" or ")],
  ["schedule", wants.schedulers?.join(" or ")],
].filter(([, value]) => value != null && value !== "");

/** Says what the chosen model needs. */
async function needs() {
  const name = form.querySelector("#model").value;
  const place = document.getElementById("needs");
  place.textContent = "";
  if (!name) return;
  try {
    const known = await get(`/reference/models/${encodeURIComponent(name)}`);
    if (form.querySelector("#model").value !== name) return;
    const facts = [known.baseline.replaceAll("_", " "), ...wishes(known).map((pair) => pair.join(" "))];
    if (known.inpainting) facts.push("made for inpainting");
    place.textContent = facts.join(" · ");
  } catch { /* nobody wrote down what it needs */ }
}
form.querySelector("#model").addEventListener("change", needs);

growRows(form);
models();
needs();
document.addEventListener("visibilitychange", () => { if (!document.hidden) models(); });
addEventListener("unhandledrejection", (event) => complain(form, event.reason));
