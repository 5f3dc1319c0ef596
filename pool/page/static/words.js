// Words and numbers as people read them, and the one way to make an element: by text, never by HTML.

export const STATES = ["pending", "starting", "ready", "suspect", "draining", "stopping"];

export const SIGNS = {
  pending: "○", starting: "◔", ready: "●", suspect: "?", draining: "◢", stopping: "■", gone: "", empty: "",
};

export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(s < 36000 ? 1 : 0)} h`;
  return `${Math.round(s / 86400)} d`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour12: false });
}

export function short(id, length = 8) {
  return id && id.length > length + 1 ? `${id.slice(0, length)}…` : id || "";
}

export function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

// The state that a slot is shown in: that of its member, or none.
export function stateOf(slot) {
  return slot.member ? slot.member.state : slot.closed ? "gone" : "empty";
}

export function titleOf(slot) {
  if (slot.rank !== null && slot.rank !== undefined) return `rank ${slot.rank}`;
  return slot.role || "no rank";
}

// What a slot is made of, whatever kind of pool it is: hosts where its member tells of them, else nodes.
export function hostsOf(member) {
  if (!member) return [];
  const hosts = member.info && Array.isArray(member.info.hosts) ? member.info.hosts : null;
  if (hosts) return hosts;
  return (member.nodes || []).map((node, index) => ({ index, node_id: node, processes: [], ranks: [] }));
}

const HIDDEN = new Set(["CPU", "memory", "object_store_memory"]);

export function devicesOf(host) {
  for (const [name, count] of Object.entries(host.bundle || {})) {
    if (!HIDDEN.has(name) && !name.startsWith("node:")) return { name, count: Math.round(count) };
  }
  return { name: "", count: 0 };
}
