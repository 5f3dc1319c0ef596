// What is said in words: numbers, notices, budgets, events, and all about the slot that is chosen.

import { SIGNS, STATES, clock, devicesOf, duration, hostsOf, make, plural, short, stateOf, titleOf } from "./words.js";

const EVENTS_SHOWN = 120;
const BAD = new Set(["member_fault", "gang_failed", "member_cut_off"]); // failures, however calmly they are logged

export function legend(list) {
  list.replaceChildren(...STATES.map((state) => make("li", { class: `s-${state}` }, make("i", {}), state)), make("li", { class: "s-fault" }, make("i", {}), "fault"));
}

export function drawFacts(box, known) {
  const { pool } = known;
  const slots = [...known.slots.values()].filter((slot) => !slot.closed);
  const counts = new Map();
  for (const slot of slots) counts.set(stateOf(slot), (counts.get(stateOf(slot)) || 0) + 1);
  const inFlight = slots.reduce((sum, slot) => sum + (slot.member?.in_flight || 0), 0);
  const notices = slots.filter((slot) => slot.member?.notices.length).length;
  const failures = Object.values(pool.restarts || {}).reduce((sum, count) => sum + count, 0);
  const fact = (word, value, more = "", tone = "") => make("div", { class: `fact ${tone}` }, make("b", {}, value), make("span", {}, word), more && make("small", {}, more));
  const bar = make("div", { class: "share", role: "img", "aria-label": [...counts].map(([state, count]) => `${count} ${state}`).join(", ") });
  for (const state of [...STATES, "empty"]) {
    if (!counts.get(state)) continue;
    const part = make("i", { class: `s-${state}`, title: `${counts.get(state)} ${state}` });
    part.style.flexGrow = counts.get(state);
    bar.append(part);
  }
  const short = pool.ready < pool.desired;
  const big = make("div", { class: "fact wide" },
    make("b", {}, `${pool.ready}`, make("em", {}, ` of ${pool.desired}`)), make("span", {}, "ready"),
    make("small", {}, [...counts].filter(([state]) => state !== "ready").map(([state, count]) => `${count} ${state}`).join(", ")), bar);
  if (short) big.classList.add("warn");
  box.replaceChildren(big,
    fact("spares ready", `${pool.spares_ready} of ${pool.spares}`),
    fact("calls in flight", inFlight.toLocaleString("en")),
    fact(notices === 1 ? "member with notice" : "members with notice", notices, "", notices ? "warn" : ""),
    fact("failures remembered", failures, Object.entries(pool.restarts || {}).map(([cause, count]) => `${cause} ${count}`).join(", ")),
    fact("revision", pool.revision, pool.roll || ""));
}

export function drawNotices(list, known, choose) {
  const told = new Map();
  for (const slot of known.slots.values()) {
    for (const notice of slot.member?.notices || []) {
      const key = `${notice.node_id} ${notice.text}`;
      const row = told.get(key) || { ...notice, slots: [] };
      row.slots.push(slot);
      told.set(key, row);
    }
  }
  const rows = [...told.values()].sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity));
  const left = (at) => (at === null ? "no deadline" : at > known.now() ? `${duration(at - known.now())} left` : "is over");
  list.replaceChildren(...rows.map((row) => make("li", { class: "warn", click: () => choose(row.slots[0].index) },
    make("b", {}, left(row.at)), make("span", {}, `${titleOf(row.slots[0])}, node ${short(row.node_id)}`), make("small", {}, row.text))));
  if (!rows.length) list.append(make("li", { class: "none" }, "No node is said to go away."));
}

export function drawBudgets(box, known) {
  const rows = (known.pool.budgets || []).filter((row) => row.limit || row.used);
  box.replaceChildren(...rows.map((row) => {
    const fill = make("i", { class: row.used > row.limit ? "bad" : row.used * 2 > row.limit ? "warn" : "" });
    fill.style.width = `${Math.min(100, (100 * row.used) / Math.max(1, row.limit))}%`;
    return make("div", { class: "budget" }, make("span", {}, row.cause),
      make("div", { class: "meter", role: "meter", "aria-label": row.cause, "aria-valuenow": row.used, "aria-valuemin": 0, "aria-valuemax": row.limit }, fill),
      make("small", {}, `${row.used} of ${row.limit} in ${duration(row.period_s)}`));
  }));
  if (!rows.length) box.append(make("p", { class: "none" }, "No cause has a limit."));
}

