// The horde at work: lights are workers, sparks are jobs. It lives on the public API alone
// (/status/pulse and /workers), and draws only while something moves.
"use strict";
const at = (id) => document.getElementById(id);
const stage = at("stage"), sky = at("sky"), pen = sky.getContext("2d");
const COLOURS = { image: [255, 179, 107], text: [111, 214, 200], alchemy: [195, 162, 255], none: [120, 128, 150] };
const KINDS = ["image", "text", "alchemy"];
const THINGS = { image: "a picture", text: "a text", alchemy: "a form" };
const GOLDEN = Math.PI * (3 - Math.sqrt(5));
const FLIGHT_MS = 1100, RIPPLE_MS = 1500, SPREAD_MS = 850, MAX_EMBERS = 140, MAX_SPARKS = 300, MAX_NAMED = 60, GATHER_MS = 10000;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const put = (id, text) => { const node = at(id); if (node.textContent !== text) node.textContent = text; };
const count = new Intl.NumberFormat("en").format;
const sum = (kinds) => KINDS.reduce((all, kind) => all + kinds[kind], 0);

const lights = new Map();
let sparks = [], ripples = [], agenda = [], stars = [];
let now = { queued: { image: 0, text: 0, alchemy: 0 } };
let delivered = 0, paused = false, frame = 0, last = 0, width = 0, height = 0;
const moves = () => !still.matches && !paused && !document.hidden;

// One soft round light for each colour, drawn once.
const sprites = Object.fromEntries(Object.entries(COLOURS).map(([kind, [r, g, b]]) => {
  const sprite = document.createElement("canvas");
  sprite.width = sprite.height = 128;
  const brush = sprite.getContext("2d");
  const shade = brush.createRadialGradient(64, 64, 0, 64, 64, 64);
  shade.addColorStop(0, `rgba(255,250,240,1)`);
  shade.addColorStop(0.12, `rgba(${r},${g},${b},.95)`);
  shade.addColorStop(0.3, `rgba(${r},${g},${b},.28)`);
  shade.addColorStop(1, `rgba(${r},${g},${b},0)`);
  brush.fillStyle = shade;
  brush.fillRect(0, 0, 128, 128);
  return [kind, sprite];
}));

function glow(kind, x, y, size, alpha) {
  pen.globalAlpha = alpha;
  pen.drawImage(sprites[kind], x - size / 2, y - size / 2, size, size);
}

// Where the lights are: below the numbers, above the talk.
let field = { x: 0, y: 0, wide: 1, high: 1 };

// Lights lie like the seeds of a sunflower around the hearth; who comes or goes makes the others drift.
function arrange() {
  const { x, y, wide, high } = field, middle = [x, y], reach = [wide * 0.46, high * 0.46], hole = 0.36;
  let number = 0;
  for (const light of lights.values()) {
    const share = (number + 0.5) / lights.size;
    const far = Math.sqrt(hole * hole + (1 - hole * hole) * share);
    const angle = number * GOLDEN + 0.6;
    light.goal = [middle[0] + reach[0] * far * Math.cos(angle), middle[1] + reach[1] * far * Math.sin(angle)];
    if (!light.place) light.place = moves() ? [...middle] : [...light.goal];
    if (!moves()) light.place = [...light.goal];
    number += 1;
  }
}

function lightOf(name, kind) {
  let light = lights.get(name);
  if (!light) {
    light = { kind, busy: 0, level: 0, place: null, goal: null };
    lights.set(name, light);
    arrange();
  }
  return light;
}

function happen({ kind, worker, what }, time) {
  const light = lightOf(worker, kind);
  if (what === "begun") {
    if (moves() && sparks.length < MAX_SPARKS) sparks.push({ kind, light, start: time, bend: Math.random() - 0.5 });
    else light.busy += 1;
    return;
  }
  const underWay = sparks.find((spark) => spark.light === light);
  if (light.busy > 0) light.busy -= 1;
  else if (underWay) sparks.splice(sparks.indexOf(underWay), 1);
  if (moves() && what !== "returned") ripples.push({ light, start: time, kind: what === "finished" ? kind : "none" });
}

