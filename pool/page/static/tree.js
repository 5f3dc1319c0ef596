// The pool as a tree: its slots, their members, the hosts of each, and what runs there.
// Small pools are drawn with every host; large ones as rows of tiles, each a slot with its hosts below.

import { SIGNS, devicesOf, draw, hostsOf, short, stateOf, titleOf } from "./words.js";

const DETAILED_MOST = 40;
const ROOT = { x: 8, width: 122, height: 46 };

export class Tree {
  constructor(box, known, choose) {
    Object.assign(this, { box, known, choose, shape: "", parts: new Map(), chosen: known.chosen });
    this.svg = draw("svg", { role: "group", "aria-label": "slots of the pool" });
    box.append(this.svg);
    this.svg.addEventListener("click", (event) => this.pick(event));
    this.svg.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.pick(event); }
    });
    new ResizeObserver(() => this.known.version && this.draw(new Set())).observe(box);
  }

  pick(event) {
    const part = event.target.closest("[data-slot]");
    if (part) this.choose(Number(part.dataset.slot));
  }

  mark(index) {
    this.parts.get(this.chosen)?.group.classList.remove("chosen");
    this.chosen = index;
    this.parts.get(index)?.group.classList.add("chosen");
  }

  // Slots in order of rank; those without one come after, as the pool counts them.
  order() {
    const slots = [...this.known.slots.values()].filter((slot) => !slot.closed);
    const place = (slot) => (slot.rank === null || slot.rank === undefined ? Infinity : slot.rank);
    return slots.sort((a, b) => place(a) - place(b) || a.index - b.index);
  }

  draw(changed) {
    const slots = this.order();
    const width = Math.floor(this.box.clientWidth);
    if (!width) return;
    const layout = slots.length > DETAILED_MOST ? tiles(slots, width) : rows(slots, width);
    const shape = JSON.stringify([width, layout.places]);
    if (shape !== this.shape) this.lay(slots, layout, shape, width);
    else for (const slot of slots) if (changed.has(slot.index)) this.put(slot, layout, true);
    this.root.replaceChildren(...rootText(this.known.pool));
  }

  lay(slots, layout, shape, width) {
    this.shape = shape;
    this.parts.clear();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${layout.height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", layout.height);
    this.root = draw("g", { class: "root", transform: `translate(${ROOT.x} ${layout.root - ROOT.height / 2})` });
    this.svg.replaceChildren(draw("path", { class: "branch", d: layout.branches }), this.root);
    for (const slot of slots) this.put(slot, layout, false);
  }

  put(slot, layout, isNews) {
    const place = layout.places[slot.index];
    const part = this.parts.get(slot.index) ?? { group: draw("g") };
    const state = stateOf(slot);
    const classes = ["slot", `s-${state}`, slot.role, isNews && part.state !== state ? "news" : ""];
    if (this.known.chosen === slot.index) classes.push("chosen");
    if (slot.member?.notices.length) classes.push("noticed");
    part.group.setAttribute("class", classes.filter(Boolean).join(" "));
    for (const [key, value] of Object.entries({
      "data-slot": slot.index, tabindex: 0, role: "button", transform: `translate(${place.x} ${place.y})`,
      "aria-label": `${titleOf(slot)}, slot ${slot.index}: ${state}. ${slot.reason || ""}`,
    })) part.group.setAttribute(key, value);
    part.group.replaceChildren(...(layout.isDetailed ? card(slot, place) : tile(slot, place)));
    part.state = state;
    if (!this.parts.has(slot.index)) { this.svg.append(part.group); this.parts.set(slot.index, part); }
  }
}

function rootText(pool) {
  return [
    draw("rect", { width: ROOT.width, height: ROOT.height, rx: 8 }),
    draw("text", { x: 12, y: 19, class: "strong" }, short(pool.name, 13)),
    draw("text", { x: 12, y: 36, class: "quiet" }, `${pool.ready} of ${pool.desired} ready`),
  ];
}

// -- small pools: a card for each slot, its hosts beside it ---------------------------------------

const ROW = 24;
const CARD = { width: 168, gap: 34, left: 168 };

