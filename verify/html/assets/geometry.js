"use strict";
// Where lanes, spans and arrows lie.  Rows are measured after the browser has laid them out; everything else follows.

const SVG = "http://www.w3.org/2000/svg";
const SLOT = 14, NUM = 34, LEAST = 150;

function svg(name, attributes, parent, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title) made.appendChild(document.createElementNS(SVG, "title")).textContent = title;
  if (parent) parent.appendChild(made);
  return made;
}

// The least slot for each interval so that no two in one slot overlap; returns the number of slots.
function slots(intervals) {
  const ends = [];
  for (const one of [...intervals].sort((a, b) => a.a - b.a || b.b - a.b)) {
    let slot = ends.findIndex((end) => end <= one.a);
    if (slot < 0) slot = ends.push(0) - 1;
    ends[slot] = one.b;
    one.slot = slot;
  }
  return ends.length;
}

// Widths of the gutters: bars (locks, work), arrows, dots; the same numbers place texts and lines.
function plan(trace, width, shown) {
  const end = trace.steps.length + 1;
  const bars = trace.spans.filter((s) => s.kind === "lock" || s.kind === "work" || s.kind === "window");
  for (const bar of bars) { bar.a = bar.from; bar.b = bar.to === null ? end : bar.to; }
  for (const arrow of trace.arrows) {
    arrow.a = arrow.from; arrow.b = arrow.to + 0.5;
    arrow.lane = trace.lanes.indexOf(trace.steps[arrow.from - 1].cpu);
    arrow.target = trace.lanes.indexOf(trace.steps[arrow.to - 1].cpu);
  }
  const zone = slots(bars.filter((s) => s.kind === "window"));
  const lanes = trace.lanes.map((cpu, i) => ({
    cpu,
    bars: slots(bars.filter((s) => s.kind !== "window" && s.cpu === cpu)),
    arrows: slots(trace.arrows.filter((a) => a.lane === i)),
  }));
  const demand = lanes.map((lane) => Math.min(44, Math.max(16, ...trace.steps.filter((s) => s.cpu === lane.cpu && shown(s)).map((s) => lineLength(s)))));
  let slot = SLOT, num = NUM, step = 9, dot = 15, pad = 4;
  const narrow = () => lanes.reduce((sum, l) => sum + l.bars * slot + l.arrows * step + dot + 2 * pad, 0);
  let text = width - num - zone * slot - (zone ? 4 : 0) - narrow();
  const whole = demand.reduce((sum, d) => sum + d, 0), stacked = text < 132 * lanes.length || text / whole < (lanes.length > 2 ? 4.4 : 5.6);
  if (stacked) {
    if (width < 560) { slot = 5; num = 24; step = 7; dot = 11; }
    text = width - num - zone * slot - 4 - narrow();
    if (text < LEAST) {
      // many CPUs on a small screen: everything closer together, the text keeps its width
      const shrink = Math.max(0.2, 1 - (LEAST - text) / (narrow() + zone * slot));
      slot *= shrink; step *= shrink; dot *= shrink; pad *= shrink;
    }
  }
  let x = num;
  const zoneX = x;
  x += zone * slot + (zone ? 4 : 0);
  lanes.forEach((lane, i) => {
    lane.x = x;
    lane.barX = x + pad / 2;
    lane.arrowX = lane.barX + lane.bars * slot + pad;
    lane.dotX = lane.arrowX + lane.arrows * step + (dot < 15 ? pad / 2 : pad);
    lane.textX = lane.dotX + dot - pad;
    x = stacked ? lane.textX : lane.textX + (text * demand[i]) / whole;
    lane.end = x;
  });
  if (stacked) for (const lane of lanes) lane.textX = x + 4;
  return { lanes, zoneX, slot, num, step, stacked, width, labelled: slot === SLOT };
}

// Roughly how many characters a step's widest line wants.
function lineLength(step) {
  return Math.max(...step.lines.map(([more, statement, said]) => (step.calls.length + more) * 0.8 + statement.length + said.length + 6), ...step.calls.map((c, d) => c.length + d + 3));
}

