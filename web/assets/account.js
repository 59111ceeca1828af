// One's workers, messages, shared keys, styles and kudos, by the public API.

import { get } from "./api.js";
import { complain, make } from "./form.js";
import { keep, kept } from "./key.js";
import { act, actForGood, facts, field, formFor, number, patch, post, put, remove, table } from "./parts.js";

const yours = document.getElementById("yours");
const unlock = document.getElementById("unlock");

function worker(data, again) {
  const change = (body) => put(`/workers/${data.id}`, body).then(again);
  const messages = (data.messages || []).map((note) => make("li", {},
    `${note.message}${note.origin ? ` (${note.origin})` : ""} `));
  return make("article", { class: "card", "aria-label": data.name },
    make("h4", {}, data.name),
    make("p", {}, [data.type, data.online ? "online" : "offline",
      data.maintenance_mode ? "in maintenance" : null, data.paused ? "paused" : null,
      data.trusted ? "trusted" : null, data.flagged ? "flagged" : null].filter(Boolean).join(", ")),
    facts([["Jobs done", number(data.requests_fulfilled)], ["Given up", number(data.uncompleted_jobs)],
      ["Kudos", number(data.kudos_rewards)], ["Speed", data.performance], ["Threads", data.threads]]),
    messages.length ? make("ul", { "aria-label": "Messages" }, ...messages) : null,
    make("p", { class: "actions" },
      act(data.maintenance_mode ? "End maintenance" : "Begin maintenance",
        () => change({ maintenance: !data.maintenance_mode })),
      actForGood("Remove", () => remove(`/workers/${data.id}`).then(again))),
    make("details", {}, make("summary", {}, "Change"),
      formFor([
        field("Name", "name", { value: data.name }),
        field("What it says of itself", "info", { value: data.info || "" }),
        field("Team", "team", { placeholder: "id of a team" }),
        field("What it is told in maintenance", "maintenance_msg"),
      ], "Save", ({ name, ...body }) => change(name === data.name ? body : { name, ...body }))));
}

async function workers(user) {
  const place = make("section", { "aria-label": "Workers" });
  const show = async () => {
    const ids = user.worker_ids || [];
    const list = await Promise.all(ids.map((id) => get(`/workers/${id}`).catch(() => null)));
    const cards = list.filter(Boolean).map((data) => worker(data, show));
    place.replaceChildren(make("h3", {}, "Workers"),
      ...(cards.length ? cards : [make("p", {}, "None yet: ",
        make("code", {}, `ordu work --dreamer --horde ${location.origin} --api-key KEY`))]));
  };
  await show();
  return place;
}

async function sharedKeys() {
  const place = make("section", { "aria-label": "Shared keys" });
  const limits = [
    ["Kudos", "kudos", 5000], ["Days", "expiry", -1], ["Pixels of a picture", "max_image_pixels", -1],
    ["Steps", "max_image_steps", -1], ["Tokens of a text", "max_text_tokens", -1],
  ];
  const fields = (now = {}) => [field("Name", "name", { value: now.name || "" }),
    ...limits.map(([label, path, value]) => field(label, path, { type: "number", min: -1, value: now[path] ?? value }))];
  const show = async () => {
    const user = await get("/find_user");
    const ids = user.sharedkey_ids || [];
    const keys = (await Promise.all(ids.map((id) => get(`/sharedkeys/${id}`).catch(() => null)))).filter(Boolean);
    place.replaceChildren(make("h3", {}, "Shared keys"),
      make("p", {}, "Others may spend your kudos with these, up to their limits. -1 is no limit."),
      ...keys.map((key) => make("article", { class: "card", "aria-label": key.name || key.id },
        make("h4", {}, key.name || "Without a name"), make("p", {}, make("code", {}, key.id)),
        facts([["Left", key.kudos], ["Spent", key.utilized], ["Ends", key.expiry || "never"]]),
        make("details", {}, make("summary", {}, "Change"),
          formFor(fields({ ...key, expiry: -1 }), "Save", (body) => patch(`/sharedkeys/${key.id}`, body).then(show))),
        make("p", { class: "actions" }, actForGood("Remove", () => remove(`/sharedkeys/${key.id}`).then(show))))),
      make("details", {}, make("summary", {}, "New shared key"),
        formFor(fields(), "Make", (body) => put("/sharedkeys", body).then(show))));
  };
  await show();
  return place;
}

