// The page: what is known of the pool, who draws which part of it, and what is chosen.

import { follow } from "./stream.js";
import { Tree } from "./tree.js";
import { Lanes } from "./lanes.js";
import { drawBudgets, drawChosen, drawEvents, drawFacts, drawNotices, legend } from "./lists.js";
import { clock, duration, plural } from "./words.js";

const $ = (id) => document.getElementById(id);
const EVENTS_KEPT = 500;

const known = {
  version: 0, at: 0, pool: {}, slots: new Map(), events: [], chosen: null, trouble: "",
  skew: 0, // what this machine's clock is ahead of the pool's
  now() { return Date.now() / 1000 - this.skew; },
};

const choose = (index) => {
  known.chosen = known.chosen === index ? null : index;
  tree.mark(known.chosen);
  lanes.draw();
  drawSide();
};
const tree = new Tree($("tree"), known, choose);
const lanes = new Lanes($("lanes"), $("order"), $("spans"), known, choose);

function told(news, isFirst) {
  known.trouble = news.trouble;
  if (!news.pool || !news.pool.name) return drawLink();
  // A connection begins with all that is kept; so does another owner's story.
  if (isFirst || news.version < known.version) {
    known.slots.clear();
    known.events = [];
  }
  Object.assign(known, { version: news.version, at: news.at, pool: news.pool });
  known.skew = Date.now() / 1000 - news.at - news.age_s;
  for (const slot of news.slots) known.slots.set(slot.index, slot);
  const there = new Set(news.lanes);
  for (const index of known.slots.keys()) if (!there.has(index)) known.slots.delete(index);
  known.events.push(...news.events);
  known.events.splice(0, known.events.length - EVENTS_KEPT);
  schedule(news.slots.map((slot) => slot.index));
}

let changed = null;
function schedule(indexes) {
  if (changed) return indexes.forEach((index) => changed.add(index));
  changed = new Set(indexes);
  // A page in the background is not drawn, and catches up with one drawing.
  requestAnimationFrame(() => {
    const begun = performance.now();
    const these = changed;
    changed = null;
    $("main").hidden = false;
    $("ask").hidden = true;
    drawHead();
    tree.draw(these);
    lanes.draw();
    drawSide();
    document.documentElement.dataset.drawnMs = (performance.now() - begun).toFixed(1);
    document.documentElement.dataset.version = known.version;
  });
}

function drawHead() {
  const { pool } = known;
  $("name").textContent = pool.name;
  const [word, tone] = verdict(pool);
  $("verdict").textContent = word;
  $("verdict").className = `pill ${tone}`;
  document.title = `${pool.ready}/${pool.desired} ${pool.name}`;
  drawFacts($("facts"), known);
  drawLink();
}

function verdict(pool) {
  if (pool.failed) return [pool.failed, "bad"];
  if (pool.roll) return [pool.roll, "busy"];
  if (pool.settled) return ["settled", "good"];
  if (pool.ready < pool.desired) return [`${plural(pool.desired - pool.ready, "member")} short`, "warn"];
  return ["changing", "busy"];
}

let gone = "";
function drawLink() {
  const age = Math.max(0, known.now() - known.at);
  const bad = gone || known.trouble;
  $("link").className = bad ? "link bad" : "link";
  $("link").textContent = bad
    ? `${bad}${known.at ? `; as of ${clock(known.at)}, ${duration(age)} ago` : ""}`
    : known.at ? "live" : "connecting";
}

function drawSide() {
  const slot = known.slots.get(known.chosen);
  $("chosen").hidden = !slot;
  if (slot) drawChosen($("chosen-title"), $("chosen-body"), slot, known);
  drawNotices($("notices"), known, choose);
  drawBudgets($("budgets"), known);
  drawEvents($("events"), known, $("filter").value, choose);
}

const THEMES = { auto: "◐ auto", light: "☀ light", dark: "☾ dark" };
function setTheme(name) {
  const theme = THEMES[name] ? name : "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = THEMES[theme];
  localStorage.setItem("pool-theme", theme);
  lanes.recolour();
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(localStorage.getItem("pool-theme") || "auto") + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => lanes.recolour());

$("unchoose").addEventListener("click", () => choose(known.chosen));
$("filter").addEventListener("input", () => drawEvents($("events"), known, $("filter").value, choose));
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && known.chosen !== null) choose(known.chosen);
});
setInterval(() => {
  if (!known.version || document.hidden) return;
  lanes.draw();
  drawNotices($("notices"), known, choose);
  drawLink();
}, 1000);

function begin(token) {
  sessionStorage.setItem("pool-token", token);
  follow(token, {
    told(news, isFirst) { gone = ""; told(news, isFirst); },
    lost(why) { gone = why; drawLink(); },
    closed() { gone = "the pool's page was closed"; drawLink(); },
    refused(why) { ask(why); },
  });
}

function ask(why = "") {
  sessionStorage.removeItem("pool-token");
  $("ask").hidden = false;
  $("refused").textContent = why;
  $("link").textContent = "locked";
  $("token").focus();
}
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("token").value.trim()) begin($("token").value.trim());
});

legend($("legend"));
setTheme(localStorage.getItem("pool-theme") || "auto");
const asked = new URLSearchParams(location.hash.slice(1));
// The token leaves the address bar, so that it is in no screenshot and in no history.
if (asked.has("token")) history.replaceState(null, "", location.pathname);
if (asked.has("theme")) setTheme(asked.get("theme"));
if (asked.has("slot")) known.chosen = Number(asked.get("slot"));
const token = asked.get("token") || sessionStorage.getItem("pool-token");
if (token) begin(token); else ask();
