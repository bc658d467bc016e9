// The timeline's rows, and choosing a step by keyboard, mouse, slider or the address (#step=7).

const trace = JSON.parse(document.getElementById("trace").textContent);
const rows = document.getElementById("rows"), slider = document.getElementById("slider"), every = document.getElementById("all");
const states = [];
for (const changes of trace.states) states.push({ ...(states[states.length - 1] || {}), ...changes });
const elements = [];
let chosen = 0, layout = null;

// A kind of task has its colour on every page; a second task of that kind gets one of the spare colours.
const colourOf = new Map(), kinds = { offline: 0, free: 1, alloc: 2, update: 3 };
let spare = 4;
for (const task of trace.tasks.filter((t) => t.kind !== "worker")) {
  const first = trace.tasks.find((t) => t.kind === task.kind) === task && task.kind in kinds;
  const number = first ? kinds[task.kind] : 4 + ((spare++ - 4) % 3);
  colourOf.set(task.name, `var(--task-${number})`);
}
const colour = (task) => colourOf.get(task) || "var(--worker)";

const visible = (step) => every.checked || !step.minor;

// Text in which "pcp->count" is not broken in two; where a call has to be, it is behind the bracket.
function unbroken(text) {
  const behind = (part) => part.split(/(?<=\((?!\)))/).flatMap((piece, i) => (i ? [h("wbr"), piece] : [piece]));
  return text.split(/([\w&[\]]*->[\w[\]]*)/).flatMap((part, i) => (i % 2 ? [h("span", { class: "one" }, part)] : behind(part)));
}

// A step as lines of C, as the columns have it: statements that one operation performs together are one below the other.
function operation(step, depth) {
  return step.lines.map(([more, statement, said]) => {
    const made = unbroken(statement);
    if (!statement) made.push(h("span", { class: "mark" }, said));
    else if (said) made.push(h("span", { class: "val" }, "  "), h("b", { class: "said" }, "→\u00a0" + said));
    if (step.tag === "irq_save") made.push(h("span", { class: "val" }, "  "), h("span", { class: "note open" }, "IRQs off"));
    if (step.tag === "irq_restore") made.push(h("span", { class: "val" }, "  "), h("span", { class: "note open" }, "IRQs on"));
    return h("div", { class: "op", style: `--d:${depth + more}` }, ...made);
  });
}

// Calls as a changelog has them: a line for each call that is entered, the operation below, indented.
function build() {
  const stacks = new Map(), last = new Map();
  let above = "";
  elements.length = 0;
  elements.push(null);
  rows.replaceChildren();
  layout = plan(trace, document.getElementById("sheet").clientWidth, visible);
  for (const step of trace.steps) {
    const cell = h("div", { class: "cell" });
    if (visible(step)) {
      const calls = step.calls.filter((c) => !step.text.startsWith(c + "(") && c !== "worker_thread");
      const fresh = last.get(step.cpu) !== step.task;
      if (fresh || (layout.stacked && above !== step.task)) {
        cell.append(h("div", {}, h("span", { class: "who", style: "color:" + colour(step.task) }, step.task, layout.stacked ? h("small", {}, "CPU" + step.cpu) : null)));
      }
      if (fresh) stacks.delete(step.task);
      above = step.task;
      last.set(step.cpu, step.task);
      const had = stacks.get(step.task) || [];
      let common = 0;
      while (common < had.length && common < calls.length && had[common] === calls[common]) common++;
      for (let d = common; d < calls.length; d++) cell.append(h("div", { class: "call", style: `--d:${d}` }, calls[d] + "()"));
      stacks.set(step.task, calls);
      cell.append(...operation(step, calls.length));
      for (const arrow of trace.arrows) {
        if (arrow.note && arrow[arrow.kind === "over" ? "to" : "from"] === step.n) cell.append(h("span", { class: "strays early", style: `--d:${calls.length}` }, arrow.note));
      }
      if (step.strays.length) {
        const pages = step.strays.map(([p]) => p).join(", "), where = step.strays[0][1];
        cell.append(h("span", { class: "strays", style: `--d:${calls.length}` }, h("i", {}), `page${step.strays.length > 1 ? "s" : ""} ${pages} → ${where}`));
      }
    } else cell.append(...operation(step, 0));
    const row = h("li", { class: "row" + (visible(step) ? "" : " minor"), id: "step-" + step.n, role: "option", "aria-selected": "false",
      "aria-label": `Step ${step.n}, CPU${step.cpu}, ${step.task}: ${step.text}${step.values ? ", " + step.values : ""}`, onclick: () => choose(step.n) },
      h("span", { class: "num" }, String(step.n)), cell);
    elements.push(row);
    rows.append(row);
    if (step.n === trace.violatedAt) rows.append(h("li", { class: "end", role: "presentation" }, "⇒ " + trace.found));
  }
  arrange();
}