// Draw everything that is not text; ys are the dots' heights and edges of each step's row.
function draw(trace, layout, ys, height, colour) {
  const under = document.getElementById("under"), over = document.getElementById("over");
  under.replaceChildren(); over.replaceChildren();
  arrowheads(over);
  const top = (n) => (n < 1 ? 0 : ys[Math.min(n, ys.length - 1)].dot);
  const end = (span) => (span.to === null ? height : ys[span.to].dot);
  for (const lane of layout.lanes) {
    svg("line", { x1: lane.x, x2: lane.x, y1: 0, y2: height, stroke: "var(--line)" }, under);
  }
  for (const span of trace.spans) {
    const y = top(span.from), h = Math.max(end(span) - y, 3);
    if (span.kind === "irq") band(under, layout, span, y, h);
    else if (span.kind === "window") bar(over, layout, span, layout.zoneX + span.slot * layout.slot, y, h);
    else {
      const lane = layout.lanes.find((l) => l.cpu === span.cpu);
      if (lane) bar(over, layout, span, lane.barX + span.slot * layout.slot, y, h);
    }
  }
  threads(trace, layout, ys, under, colour);
  for (const arrow of trace.arrows) route(over, layout, ys, arrow);
  for (const step of trace.steps) {
    const lane = layout.lanes.find((l) => l.cpu === step.cpu), y = ys[step.n].dot, c = colour(step.task);
    if (step.strays.length) svg("rect", { x: lane.dotX - 5, y: y - 5, width: 10, height: 10, fill: "var(--bad)" }, over);
    else if (ys[step.n].minor) svg("circle", { cx: lane.dotX, cy: y, r: 2, fill: c }, over);
    else svg("circle", { cx: lane.dotX, cy: y, r: 4.5, fill: c, stroke: "var(--page)", "stroke-width": 1.5 }, over);
  }
}

