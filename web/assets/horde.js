// Keeps the numbers of the page up to date, by the public API and only while somebody looks.
"use strict";
const PAUSE_MS = 10000;
const MAX_ROWS = 100;
// Of workers there is much to tell: only what is shown, and only every third time.
const OF_WORKERS = { "X-Fields": "name,performance,requests_fulfilled,maintenance_mode,trusted" };
const EACH = 3;
const api = async (path, headers = {}) => {
  const answer = await fetch(`/api/v2${path}`, { headers });
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
};
const put = (cell, text) => { if (cell && cell.textContent !== text) cell.textContent = text; };
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const amount = (number) => (Math.abs(number) < 100 ? tenth : whole).format(number);

function wait(model) {
  if (model.count === 0) return "nobody serves it";
  if (model.eta === 0) return "none";
  if (model.eta === 10000) return "unknown";
  return model.eta <= 120 ? `${model.eta} s` : `${Math.floor(model.eta / 60)} min`;
}

function row(name) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  line.append(head, ...Array.from({ length: 4 }, () => document.createElement("td")));
  return line;
}

function showModels(body, kind, models) {
  models.sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
  const known = new Map([...body.rows].map((line) => [line.cells[0].textContent, line]));
  const lines = models.slice(0, MAX_ROWS).map((model) => {
    const line = known.get(model.name) || row(model.name);
    const speed = kind === "image" ? model.performance / 1e6 : model.performance;
    const cells = [whole.format(model.count), amount(model.jobs), wait(model), speed > 0 ? amount(speed) : "–"];
    cells.forEach((text, number) => put(line.cells[number + 1], text));
    return line;
  });
  // Rows that stay where they are are not touched: whoever reads or selects is not disturbed.
  const same = lines.length === body.rows.length && lines.every((line, number) => body.rows[number] === line);
  if (!same) body.replaceChildren(...lines);
  body.closest(".scroll").hidden = lines.length === 0;
  document.querySelector(`[data-none="${kind}"]`).hidden = lines.length > 0;
}

function showWorkers(workers) {
  put(document.querySelector("[data-online]"), String(workers.length));
  const known = new Map(workers.map((worker) => [worker.name, worker]));
  for (const line of document.querySelectorAll("[data-worker]")) {
    const worker = known.get(line.dataset.worker);
    const words = worker ? [worker.maintenance_mode && "in maintenance", worker.trusted ? "trusted" : "new"] : ["gone"];
    put(line.cells[4], words.filter(Boolean).join(", "));
    if (worker) {
      put(line.cells[2], worker.performance);
      put(line.cells[5], whole.format(worker.requests_fulfilled));
    }
  }
}

let timer = 0, round = 0;
async function refresh() {
  timer = 0;
  round += 1;
  if (document.hidden) return;
  try {
    const load = await api("/status/performance");
    for (const cell of document.querySelectorAll("[data-load]")) put(cell, amount(load[cell.dataset.load]));
    for (const body of document.querySelectorAll("[data-models]")) {
      const kind = body.dataset.models;
      showModels(body, kind, await api(`/status/models?type=${kind}`));
    }
    if (round % EACH === 1) showWorkers(await api("/workers", OF_WORKERS));
  } catch {
    // The server may be restarting: the next round tells.
  }
  if (!timer) timer = setTimeout(refresh, PAUSE_MS);
}
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  timer = document.hidden ? 0 : setTimeout(refresh, 500);
});
timer = setTimeout(refresh, PAUSE_MS);
