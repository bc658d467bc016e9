// The state beside the timeline: what the chosen step did, then CPUs, pageblocks, locks and free lists after it.

function h(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) made.append(child);
  return made;
}

function jump(number, words, kind) {
  return h("button", { type: "button", class: "link " + (kind || ""), onclick: () => choose(number) }, words);
}

function nowPanel(trace, number, colour) {
  const box = document.getElementById("now");
  if (number === 0) {
    box.replaceChildren(h("p", {}, "The start: nothing has happened yet."), h("p", { class: "quiet" }, "Arrow keys, Home and End go through the steps, the mouse chooses one."));
    return;
  }
  const step = trace.steps[number - 1], facts = h("dl", { class: "facts" });
  const fact = (name, ...what) => facts.append(h("dt", {}, name), h("dd", {}, ...what));
  for (const [cell, value, writer, later] of step.reads) {
    const from = writer ? jump(writer, `from step ${writer}`) : "as at the start";
    const relevant = later && trace.steps[later - 1].task !== step.task && trace.arrows.some((a) => a.kind === "missed" && a.from === number && a.to === later);
    fact("read", h("code", {}, cell), " ", h("b", {}, value), ", ", from, relevant ? ["; ", jump(later, `changed only by step ${later}`, "missed")] : "");
  }
  for (const [cell, old, value] of step.writes) fact("wrote", h("code", {}, cell), ` ${old} → `, h("b", {}, value));
  for (const sentence of step.moves) fact("moved", sentence);
  for (const arrow of trace.arrows) {
    if (arrow.to === number && arrow.kind !== "seen") fact("after", jump(arrow.from, `step ${arrow.from}`, arrow.kind === "missed" ? "missed" : ""), ": " + arrow.label);
  }
  if (step.pc) fact("text", h("code", {}, step.pc));
  box.replaceChildren(
    h("p", {}, h("b", { style: "color:" + colour(step.task) }, step.task), ` on CPU${step.cpu}`),
    h("p", { class: "crumbs" }, step.calls.map((c) => c + "()").join(" › ")),
    h("h2", {}, ...step.lines.map(([depth, statement, said]) => h("span", { class: "line", style: `--d:${depth}` }, statement,
      said ? h("span", { class: "val" }, statement ? "  → " : "", h("b", {}, said)) : null))),
    step.explain ? h("p", {}, step.explain) : "",
    number === trace.violatedAt ? h("p", { class: "broken" }, "⇒ " + trace.found) : "",
    facts,
  );
}

function zonePanel(trace, state, before) {
  const zone = document.getElementById("zone"), stray = new Set(trace.stray);
  const keys = (prefix) => Object.keys(state).filter((k) => k.startsWith(prefix));
  const cpus = keys("cpu").map((key) => cpuCard(trace, key, state[key], before[key], stray));
  const blocks = keys("block").map((key) => blockCard(trace, key, state[key], before[key], stray));
  const limits = state.zone, held = state.locks.filter(([, holder]) => holder);
  zone.replaceChildren(
    h("h3", {}, "Per-CPU page lists"), h("div", { class: "cpus" }, cpus),
    h("h3", {}, "Pageblocks, one square a page"), ...blocks,
    h("p", { class: "places" }, Object.entries(trace.places).filter(([l]) => l !== "l").map(([letter, word]) => h("span", {}, h("i", { class: "page " + letter }), word)), stray.size ? h("span", {}, h("i", { class: "page stray" }), "strays") : null),
    h("h3", {}, "Zone"),
    h("dl", { class: "rowlist" },
      h("dt", {}, "pcplists"), h("dd", {}, limits.disabledBy ? h("b", {}, "disabled by " + limits.disabledBy) : "in use"),
      h("dt", {}, "limits"), h("dd", {}, `high ${limits.high}, batch ${limits.batch}`),
      held.length ? held.map(([name, holder]) => [h("dt", {}, name), h("dd", {}, "held by ", h("b", {}, holder))]).flat() : [h("dt", {}, "locks"), h("dd", {}, "none held")]),
    keep("free", "Buddy free lists", h("dl", { class: "rowlist" }, state.buddy.map(([type, order, heads]) => [h("dt", {}, `${type}, order ${order}`), h("dd", {}, heads.join(", "))]).flat())),
    keep("words", "What the words mean", h("dl", { class: "rowlist words" }, Object.entries(trace.glossary).map(([word, meaning]) => [h("dt", {}, word), h("dd", {}, meaning)]).flat())),
  );
}

const opened = new Set();
function keep(name, summary, content) {
  const made = h("details", {}, h("summary", {}, summary), content);
  made.open = opened.has(name);
  made.addEventListener("toggle", () => (made.open ? opened.add(name) : opened.delete(name)));
  return made;
}

function cpuCard(trace, key, cpu, before, stray) {
  const number = (name) => h("span", {}, name + " ", h("b", { class: cpu[name] !== before[name] ? "changed" : "" }, String(cpu[name])));
  const lists = cpu.lists.map((pages, t) => pages.length
    ? h("div", { class: "list" }, h("span", { class: "type" }, trace.types[t]), pages.map((p) => h("span", { class: "chip" + (stray.has(p) ? " stray" : ""), title: "page " + p }, String(p))))
    : null);
  return h("section", { class: "cpu" + (cpu.irq ? " off" : ""), "aria-label": key.toUpperCase() },
    h("header", {}, h("b", {}, key.toUpperCase()),
      cpu.irq ? h("span", { class: "tag irq" }, "IRQs off: " + cpu.irq) : h("span", { class: "tag" }, "IRQs on"),
      cpu.lists.some((l) => l.length) ? null : h("span", { class: "tag" }, "no pages"),
      cpu.work !== "idle" ? h("span", { class: "tag work" }, "drain " + cpu.work) : null, cpu.online ? null : h("span", { class: "tag" }, "offline"),
      h("span", { class: "nums" }, number("count"), number("high"), number("batch"))), ...lists.filter(Boolean));
}

function blockCard(trace, key, block, before, stray) {
  const squares = [...block.places].map((letter, i) => {
    const page = block.first + i, strays = stray.has(page) && letter === "p";
    return h("i", { class: `page ${letter}${strays ? " stray" : ""}${before.places[i] !== letter ? " moved" : ""}`, title: `page ${page}: ${trace.places[letter]}` }, strays ? String(page) : "");
  });
  const counts = Object.entries(trace.places).map(([l, word]) => [[...block.places].filter((x) => x === l).length, word]).filter(([n]) => n).map(([n, word]) => `${n} ${word}`);
  return h("div", { class: "block" },
    h("p", {}, `Block ${key.slice(5)} `, h("b", { class: (block.type === "ISOLATE" ? "iso " : "") + (block.type !== before.type ? "changed" : "") }, block.type), h("span", { class: "quiet" }, `, pages ${block.first}–${block.first + block.places.length - 1}`)),
    h("div", { class: "pages", role: "img", "aria-label": counts.join(", ") }, squares));
}