function arrowheads(parent) {
  const defs = svg("defs", {}, parent);
  for (const kind of ["seen", "missed", "work", "lock", "over"]) {
    const marker = svg("marker", { id: "head-" + kind, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" }, defs);
    svg("path", { d: "M0 0.6 L8 4 L0 7.4 Z", fill: COLOURS[kind] }, marker);
  }
}

const COLOURS = { seen: "var(--seen)", missed: "var(--missed)", over: "var(--missed)", work: "var(--work)", lock: "var(--lock)" };
const DASHES = { seen: "", missed: "5 3", over: "1.5 3", work: "", lock: "" };

function band(parent, layout, span, y, h) {
  const lane = layout.lanes.find((l) => l.cpu === span.cpu);
  if (!lane) return;
  svg("rect", { x: lane.arrowX - 2, y: y - 10, width: lane.end - lane.arrowX - (layout.stacked ? 0 : 4), height: h + 20, rx: 5, fill: "var(--irq)" }, parent, span.label);
}

function bar(parent, layout, span, x, y, h) {
  const w = Math.max(layout.slot - 2, 1), spoken = span.kind === "window" && span.spoken;
  const colour = span.kind === "work" ? "var(--work)" : span.kind === "lock" ? "var(--lock)" : spoken ? "var(--window)" : "var(--window-quiet)";
  const title = span.kind === "lock" ? span.label + " held by " + span.task : span.label;
  const hollow = span.phase === "queued";
  svg("rect", {
    x: x + 0.5, y, width: w, height: h, rx: 2, stroke: colour, "stroke-width": 1, fill: colour, "fill-opacity": hollow ? 0 : spoken ? 0.3 : 0.16,
    "stroke-dasharray": hollow ? "3 2" : "none",
  }, parent, title);
  const words = span.kind === "work" ? "drain " + span.phase : span.label;
  if (layout.labelled && h > words.length * 5.2 + 8) {
    svg("text", { transform: `translate(${x + w / 2 + 0.5} ${y + 5}) rotate(90)`, "font-size": 10, fill: colour, "font-weight": spoken ? 700 : 500, dy: "0.24em" }, parent).textContent = words;
  }
}

// A task's line: solid where it has its CPU for itself, dotted where it waits or somebody else runs there.
function threads(trace, layout, ys, parent, colour) {
  const before = new Map(), latest = new Map();
  for (const step of trace.steps) {
    const lane = layout.lanes.find((l) => l.cpu === step.cpu), previous = before.get(step.task);
    if (previous) {
      const from = layout.lanes.find((l) => l.cpu === previous.cpu), moved = from !== lane;
      const alone = !moved && latest.get(step.cpu) === step.task;
      svg("path", {
        d: `M${from.dotX} ${ys[previous.n].dot} L${lane.dotX} ${ys[step.n].dot}`, stroke: colour(step.task), fill: "none",
        "stroke-width": alone ? 2 : 1.5, "stroke-dasharray": alone ? "none" : "1.5 4", "stroke-opacity": alone ? 0.75 : 0.8,
      }, parent);
    }
    before.set(step.task, step);
    latest.set(step.cpu, step.task);
  }
}

// Down in the gutter of the lane where it begins, then across between two rows, then into the dot: never through text.
function route(parent, layout, ys, arrow) {
  const from = layout.lanes[arrow.lane], to = layout.lanes[arrow.target];
  const x = from.arrowX + arrow.slot * layout.step + layout.step / 2, y1 = ys[arrow.from].dot, y2 = ys[arrow.to].dot;
  const gap = ys[arrow.to].top + (ys[arrow.to].minor ? 4 : 2);
  const colour = COLOURS[arrow.kind];
  const same = from === to;
  const path = same
    ? `M${from.dotX - 6} ${y1} H${x + 3} Q${x} ${y1} ${x} ${y1 + 3} V${y2 - 3} Q${x} ${y2} ${x + 3} ${y2} H${to.dotX - 6}`
    : `M${from.dotX - 6} ${y1} H${x + 3} Q${x} ${y1} ${x} ${y1 + 3} V${gap} H${to.dotX - 9} L${to.dotX - 3.2} ${y2 - 4}`;
  const group = svg("g", { class: "arrow", "data-from": arrow.from, "data-to": arrow.to }, parent, arrow.label);
  svg("path", { d: path, fill: "none", stroke: "transparent", "stroke-width": 9, class: "hit" }, group);
  svg("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.6, "stroke-dasharray": DASHES[arrow.kind] || "none", "marker-end": `url(#head-${arrow.kind})`, class: "stroke" }, group);
  svg("circle", { cx: from.dotX, cy: y1, r: 6.5, fill: "none", stroke: colour, "stroke-width": 1.2 }, group);
}

function legend(trace, target) {
  const has = (kind) => trace.arrows.some((a) => a.kind === kind), spans = (kind) => trace.spans.some((s) => s.kind === kind);
  const add = (draw, words) => {
    const item = document.createElement("span"), picture = svg("svg", { width: 26, height: 14, "aria-hidden": "true" });
    draw(picture);
    item.append(picture, words);
    target.append(item);
  };
  const line = (kind) => (p) => {
    svg("line", { x1: 1, x2: 20, y1: 7, y2: 7, stroke: COLOURS[kind], "stroke-width": 1.8, "stroke-dasharray": DASHES[kind] || "none" }, p);
    svg("path", { d: "M18 3.5 L25 7 L18 10.5 Z", fill: COLOURS[kind] }, p);
  };
  const box = (colour, opacity, dash) => (p) =>
    svg("rect", { x: 3, y: 1, width: 20, height: 12, rx: 2, fill: colour, "fill-opacity": opacity, stroke: colour, "stroke-dasharray": dash || "none" }, p);
  add((p) => { svg("circle", { cx: 8, cy: 7, r: 4.5, fill: "var(--task-0)" }, p); svg("circle", { cx: 20, cy: 7, r: 2, fill: "var(--task-0)" }, p); }, "a step; small: bookkeeping");
  if (trace.stray.length) add((p) => svg("rect", { x: 8, y: 2, width: 10, height: 10, fill: "var(--bad)" }, p), "a page that strays moves");
  if (spans("irq")) add((p) => svg("rect", { x: 2, y: 0, width: 22, height: 14, rx: 3, fill: "var(--irq)", stroke: "var(--irq-edge)" }, p), "IRQs off: nothing else runs on that CPU");
  if (spans("lock")) add(box("var(--lock)", 0.18), "lock held");
  if (spans("work")) { add(box("var(--work)", 0, "3 2"), "drain queued"); add(box("var(--work)", 0.2), "drain runs"); }
  if (trace.spans.some((s) => s.kind === "window" && s.spoken)) add(box("var(--window)", 0.3), "the promise must hold");
  if (has("missed")) add(line("missed"), "read too early: the write came after it");
  if (has("seen")) add(line("seen"), "read saw that write");
  if (has("over")) add(line("over"), "written over what the lock's holder wrote");
  if (has("work")) add(line("work"), "work queued, done");
  if (has("lock")) add(line("lock"), "lock handed over");
}
