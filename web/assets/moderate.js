// Keeping order, by the public API.

import { get } from "./api.js";
import { make } from "./form.js";
import { kept } from "./key.js";
import { act, actForGood, facts, field, formFor, number, post, put, remove, say, table } from "./parts.js";

const place = (name) => {
  const section = document.getElementById(name);
  const content = make("div");
  section.append(content);
  return content;
};

/** The number of an account, of `name#number` or a number. */
const numberOf = (text) => text.slice(text.lastIndexOf("#") + 1).trim();

const FLAGS = [
  ["trusted", "Trusted"], ["flagged", "Flagged"], ["customizer", "Custom models"], ["vpn", "May use a VPN"],
  ["service", "Service"], ["education", "School"], ["special", "Special"], ["moderator", "Moderator"],
];

function users() {
  const at = place("users");
  const shown = make("div");
  const show = async (id) => {
    const user = await get(`/users/${id}`);
    const change = (body) => put(`/users/${id}`, body).then(() => show(id));
    const flags = FLAGS.map(([path, label]) => make("label", {},
      make("input", { type: "checkbox", "data-path": path, checked: Boolean(user[path]) }), ` ${label}`));
    const form = formFor([make("p", { class: "choices" }, ...flags)], "Save roles", (body) => {
      const changed = Object.entries(body).filter(([path, now]) => now !== Boolean(user[path]));
      return changed.length ? change(Object.fromEntries(changed)) : "Nothing changed";
    });
    shown.replaceChildren(make("article", { class: "card", "aria-label": user.username },
      make("h3", {}, user.username),
      facts([["Kudos", number(user.kudos)], ["Suspicion", user.suspicious], ["Workers", user.worker_count],
        ["Contact", user.contact], ["Comment", user.admin_comment]]),
      form,
      formFor([
        field("Kudos, more or less", "kudos", { type: "number" }),
        field("Kudos a month", "monthly_kudos", { type: "number" }),
        field("Results at once", "concurrency", { type: "number", value: user.concurrency }),
        field("Workers that may come", "worker_invited", { type: "number", value: user.worker_invited }),
        field("Comment", "admin_comment", { value: user.admin_comment || "" }),
      ], "Save", ({ concurrency, worker_invited, admin_comment, ...body }) => {
        if (concurrency !== user.concurrency) body.concurrency = concurrency;
        if (worker_invited !== user.worker_invited) body.worker_invited = worker_invited;
        if (admin_comment && admin_comment !== user.admin_comment) body.admin_comment = admin_comment;
        return Object.keys(body).length ? change(body) : "Nothing changed";
      }),
      make("p", { class: "actions" },
        act("Forget suspicion", () => change({ reset_suspicion: true })),
        actForGood("Delete", () => remove(`/users/${id}`)))));
  };
  at.append(formFor([field("Number, or name#number", "user", { required: true })], "Look up",
    async ({ user }) => { await show(encodeURIComponent(numberOf(user))); return "Here it is"; }), shown);
}

function workers() {
  const at = place("workers");
  const shown = make("div");
  const show = async (path) => {
    const worker = await get(path);
    const again = () => show(`/workers/${worker.id}`);
    const change = (body) => put(`/workers/${worker.id}`, body).then(again);
    shown.replaceChildren(make("article", { class: "card", "aria-label": worker.name },
      make("h3", {}, worker.name),
      facts([["Owner", worker.owner], ["Kind", worker.type], ["Agent", worker.bridge_agent], ["Address", worker.ipaddr],
        ["Suspicion", worker.suspicious], ["Jobs done", number(worker.requests_fulfilled)],
        ["Given up", number(worker.uncompleted_jobs)], ["Online", worker.online ? "yes" : "no"]]),
      make("p", { class: "actions" },
        act(worker.paused ? "Let it work" : "Pause", () => change({ paused: !worker.paused })),
        act(worker.maintenance_mode ? "End maintenance" : "Begin maintenance", () => change({ maintenance: !worker.maintenance_mode })),
        actForGood("Remove", () => remove(`/workers/${worker.id}`))),
      formFor([field("What to tell it", "message", { required: true }), field("Hours", "expiry", { type: "number", value: 12, min: 1 })], "Send message",
        (body) => post("/workers/messages", { ...body, worker_id: worker.id })),
      formFor([field("Days", "days", { type: "number", value: 1, min: 1, max: 30 })], "Shut its address out",
        (body) => put(`/operations/block_worker_ipaddr/${worker.id}`, body))));
  };
  at.append(formFor([field("Id or name", "worker", { required: true })], "Look up", async ({ worker }) => {
    const name = encodeURIComponent(worker.trim());
    const isId = /^[0-9a-f-]{36}$/i.test(worker.trim());
    await show(isId ? `/workers/${name}` : `/workers/name/${name}`);
    return "Here it is";
  }), shown);
}

