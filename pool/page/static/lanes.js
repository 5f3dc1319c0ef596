// The time line: a lane for each slot, its member's states as a band, its faults as marks.

import { STATES, clock, duration, make, stateOf } from "./words.js";

const REACHES = { "5 min": 300, "15 min": 900, "1 h": 3600 };
const ORDERS = ["troubled first", "by slot"];
const MANY = 60;
const AXIS = 22;
const LABEL = 46;

export class Lanes {
  constructor(box, orders, spans, known, choose) {
    Object.assign(this, { box, known, choose, reach: 900, order: null, lanes: [], colours: {} });
    this.canvas = box.querySelector("canvas");
    this.tip = document.getElementById("tip");
    this.buttons(spans, Object.keys(REACHES), () => Object.keys(REACHES).find((key) => REACHES[key] === this.reach), (key) => { this.reach = REACHES[key]; });
    this.buttons(orders, ORDERS, () => this.ordering(), (key) => { this.order = key; });
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("click", (event) => { const lane = this.at(event); if (lane) this.choose(lane.index); });
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  buttons(place, names, present, pick) {
    const show = () => [...place.children].forEach((child) => child.setAttribute("aria-pressed", child.textContent === present()));
    place.append(...names.map((name) => make("button", { type: "button", click: () => { pick(name); show(); this.draw(); } }, name)));
    this.shows = [...(this.shows || []), show];
  }

  ordering() {
    return this.order ?? (this.known.slots.size > MANY ? ORDERS[0] : ORDERS[1]);
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    for (const name of [...STATES, "fault", "ink", "quiet", "line", "panel", "chosen"]) this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    this.draw();
  }

  // Slots in the order of their lanes; "troubled first" puts those up that have most to tell.
  sorted(from) {
    const lanes = [...this.known.slots.values()].filter((slot) => slot.spans.some((span) => (span[2] ?? Infinity) > from) || !slot.closed);
    if (this.ordering() === ORDERS[1]) return lanes.sort((a, b) => a.index - b.index);
    const weight = (slot) => {
      const last = slot.faults.length ? slot.faults[slot.faults.length - 1][0] : 0;
      const isWell = stateOf(slot) === "ready" && !slot.member.notices.length;
      return (isWell || slot.closed ? 0 : 4e9) + Math.max(0, last > from ? last : 0);
    };
    return lanes.map((slot) => [weight(slot), slot]).sort((a, b) => b[0] - a[0] || a[1].index - b[1].index).map((pair) => pair[1]);
  }

  draw() {
    if (!this.known.version || !this.colours.ink) return;
    this.shows.forEach((show) => show());
    const now = this.known.now();
    const from = now - this.reach;
    this.lanes = this.sorted(from);
    const width = this.box.clientWidth;
    this.tall = this.lanes.length <= 12 ? 22 : this.lanes.length <= 40 ? 16 : this.lanes.length <= 120 ? 10 : 7;
    const height = AXIS + this.lanes.length * this.tall + 4;
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      this.canvas.style.height = `${height}px`;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const x = (at) => LABEL + ((Math.max(from, at) - from) / this.reach) * (width - LABEL - 10);
    this.time = (px) => from + ((px - LABEL) / (width - LABEL - 10)) * this.reach;
    this.axis(pen, x, from, now, height);
    this.lanes.forEach((slot, row) => this.lane(pen, slot, AXIS + row * this.tall, x, from, now, width));
  }

  axis(pen, x, from, now, height) {
    const step = this.reach / 5;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    for (let n = 0; n <= 5; n += 1) {
      const at = x(from + n * step);
      pen.fillStyle = this.colours.line;
      pen.fillRect(Math.round(at), AXIS - 4, 1, height);
      pen.fillStyle = this.colours.quiet;
      pen.textAlign = n === 0 ? "left" : n === 5 ? "right" : "center";
      pen.fillText(n === 5 ? "now" : `−${duration((5 - n) * step)}`, at, 12);
    }
  }

  lane(pen, slot, y, x, from, now, width) {
    const band = Math.max(3, this.tall - (this.tall > 9 ? 5 : 2));
    const top = y + (this.tall - band) / 2;
    if (slot.index === this.known.chosen) {
      pen.fillStyle = this.colours.chosen;
      pen.fillRect(0, y, width, this.tall);
    }
    if (this.tall >= 10) {
      pen.fillStyle = slot.closed ? this.colours.line : this.colours.quiet;
      pen.textAlign = "right";
      pen.font = `${Math.min(11, this.tall)}px system-ui, sans-serif`;
      pen.fillText(slot.index, LABEL - 10, y + this.tall / 2 + 4);
    }
    for (const [state, begun, ended] of slot.spans) {
      if ((ended ?? now) < from) continue;
      pen.fillStyle = this.colours[state] || this.colours.quiet;
      const left = x(begun);
      // What was shorter than a pixel is still seen.
      pen.fillRect(left, top, Math.max(1.5, x(ended ?? now) - left), band);
    }
    for (const [at] of slot.faults) {
      if (at < from) continue;
      const middle = x(at);
      const size = Math.max(2.5, Math.min(5, this.tall / 3));
      pen.fillStyle = this.colours.fault;
      pen.strokeStyle = this.colours.panel;
      pen.beginPath();
      pen.moveTo(middle, y + this.tall / 2 - size);
      pen.lineTo(middle + size, y + this.tall / 2);
      pen.lineTo(middle, y + this.tall / 2 + size);
      pen.lineTo(middle - size, y + this.tall / 2);
      pen.closePath();
      pen.fill();
      pen.stroke();
    }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.lanes[Math.floor((event.clientY - box.top - AXIS) / this.tall)];
  }

  point(event) {
    const slot = this.at(event);
    this.tip.hidden = !slot;
    if (!slot) return;
    const box = this.canvas.getBoundingClientRect();
    const at = this.time(event.clientX - box.left);
    const near = this.reach / 150;
    const fault = slot.faults.find((one) => Math.abs(one[0] - at) < near);
    const span = slot.spans.find(([, begun, ended]) => begun <= at && at <= (ended ?? this.known.now()));
    const lines = [`slot ${slot.index} at ${clock(at)}`];
    if (span) lines.push(`generation ${span[3]} ${span[0]} for ${duration((span[2] ?? this.known.now()) - span[1])}`);
    if (fault) lines.push(`✖ ${fault[1]}: ${fault[2]}`);
    this.tip.replaceChildren(...lines.map((line) => make("p", {}, line)));
    const left = Math.min(event.clientX + 14, innerWidth - this.tip.offsetWidth - 8);
    // A style attribute is refused by the page's own policy; its properties are not.
    Object.assign(this.tip.style, { left: `${left}px`, top: `${event.clientY + 14}px` });
  }

  step(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!move || !this.lanes.length) return;
    event.preventDefault();
    const present = this.lanes.findIndex((slot) => slot.index === this.known.chosen);
    const next = this.lanes[Math.min(this.lanes.length - 1, Math.max(0, present + move))];
    if (next.index !== this.known.chosen) this.choose(next.index);
  }
}