function arrange() {
  const sheet = document.getElementById("sheet");
  const before = layout.stacked;
  layout = plan(trace, sheet.clientWidth, visible);
  if (layout.stacked !== before) { build(); choose(chosen, false); return; }
  trace.steps.forEach((step) => {
    const lane = layout.lanes.find((l) => l.cpu === step.cpu), row = elements[step.n];
    row.firstChild.style.width = layout.num + "px";
    const cell = row.lastChild;
    cell.style.marginLeft = lane.textX + "px";
    cell.style.width = (layout.stacked ? layout.width : lane.end) - lane.textX + "px";
  });
  const heads = document.getElementById("heads");
  heads.replaceChildren(...layout.lanes.map((lane) => {
    const made = h("span", {}, (layout.stacked ? "" : "CPU") + lane.cpu);
    made.style.left = lane.dotX - (layout.stacked ? 4 : 5) + "px";
    return made;
  }));
  if (layout.stacked) {
    const made = h("span", { class: "zone" }, "CPU");
    made.style.left = "0";
    heads.append(made);
  }
  paint();
}

function paint() {
  const sheet = document.getElementById("sheet"), origin = sheet.getBoundingClientRect().top, ys = [{ dot: 0, top: 0 }];
  for (const step of trace.steps) {
    const row = elements[step.n], box = row.getBoundingClientRect(), minor = row.classList.contains("minor");
    const op = row.querySelector(".op"), at = op && op.getBoundingClientRect();
    const dot = at && at.height ? at.top + 10 : box.top + box.height / 2;
    row.firstChild.style.top = dot - box.top - 10 + "px";
    ys.push({ dot: dot - origin, top: box.top - origin, minor });
  }
  const end = elements[trace.steps.length].getBoundingClientRect().bottom - origin;
  draw(trace, layout, ys, end, colour);
  highlight();
}

function highlight() {
  for (const arrow of document.querySelectorAll("#over .arrow")) {
    const touches = Number(arrow.dataset.from) === chosen || Number(arrow.dataset.to) === chosen;
    arrow.querySelector(".stroke").setAttribute("stroke-width", touches ? 3 : 1.6);
  }
}

function choose(number, scroll = true) {
  const end = trace.steps.length, old = elements[chosen], grows = (n) => n > 0 && elements[n].classList.contains("minor");
  const moves = grows(chosen) || grows(number = Math.max(0, Math.min(end, number)));
  if (old) { old.classList.remove("chosen"); old.setAttribute("aria-selected", "false"); }
  chosen = number;
  const row = elements[chosen];
  if (row) {
    row.classList.add("chosen");
    row.setAttribute("aria-selected", "true");
    rows.setAttribute("aria-activedescendant", row.id);
  } else rows.removeAttribute("aria-activedescendant");
  slider.value = chosen;
  document.getElementById("count").textContent = `after step ${chosen} of ${end}`;
  document.getElementById("first").disabled = document.getElementById("prev").disabled = chosen === 0;
  document.getElementById("last").disabled = document.getElementById("next").disabled = chosen === end;
  document.documentElement.dataset.step = String(chosen);
  nowPanel(trace, chosen, colour);
  zonePanel(trace, states[chosen], states[Math.max(chosen - 1, 0)]);
  try { history.replaceState(null, "", "#step=" + chosen); } catch { /* some viewers have no address to change */ }
  if (moves) paint(); else highlight();
  if (scroll && row) row.scrollIntoView({ block: "nearest" });
  else if (scroll) window.scrollTo({ top: 0 });
}

// The next or previous step that is shown; 0 is the start.
function neighbour(direction) {
  let n = chosen + direction;
  while (n > 0 && n < trace.steps.length && !visible(trace.steps[n - 1])) n += direction;
  return n;
}

const KEYS = { ArrowDown: () => neighbour(1), ArrowRight: () => neighbour(1), ArrowUp: () => neighbour(-1), ArrowLeft: () => neighbour(-1), Home: () => 0, End: () => trace.steps.length };
document.addEventListener("keydown", (event) => {
  const to = KEYS[event.key];
  if (!to || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "PRE") return;
  event.preventDefault();
  choose(to());
});
slider.max = trace.steps.length;
slider.addEventListener("input", () => choose(Number(slider.value)));
for (const [id, to] of Object.entries({ first: KEYS.Home, prev: KEYS.ArrowUp, next: KEYS.ArrowDown, last: KEYS.End })) {
  document.getElementById(id).addEventListener("click", () => choose(to()));
}
const unfold = document.getElementById("unfold");
unfold.addEventListener("click", () => {
  unfold.setAttribute("aria-expanded", unfold.ariaExpanded !== "true");
  if (elements[chosen]) elements[chosen].scrollIntoView({ block: "nearest" });
});
every.addEventListener("change", () => { build(); choose(chosen); });
window.addEventListener("hashchange", () => { const n = address(); if (n !== null && n !== chosen) choose(n); });
let width = 0;
new ResizeObserver(() => {
  const now = document.getElementById("sheet").clientWidth;
  if (now !== width) { width = now; arrange(); }
}).observe(document.getElementById("sheet"));

function address() {
  const found = /^#step=(\d+)$/.exec(location.hash);
  return found ? Number(found[1]) : null;
}

// Three CPUs side by side want the width that the state would have.
const below = () => document.documentElement.toggleAttribute("data-below", innerWidth <= (trace.lanes.length > 2 ? 1500 : 1000));
window.addEventListener("resize", below);
below();
legend(trace, document.getElementById("legend"));
build();
choose(address() ?? (trace.violatedAt || trace.steps.length), address() !== null);
if (document.fonts) document.fonts.ready.then(paint);