function filters() {
  const at = place("filters");
  const list = make("div");
  const show = async () => {
    const all = await get("/filters");
    list.replaceChildren(table(`${all.length} filters`, [
      ["Kind", (filter) => String(filter.filter_type)], ["Expression", (filter) => make("code", {}, filter.regex)],
      ["What for", (filter) => filter.description], ["Becomes", (filter) => filter.replacement],
      ["By", (filter) => filter.user],
      ["Action", (filter) => actForGood("Remove", () => remove(`/filters/${filter.id}`).then(show))],
    ], all));
  };
  at.append(
    make("p", { class: "actions" }, act("Show all", () => show().then(() => "Here they are"))), list,
    formFor([
      field("Expression", "regex", { required: true }),
      field("Kind", "filter_type", { type: "number", min: 10, max: 29, value: 10 }),
      field("What for", "description"), field("Becomes", "replacement"),
    ], "Add", (body) => put("/filters", body).then(show)),
    formFor([field("A prompt", "prompt", { required: true })], "Try", async (body) => {
      const verdict = await post("/filters", body);
      return `Suspicion ${verdict.suspicion}${verdict.matches?.length ? `: ${verdict.matches.join(", ")}` : ""}`;
    }));
}

function addresses() {
  const at = place("addresses");
  const list = make("div");
  // The protocol lists blocks; a single address is asked for.
  const show = async (address = "") => {
    const all = await get(`/operations/ipaddr${address && `/${encodeURIComponent(address)}`}`);
    list.replaceChildren(table(`${all.length} shut out`, [
      ["Address", (one) => make("code", {}, one.ipaddr)], ["Hours left", (one) => String(Math.ceil(one.seconds / 3600))],
      ["Action", (one) => act("Let in", () => remove("/operations/ipaddr", { ipaddr: one.ipaddr }).then(() => show(address)))],
    ], all));
  };
  at.append(
    make("p", { class: "actions" }, act("Show all blocks", () => show().then(() => "Here they are"))),
    formFor([field("Is this address shut out?", "ipaddr", { required: true })], "Look up",
      async ({ ipaddr }) => { await show(ipaddr.trim()); return "Here it is"; }),
    list,
    formFor([
      field("Address or block", "ipaddr", { required: true, placeholder: "203.0.113.7 or 203.0.113.0/24" }),
      field("Hours", "hours", { type: "number", min: 1, max: 720, value: 24 }),
    ], "Shut out", (body) => post("/operations/ipaddr", body)
      .then(() => show(body.ipaddr.includes("/") ? "" : body.ipaddr.trim()))));
}

function modes() {
  const at = place("modes");
  const labels = { maintenance_mode: "Take no new requests", invite_only_mode: "New workers by invitation only", raid_mode: "Raid: be wary of all that is new" };
  const show = async () => {
    const now = await get("/status/modes");
    at.replaceChildren(make("p", { class: "actions" }, ...Object.entries(labels).map(([path, label]) =>
      act(`${label}: ${now[path] ? "on" : "off"}`, () => put("/status/modes", { [path]: !now[path] }).then(show)))));
  };
  const begin = () => { if (kept()) show().catch((error) => say(error.message)); };
  addEventListener("key", begin);
  begin();
}

function audit() {
  const at = place("audit");
  const list = make("div");
  let page = 1;
  const show = async (query = {}) => {
    const words = new URLSearchParams({ ...query, page });
    const entries = await get(`/operations/audit?${words}`);
    const what = (entry) => Object.keys(entry.after || {}).map((name) =>
      `${name}: ${JSON.stringify(entry.before?.[name] ?? null)} → ${JSON.stringify(entry.after[name])}`).join("; ");
    list.replaceChildren(table("Newest first", [
      ["When", (entry) => entry.created], ["Who", (entry) => entry.actor || "the operator"],
      ["What", (entry) => entry.operation], ["Whom", (entry) => entry.target], ["How", what],
    ], entries), make("p", { class: "actions" },
      page > 1 ? act("Newer", () => { page -= 1; return show(query).then(() => "Newer entries"); }) : null,
      entries.length ? act("Older", () => { page += 1; return show(query).then(() => "Older entries"); }) : null));
  };
  at.append(formFor([field("By whom", "actor"), field("What", "operation", { placeholder: "user.update" }), field("Whom", "target")], "Show",
    async (query) => { page = 1; await show(query); return "Here they are"; }), list);
}

function twins() {
  const at = place("twins");
  const list = make("div");
  const show = async (query = {}) => {
    const audits = await get(`/operations/trust-audits?${new URLSearchParams(query)}`);
    list.replaceChildren(table(audits.length ? "Newest first" : "None yet", [
      ["When", (one) => new Date(one.created * 1000).toLocaleString()],
      ["Worker", (one) => one.worker_name ?? one.worker_id], ["Of", (one) => one.owner], ["Model", (one) => one.model],
      ["Distance", (one) => one.distance.toFixed(2)], ["Verdict", (one) => (one.differs ? "another picture" : "alike")],
    ], audits));
  };
  at.append(formFor([field("Of this worker only", "worker", { placeholder: "its id" })], "Show",
    async (query) => { await show(query); return "Here they are"; }), list);
}

users();
workers();
filters();
addresses();
modes();
twins();
audit();
