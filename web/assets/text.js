// Asks for texts and shows them as they are written.

import { call, follow } from "./api.js";
import { make, onSubmit, read } from "./form.js";
import { noPrice, pricing } from "./price.js";
import { reasons } from "./reason.js";

const form = document.getElementById("write");
const texts = document.getElementById("texts");
const prompt = document.getElementById("prompt");

/** A text that grows. */
function open(id, begun) {
  const state = make("p", { role: "status" }, "Waiting");
  const written = make("span", { class: "written" });
  const actions = make("p", { class: "actions" });
  const cancel = make("button", {
    type: "button", class: "quiet",
    onclick: () => call("DELETE", `/generate/text/status/${id}`).catch((error) => { state.textContent = error.message; }),
  }, "Cancel");
  actions.append(cancel);
  const reason = reasons(`/generate/text/status/${id}`);
  texts.prepend(make("article", { class: "card", "aria-label": "Text" }, state, reason.note,
    make("p", { class: "story" }, make("span", { class: "begun" }, begun), written), actions));
  let letters = [];
  const over = (text) => {
    reason.end();
    state.textContent = text;
    cancel.remove();
    if (!letters.length) return;
    actions.append(
      make("button", {
        type: "button", class: "quiet",
        onclick: () => { prompt.value = begun + letters.join(""); prompt.focus(); },
      }, "Go on from here"),
      make("button", {
        type: "button", class: "quiet",
        onclick: () => navigator.clipboard?.writeText(letters.join("")),
      }, "Copy"));
  };
  follow(id, (name, data) => {
    if (name === "queued" && !letters.length) {
      state.textContent = data.is_possible === false
        ? "No worker that is here can do this: it waits until one comes"
        : `Waiting, place ${data.queue_position}`;
      if (data.is_possible === false) reason.doubt();
    }
    if (name !== "queued") reason.end();
    if (name === "assigned") state.textContent = `A worker begins, with ${data.model}`;
    if (name === "token") {
      // What was told from `at` on is void: another worker may write another text.
      letters = [...letters.slice(0, data.at), ...data.text];
      written.textContent = letters.join("");
      state.textContent = `Writing, token ${data.step} of ${data.of}`;
    }
    if (name === "generation") {
      letters = [...data.text];
      written.textContent = data.text;
    }
    if (name === "done") over(letters.length ? "Done" : "Cancelled");
    if (name === "faulted") over("The horde gave up on this request");
    if (name === "gone") over("This request has expired");
  }, () => { state.textContent = "Connection lost, trying again"; });
}

onSubmit(form, async () => {
  const body = { models: [], ...await read(form) };
  const accepted = await call("POST", "/generate/text/async", body);
  open(accepted.id, body.prompt);
});

const price = pricing("/generate/text/async");
let pending = 0;
form.addEventListener("input", () => {
  clearTimeout(pending);
  pending = setTimeout(async () => {
    try {
      // No price hangs on how it begins.
      await price({ models: [], ...await read(form), prompt: "?" });
    } catch (error) {
      noPrice(error.message);
    }
  }, 700);
});