function rows(slots, width) {
  // What runs on hosts needs room beside them.
  const doWork = slots.some((slot) => hostsOf(slot.member).some((host) => workersOf(host)));
  const columns = width > 900 && slots.length > (doWork ? 12 : 8) ? 2 : 1;
  const each = Math.ceil(slots.length / columns);
  const span = (width - CARD.left) / columns;
  const places = {};
  const branches = [];
  let height = 70;
  const trunks = [];
  slots.forEach((slot, number) => {
    const column = Math.floor(number / each);
    const trunk = (trunks[column] ??= { y: 6 });
    const tall = Math.max(44, hostsOf(slot.member).length * ROW + 4);
    const x = CARD.left + column * span;
    places[slot.index] = { x, y: trunk.y, tall, width: span - CARD.width - CARD.gap - 14 };
    trunk.y += tall + 10;
    height = Math.max(height, trunk.y);
  });
  const root = Math.min(height / 2, 240);
  for (const slot of slots) {
    const { x, y, tall } = places[slot.index];
    const from = ROOT.x + ROOT.width;
    const bend = x - 24;
    const middle = y + tall / 2;
    if (x === CARD.left) branches.push(`M${from} ${root}C${bend + 6} ${root} ${from + 6} ${middle} ${x} ${middle}`);
    else branches.push(`M${bend} ${middle}H${x}`);
  }
  if (columns === 2 && slots.length > each) {
    // The second column hangs on a trunk of its own, which passes above the first.
    const second = slots.slice(each).map((slot) => places[slot.index]);
    const bend = second[0].x - 24;
    const last = second[second.length - 1];
    branches.push(`M${ROOT.x + ROOT.width / 2} ${root - ROOT.height / 2}V8Q${ROOT.x + ROOT.width / 2} 2 ${ROOT.x + ROOT.width / 2 + 6} 2H${bend - 6}Q${bend} 2 ${bend} 8V${last.y + last.tall / 2}`);
  }
  return { isDetailed: true, places, height: height + 2, root, branches: branches.join("") };
}

function card(slot, place) {
  const { member } = slot;
  const state = stateOf(slot);
  const middle = place.tall / 2;
  const parts = [
    draw("title", {}, slot.reason || `${slot.index}: ${state}`),
    draw("rect", { class: "card", y: middle - 20, width: CARD.width, height: 40, rx: 7 }),
    draw("path", { class: "edge", d: `M7 ${middle - 20}h-1a6 6 0 0 0 -6 6v28a6 6 0 0 0 6 6h1z` }),
    draw("text", { class: "strong", x: 15, y: middle - 3 }, titleOf(slot)),
    draw("text", { class: "quiet end", x: CARD.width - 10, y: middle - 3 }, member ? short(member.id.split("/").pop(), 12) : `slot ${slot.index}`),
    draw("text", { class: "state", x: 15, y: middle + 13 }, `${SIGNS[state]} ${state}`),
  ];
  if (member?.notices.length) parts.push(draw("text", { class: "flag end", x: CARD.width - 10, y: middle + 13 }, "⚑ notice"));
  else if (member?.ends_at) parts.push(draw("text", { class: "flag end", x: CARD.width - 10, y: middle + 13 }, "cut off"));
  else if (member?.in_flight) parts.push(draw("text", { class: "quiet end", x: CARD.width - 10, y: middle + 13 }, `${member.in_flight} in flight`));
  const hosts = hostsOf(member);
  const top = middle - (hosts.length * ROW) / 2;
  hosts.forEach((host, number) => {
    const y = top + number * ROW + ROW / 2;
    parts.push(draw("path", { class: "branch", d: `M${CARD.width} ${middle}C${CARD.width + 18} ${middle} ${CARD.width + 12} ${y} ${CARD.width + CARD.gap} ${y}` }));
    parts.push(hostRow(host, CARD.width + CARD.gap, y, place.width));
  });
  if (!hosts.length && slot.reason) {
    parts.push(draw("text", { class: "quiet", x: CARD.width + 12, y: middle + 4 }, short(slot.reason, Math.floor(place.width / 6.4))));
  }
  return parts;
}