function words(event) {
  const facts = event.facts || {};
  const rest = Object.entries(facts).filter(([key]) => key !== "reason" && key !== "state");
  const said = [facts.state && `→ ${facts.state}`, rest.map(([key, value]) => `${key}=${Array.isArray(value) ? value.join("; ") : value}`).join(" "), facts.reason];
  return said.filter(Boolean).join(" · ");
}

export function drawEvents(list, known, filter, choose) {
  const needle = filter.trim().toLowerCase();
  const rows = [];
  for (let n = known.events.length - 1; n >= 0 && rows.length < EVENTS_SHOWN; n -= 1) {
    const event = known.events[n];
    const who = event.slot === null || event.slot === undefined ? "" : `${event.slot}${event.generation ? `.${event.generation}` : ""}`;
    const text = words(event);
    if (needle && !`${event.kind} ${who} ${text}`.toLowerCase().includes(needle)) continue;
    const tone = event.level === "error" || BAD.has(event.kind) ? "bad" : event.level === "warning" ? "warn" : event.facts?.state ? `s-${event.facts.state}` : "";
    rows.push(make("li", { class: tone, click: who ? () => choose(event.slot) : false },
      make("time", {}, clock(event.at)), make("b", {}, event.kind), make("span", { class: "who" }, who), make("small", { title: text }, text)));
  }
  list.replaceChildren(...rows);
  if (!rows.length) list.append(make("li", { class: "none" }, needle ? "No event has that in it." : "Nothing has happened yet."));
}

export function drawChosen(title, box, slot, known) {
  const { member } = slot;
  const state = stateOf(slot);
  title.textContent = `Slot ${slot.index}`;
  const pairs = [["role", titleOf(slot) + (slot.rank !== null && slot.role !== "holder" ? ` (${slot.role})` : "")]];
  if (member) {
    pairs.push(["member", member.id], ["since", member.since ? `${clock(member.since)}, for ${duration(known.now() - member.since)}` : ""],
      ["calls in flight", member.in_flight], ["revision", member.revision], ["term", member.term || ""], ["actor", member.actor_id || "none yet"]);
    if (member.health) pairs.push(["health", member.health]);
    if (member.ends_at) pairs.push(["ends by its lease", `in ${duration(member.ends_at - known.now())}`]);
  }
  const facts = make("dl", {});
  for (const [key, value] of pairs) if (value !== "") facts.append(make("dt", {}, key), make("dd", {}, `${value}`));
  const hosts = hostsOf(member).map((host, number) => make("tr", {}, make("td", {}, host.index ?? number), make("td", { class: "mono", title: host.node_id }, short(host.node_id, 10)),
    make("td", { class: "mono" }, host.address || ""), make("td", { class: "mono" }, host.pid ?? ""), make("td", {}, devicesOf(host).count ? `${devicesOf(host).count} ${devicesOf(host).name}` : "")));
  const work = hostsOf(member).flatMap((host) => (host.processes || []).map((one) => make("li", {}, `host ${host.index}: ${one.name} ${one.state}${one.pid ? `, process ${one.pid}` : ""}${one.starts > 1 ? `, started ${one.starts} times` : ""}`)));
  box.replaceChildren(
    make("p", {}, make("span", { class: `chip s-${state}` }, `${SIGNS[state]} ${state}`)),
    slot.reason ? make("p", { class: "why" }, slot.reason) : "",
    facts,
    hosts.length ? make("table", {}, make("thead", {}, make("tr", {}, ...["host", "node", "address", "process", "devices"].map((word) => make("th", {}, word)))), make("tbody", {}, ...hosts)) : "",
    work.length ? make("ul", { class: "rows" }, ...work) : "",
    slot.faults.length ? make("p", { class: "quiet" }, `${plural(slot.faults.length, "fault")}; the last ${duration(known.now() - slot.faults[slot.faults.length - 1][0])} ago: ${slot.faults[slot.faults.length - 1][1]}`) : "");
}