function step(time, past) {
  agenda = agenda.filter((item) => item.time > time || happen(item.happening, time));
  sparks = sparks.filter((spark) => {
    const landed = time - spark.start >= FLIGHT_MS;
    if (landed) spark.light.busy += 1;
    return !landed;
  });
  ripples = ripples.filter((ripple) => time - ripple.start < RIPPLE_MS);
  let moving = agenda.length + sparks.length + ripples.length > 0;
  for (const light of lights.values()) {
    const goal = light.busy > 0 ? 1 : 0;
    const ease = Math.min(1, past / 350), drift = Math.min(1, past / 900);
    light.level += (goal - light.level) * ease;
    if (Math.abs(goal - light.level) < 0.01) light.level = goal;
    else moving = true;
    for (const axis of [0, 1]) {
      const left = light.goal[axis] - light.place[axis];
      if (Math.abs(left) < 0.5) light.place[axis] = light.goal[axis];
      else { light.place[axis] += left * drift; moving = true; }
    }
  }
  return moving;
}

function drawHearth(x, y) {
  const waiting = sum(now.queued);
  const shown = Math.min(waiting, MAX_EMBERS);
  const spread = Math.min(field.wide, field.high) * 0.0135, halo = field.high;
  pen.globalAlpha = 0.1;
  pen.drawImage(sprites.image, x - halo / 2, y - halo / 2, halo, halo);
  let number = 0;
  for (const kind of KINDS) {
    const mine = waiting && Math.round((now.queued[kind] / waiting) * shown);
    for (let ember = 0; ember < mine; ember += 1, number += 1) {
      const far = spread * Math.sqrt(number + 0.4), angle = number * GOLDEN;
      glow(kind, x + far * Math.cos(angle), y + far * Math.sin(angle), 17, 0.9);
    }
  }
}

function draw(time) {
  const { x, y } = field;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = "#cfd4e6";
  for (const [left, top, size, alpha] of stars) {
    pen.globalAlpha = alpha;
    pen.fillRect(left * width, top * height, size, size);
  }
  drawHearth(x, y);
  const size = Math.max(26, Math.min(84, Math.sqrt((field.wide * field.high) / (lights.size + 6)) * 0.45));
  const all = lights.size * 9000 < field.wide * field.high;
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "center";
  for (const [name, light] of lights) {
    const [left, top] = light.place;
    glow(light.kind, left, top, size * (0.5 + 0.9 * light.level), 0.34 + 0.66 * light.level);
    if (lights.size > MAX_NAMED || !(all || light.level)) continue;
    pen.globalAlpha = all ? 0.35 + 0.55 * light.level : 0.9 * light.level;
    pen.fillStyle = "#f4efe3";
    pen.fillText(name.length > 22 ? `${name.slice(0, 21)}…` : name, left, top + size * 0.42 + 10);
  }
  for (const { light, start, kind } of ripples) {
    const share = (time - start) / RIPPLE_MS, [left, top] = light.place;
    pen.globalAlpha = 0.7 * (1 - share) ** 2;
    pen.strokeStyle = `rgb(${COLOURS[kind]})`;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(left, top, size * (0.2 + 0.9 * (1 - (1 - share) ** 3)), 0, 7);
    pen.stroke();
  }
  for (const { kind, light, start, bend } of sparks) {
    // Three afterimages behind the spark.
    for (let trail = 0; trail < 4; trail += 1) {
      const share = Math.max(0, (time - start - trail * 45) / FLIGHT_MS);
      const eased = share * share * (3 - 2 * share);
      const [left, top] = light.place, away = Math.sin(Math.PI * eased) * bend * 0.5;
      glow(kind, x + (left - x) * eased - (top - y) * away, y + (top - y) * eased + (left - x) * away, 30 - trail * 5, 1 - trail * 0.24);
    }
  }
  pen.globalAlpha = 1;
}

function tick(time) {
  frame = 0;
  const moving = step(time, Math.min(100, time - (last || time)));
  last = time;
  draw(time);
  if (moving) wake();
  else last = 0;
}

function wake() {
  if (frame || document.hidden || still.matches) return;
  if (moves()) frame = requestAnimationFrame(tick);
  else settle();
}

// The same without movement: everything is where it is going to be.
function settle() {
  const time = performance.now();
  const due = agenda;
  agenda = [];
  for (const { happening } of due) happen(happening, time);
  for (const spark of sparks) spark.light.busy += 1;
  sparks = [];
  ripples = [];
  for (const light of lights.values()) {
    light.level = light.busy > 0 ? 1 : 0;
    light.place = [...light.goal];
  }
  draw(time);
}

function talk(happenings) {
  const list = at("talk");
  for (const { kind, model, worker, what } of happenings.slice(-4)) {
    const verb = { begun: "began", finished: "delivered", faulted: "could not make", returned: "gave back" }[what];
    const line = document.createElement("li");
    line.textContent = `${worker} ${verb} ${THINGS[kind]}${model ? ` with ${model}` : ""}`;
    list.prepend(line);
  }
  while (list.children.length > 4) list.lastChild.remove();
}