async function styles() {
  const place = make("section", { "aria-label": "Styles" });
  const show = async () => {
    const user = await get("/find_user");
    place.replaceChildren(make("h3", {}, "Styles"),
      table("Your styles", [
        ["Name", (style) => style.name], ["Kind", (style) => style.type], ["Id", (style) => make("code", {}, style.id)],
        ["Action", (style) => actForGood("Remove", () => remove(`/styles/${style.type}/${style.id}`).then(show))],
      ], user.styles || []),
      make("details", {}, make("summary", {}, "New style for pictures"),
        formFor([
          field("Name", "name", { required: true }),
          field("What it is good for", "info", { minlength: 10 }),
          field("Prompt, with {p} and {np}", "prompt", { value: "{p}###{np}" }),
          field("Model", "models", { "data-as": "one", required: true }),
          field("Steps", "params.steps", { type: "number", min: 1, max: 500 }),
          field("Guidance", "params.cfg_scale", { type: "number", min: 0, max: 100, step: 0.5 }),
        ], "Make", (body) => post("/styles/image", body).then(show))));
  };
  await show();
  return place;
}

/** Kudos, where the server tells of them. */
async function history() {
  const place = make("section", { "aria-label": "History of kudos" });
  let page = 1;
  const show = async () => {
    const entries = await get(`/kudos/history?page=${page}`);
    place.replaceChildren(make("h3", {}, "History of kudos"),
      table("Newest first", [
        ["When", (entry) => entry.created],
        ["Kudos", (entry) => number(entry.amount)],
        ["Why", (entry) => entry.reason],
        ["With", (entry) => entry.counterpart],
      ], entries),
      make("p", { class: "actions" },
        page > 1 ? act("Newer", () => { page -= 1; return show().then(() => "Newer entries"); }) : null,
        entries.length ? act("Older", () => { page += 1; return show().then(() => "Older entries"); }) : null));
  };
  try { await show(); } catch { return null; }
  return place;
}

async function open() {
  const user = await get("/find_user");
  yours.hidden = false;
  unlock.hidden = true;
  const sum = user.kudos_details || {};
  yours.replaceChildren(
    make("h2", {}, `What is ${user.username}'s`),
    facts([["Kudos", number(user.kudos)], ["Earned", number(sum.accumulated)], ["Given", number(sum.gifted)],
      ["Received", number(sum.received)], ["Pictures at once", user.concurrency],
      ["Trusted", user.trusted ? "yes" : "not yet"]]),
    make("p", { class: "actions" },
      make("a", { href: "/transfer" }, "Give kudos"),
      user.moderator ? make("a", { href: "/moderate" }, "Keep order") : null,
      act("Forget the key", () => { keep(""); yours.hidden = true; unlock.hidden = false; return "The key is forgotten"; })));
  for (const part of [workers, sharedKeys, styles, history]) {
    const section = await part(user);
    if (section) yours.append(section);
  }
}

unlock.addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = unlock.querySelector("input[data-key]");
  keep(input.value.trim(), unlock.querySelector("[data-remember]").checked);
  try {
    await open();
  } catch (error) {
    complain(unlock, error);
  }
});
// Who signs in by key has it at hand here as well.
for (const form of document.querySelectorAll('form[action="/sign-in"]')) {
  form.addEventListener("submit", () => keep(form.apikey.value.trim()));
}
if (kept()) open().catch(() => { unlock.hidden = false; });