function hostRow(host, x, y, width) {
  const devices = devicesOf(host);
  const group = draw("g", { class: "host", transform: `translate(${x} ${y})` });
  group.append(draw("rect", { class: "dot", x: -3, y: -3, width: 6, height: 6, rx: 3 }));
  group.append(draw("text", { class: "mono", x: 9, y: 4 }, short(host.node_id, 8)));
  let at = 84;
  for (let n = 0; n < Math.min(devices.count, 8); n += 1, at += 10) {
    group.append(draw("rect", { class: "device", x: at, y: -4, width: 8, height: 8, rx: 1.5 }));
  }
  if (devices.count > 8) { group.append(draw("text", { class: "quiet", x: at, y: 4 }, `×${devices.count}`)); at += 28; }
  const words = workersOf(host);
  const room = Math.floor((width - at) / 6.4);
  if (words && room > 4) group.append(draw("text", { class: "quiet", x: at + 6, y: 4 }, short(words, room)));
  group.append(draw("title", {}, `host ${host.index ?? ""} on node ${host.node_id}${host.address ? `, ${host.address}` : ""}${host.pid ? `, process ${host.pid}` : ""}${devices.count ? `, ${devices.count} ${devices.name}` : ""}${words ? `: ${words}` : ""}`));
  return group;
}

function workersOf(host) {
  const words = [];
  const ranks = (host.ranks || []).map((rank) => rank.rank);
  if (ranks.length) words.push(ranks.length > 1 ? `ranks ${ranks[0]}–${ranks[ranks.length - 1]}` : `rank ${ranks[0]}`);
  for (const process of host.processes || []) words.push(`${process.name} ${SIGNS[process.state] || ""}`);
  return words.join(", ");
}

// -- large pools: a tile for each slot --------------------------------------------------------------

const LEFT = 148;
const TILE = { least: 27, gap: 4 };
const CROWD = 200;

function tiles(slots, width) {
  const room = width - LEFT - 2;
  // Rows of a multiple of five, so that a number is found where it is looked for.
  const each = Math.max(5, Math.floor(room / (TILE.least + TILE.gap) / 5) * 5);
  const pitch = room / each;
  const size = { wide: pitch - TILE.gap, high: slots.length > CROWD ? 18 : 26 };
  const areGangs = slots.some((slot) => hostsOf(slot.member).length > 1);
  const tall = size.high + (areGangs ? 6 : 0);
  const places = {};
  const lines = Math.ceil(slots.length / each);
  const step = tall + TILE.gap + 3;
  const root = Math.min((lines * step) / 2, 220);
  const branches = [`M${ROOT.x + ROOT.width} ${root}H${LEFT - 14}M${LEFT - 14} ${4 + tall / 2}V${4 + (lines - 1) * step + tall / 2}`];
  slots.forEach((slot, number) => {
    const line = Math.floor(number / each);
    places[slot.index] = { x: LEFT + (number % each) * pitch, y: 4 + line * step, tall, ...size };
    if (number % each === 0) branches.push(`M${LEFT - 14} ${4 + line * step + tall / 2}H${LEFT}`);
  });
  return { isDetailed: false, places, height: Math.max(70, lines * step + 8), root, branches: branches.join("") };
}

function tile(slot, { wide, high }) {
  const state = stateOf(slot);
  const hosts = hostsOf(slot.member);
  const sign = state === "ready" ? (slot.rank ?? slot.index) : SIGNS[state] || "–";
  const parts = [
    draw("title", {}, `${titleOf(slot)}, slot ${slot.index}: ${state}${slot.reason ? `\n${slot.reason}` : ""}`),
    draw("rect", { class: "tile", width: wide, height: high, rx: 4 }),
    draw("text", { class: "number", x: wide / 2, y: high / 2 + 4 }, sign),
  ];
  if (slot.member?.notices.length) parts.push(draw("path", { class: "corner", d: `M${wide - 10} 0h6a4 4 0 0 1 4 4v6z` }));
  if (hosts.length > 1) {
    const each = (wide - (hosts.length - 1)) / hosts.length;
    hosts.forEach((_, n) => parts.push(draw("rect", { class: "device", x: n * (each + 1), y: high + 2, width: each, height: 4, rx: 1 })));
  }
  return parts;
}