function feel(pulse) {
  if (!("workers" in now) || sum(pulse.workers) !== sum(now.workers)) gatherSoon();
  now = pulse;
  delivered += sum(pulse.finished);
  put("waiting", count(sum(pulse.queued)));
  put("running", count(sum(pulse.running)));
  put("workers", count(sum(pulse.workers)));
  put("delivered", count(delivered));
  talk(pulse.happenings);
  for (const light of lights.values()) {
    // What was missed is made good as soon as nothing runs.
    if (pulse.running[light.kind] === 0 && !pulse.happenings.length) light.busy = 0;
  }
  const time = performance.now(), gap = SPREAD_MS / Math.max(1, pulse.happenings.length);
  pulse.happenings.forEach((happening, number) => agenda.push({ happening, time: time + number * gap }));
  wake();
}

// Who is online. Asked for when the pulse says that somebody came or went, not by the clock.
let gathering = 0, gathered = -GATHER_MS;
function gatherSoon() {
  if (!gathering) gathering = setTimeout(gather, Math.max(1000, gathered + GATHER_MS - performance.now()));
}
async function gather() {
  try {
    gathered = performance.now();
    const answer = await fetch("/api/v2/workers", { headers: { "X-Fields": "name,type" } });
    if (answer.ok) {
      const workers = await answer.json();
      const names = new Set(workers.map((worker) => worker.name));
      for (const name of lights.keys()) if (!names.has(name)) lights.delete(name);
      for (const worker of workers) lightOf(worker.name, worker.type === "interrogation" ? "alchemy" : worker.type);
      arrange();
      wake();
    }
  } catch {
    // The stream breaks as well, and comes back with its first pulse.
  }
  gathering = 0;
}

let stream = null, again = 0, patience = 1000;
function open() {
  clearTimeout(again);
  if (stream) stream.close();
  stream = new EventSource("/api/v2/status/pulse");
  stream.addEventListener("pulse", (event) => {
    patience = 1000;
    put("state", "");
    feel(JSON.parse(event.data));
  });
  stream.onerror = () => {
    put("state", "Connection lost, trying again");
    now = { queued: now.queued };
    // A browser comes back by itself unless the answer was no.
    if (stream.readyState === EventSource.CLOSED) {
      again = setTimeout(open, patience);
      patience = Math.min(30000, patience * 2);
    }
  };
}

function resize() {
  const sharp = Math.min(2, devicePixelRatio || 1);
  width = stage.clientWidth;
  height = stage.clientHeight;
  sky.width = width * sharp;
  sky.height = height * sharp;
  pen.setTransform(sharp, 0, 0, sharp, 0, 0);
  const sums = stage.querySelector(".sums"), top = sums.offsetTop + sums.offsetHeight;
  field = { x: width / 2, y: (top + at("talk").offsetTop) / 2, wide: width, high: at("talk").offsetTop - top };
  arrange();
  wake();
}

let lamp = null;
async function fill() {
  if (document.fullscreenElement) return document.exitFullscreen();
  await stage.requestFullscreen();
  stage.focus();
}
function pause() {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  wake();
}
document.addEventListener("fullscreenchange", async () => {
  put("full", document.fullscreenElement ? "Leave full screen" : "Full screen");
  try {
    // A screen that one leaves on should stay on.
    if (document.fullscreenElement) lamp = await navigator.wakeLock.request("screen");
    else if (lamp) await lamp.release();
  } catch {
    // Not every browser can, or may.
  }
});
stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "f" || event.key === "F") fill();
  if (event.key === "p" || event.key === "P") pause();
});
at("full").addEventListener("click", fill);
at("pause").addEventListener("click", pause);
at("full").hidden = !document.fullscreenEnabled;
at("pause").hidden = still.matches;
still.addEventListener("change", () => {
  at("pause").hidden = still.matches;
  wake();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(again);
    stream.close();
    return;
  }
  now = { queued: now.queued };
  open();
});

let told = "";
setInterval(() => {
  if (document.hidden || !("workers" in now)) return;
  const text = `${count(delivered)} delivered since you came. ${count(sum(now.queued))} wait, ${count(sum(now.running))} in work, ${count(sum(now.workers))} workers online.`;
  if (text !== told) put("summary", text);
  told = text;
}, 30000);

// The same sky every time.
let seed = 7;
const chance = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
stars = Array.from({ length: 110 }, () => [chance(), chance(), 0.6 + chance(), 0.08 + chance() * 0.3]);
new ResizeObserver(resize).observe(stage);
open();
