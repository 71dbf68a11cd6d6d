/* Details and search, and how everything begins. One of the parts of the report's script, which are joined in order into one async function.
   Names come from models: they are shown through textContent and plot columns, never parsed as HTML. */

/* Details and search. */

function note(id, text) { document.getElementById(id).textContent = text; }
function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}
function clearDetail() {
  document.getElementById("detail").replaceChildren();
  const before = picked;
  picked = -1;
  if (before >= 0) drawOperators();
  for (const button of document.querySelectorAll("#stages button")) button.removeAttribute("aria-current");
}
function showDetail(title, pairs) {
  const panel = document.getElementById("detail");
  panel.replaceChildren();
  element("bdi", title, element("h3", undefined, panel));
  const list = element("dl", undefined, panel);
  for (const [term, text] of pairs) {
    if (text === "" || text === undefined) continue;
    element("dt", term, list);
    element("bdi", text, element("dd", undefined, list));
  }
}

function pick(number, follows, instance) {
  const operator = DATA.operators[number], where = DATA.instances;
  const at = instance ?? where.operator.indexOf(number);
  picked = number;
  drawOperators();
  const plot = plots.operators;
  if (follows) plot.centre(operator.x, operator.y, 36);
  showDetail(instance === undefined ? operator.name : where.nodes[instance][0] ?? operator.name, [
    ["operator", instance === undefined ? "" : operator.name],
    ["stage", `${where.stage[at]}, repeat ${where.repeat[at] + 1}; folded ×${timesOf[number]}`],
    ["does", `${operator.does} on the ${operator.unit} unit`],
    ["cycles", `${grouped(operator.cycles)} on the busiest of ${operator.instances} used; here from ${grouped(where.start[at])} to ${grouped(where.end[at])}`],
    ["why", operator.why], ["loops", operator.factors], ["tiles", operator.tiles], ["memory", operator.memory],
    ["sharding", operator.sharding.join("; ")],
    ["critical path", operator.path ? `${grouped(operator.path)} cycles, ${percent(operator.path / DATA.latency)} of the latency` : "not on it"],
    ["ONNX nodes", where.nodes[at].join(", ")],
  ]);
}

function pickStage(stage) {
  const {chips} = DATA.system, mine = chips.stage.map((s, i) => [s, i]).filter(([s]) => s === stage).map(([, i]) => i);
  const run = DATA.runs.findIndex((stages) => stages.includes(stage));
  const frame = DATA.frames.find((f) => f.run === run && f.segment < 0), first = mine[0];
  showDetail(`stage ${stage}`, [
    ["alike", DATA.runs[run].length > 1 ? `stages ${DATA.runs[run][0]} to ${DATA.runs[run].at(-1)}` : "no other"],
    ["chips", mine.map((i) => chips.chip[i]).join(", ")],
    ["place", [...new Set(mine.map((i) => `node ${chips.node[i]}`))].join(", ")],
    ...["matrix", "vector", "switch", "memory"].map((unit) => [unit, `busiest instance ${percent(chips[unit][first])} of the interval`]),
    ["SRAM", percent(chips.sram[first])],
  ]);
  for (const button of document.querySelectorAll("#stages button")) {
    if (Number(button.dataset.stage) === DATA.runs[run][0]) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  const [x, width] = [(frame.left + frame.right) / 2, frame.right - frame.left + 3];
  const [across, down] = plots.operators.size;
  plots.operators.show(x - width / 2, x + width / 2, frame.top + 1 - width * down / across, frame.top + 1);
  for (const [id, draw] of [["timeline-stage", drawTimeline], ["memory-stage", drawMemory]]) {
    document.getElementById(id).value = String(run);
    draw();
  }
}

const SEARCHED = DATA.instances.nodes.flatMap((names, i) => names.map((name) => [name, name.toLowerCase(), i]));
let hits = [], hit = -1;

function search(text) {
  const wanted = text.trim().toLowerCase(), list = document.getElementById("hits"), box = document.getElementById("search");
  list.replaceChildren();
  hits = [];
  hit = -1;
  if (wanted) {
    const whole = SEARCHED.filter(([, low]) => low === wanted), part = SEARCHED.filter(([, low]) => low !== wanted && low.includes(wanted));
    hits = [...whole, ...part].slice(0, MOST_HITS);
    hits.forEach(([name,, i], at) => {
      const item = element("li", undefined, list);
      item.id = `hit-${at}`;
      item.setAttribute("role", "option");
      element("bdi", name, item);
      element("small", `stage ${DATA.instances.stage[i]}, ${DATA.operators[DATA.instances.operator[i]].unit}, cycles ${grouped(DATA.instances.start[i])} to ${grouped(DATA.instances.end[i])}`, item);
      item.addEventListener("click", () => choose(at));
    });
    if (!hits.length) element("li", "no node has that in its name", list);
    else if (whole.length + part.length > hits.length) element("li", `and ${grouped(whole.length + part.length - hits.length)} more`, list);
  }
  box.setAttribute("aria-expanded", String(hits.length > 0));
  box.removeAttribute("aria-activedescendant");
}
function mark(at) {
  hit = at;
  const box = document.getElementById("search");
  [...document.querySelectorAll("#hits [role=option]")].forEach((item, i) => {
    item.setAttribute("aria-selected", String(i === at));
    if (i === at) { item.scrollIntoView({block: "nearest"}); box.setAttribute("aria-activedescendant", item.id); }
  });
}
function choose(at) {
  if (at < 0 || at >= hits.length) return;
  mark(at);
  const i = hits[at][2];
  pick(DATA.instances.operator[i], true, i);
}

/* Everything together. */

function theme() {
  document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  for (const plot of Object.values(plots)) plot.theme();
  for (const swatch of document.querySelectorAll("[data-swatch]")) {
    const fill = stageColour(Number(swatch.dataset.swatch));
    swatch.style.background = fill;
    swatch.style.color = inkOn(fill);
  }
  drawSystem();
  drawOperators();
  drawTimeline();
  drawMemory();
  drawFrontier();
}

function listStages() {
  const named = (stages) => (stages.length > 1 ? `${stages[0]} to ${stages.at(-1)}, alike` : `${stages[0]}`);
  const longest = DATA.runs.reduce((best, stages, run) => (stages.length > DATA.runs[best].length ? run : best), 0);
  for (const id of ["timeline-stage", "memory-stage"]) {
    const select = document.getElementById(id);
    if (id === "timeline-stage") { const all = element("option", "all", select); all.value = "all"; }
    DATA.runs.forEach((stages, run) => { element("option", named(stages), select).value = String(run); });
    if (id === "memory-stage") select.value = String(longest);
    select.addEventListener("change", id === "timeline-stage" ? drawTimeline : drawMemory);
  }
}

function listen() {
  const box = document.getElementById("search");
  box.addEventListener("input", () => search(box.value));
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") mark(Math.min(hits.length - 1, hit + 1));
    else if (event.key === "ArrowUp") mark(Math.max(0, hit - 1));
    else if (event.key === "Enter") choose(Math.max(0, hit));
    else if (event.key === "Escape") { box.value = ""; search(""); clearDetail(); }
    else return;
    event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-heat]")) button.addEventListener("click", () => setHeat(button.dataset.heat));
  for (const button of document.querySelectorAll("[data-time]")) button.addEventListener("click", () => setSpan(button.dataset.time));
  for (const button of document.querySelectorAll("#stages button")) button.addEventListener("click", () => pickStage(Number(button.dataset.stage)));
  plots.system.onTap("chips-circles", (i) => { const stage = DATA.system.chips.stage[i]; if (stage >= 0) pickStage(stage); });
  plots.operators.onTap("operators-boxes", (i) => { if (i in plots.operators.shown) pick(plots.operators.shown[i], false); });
  plots.timeline.onTap("bars-boxes", (i) => { const operator = plots.timeline.origin[i]; if (operator >= 0) pick(operator, true); });
  plots.system.onMove(labelChips);
  plots.operators.onMove(labelOperators);
  plots.system.steps = () => DATA.runs.flat().map((stage) => () => pickStage(stage));
  dark.addEventListener("change", theme);
}

await embed();
listStages();
theme();
listen();
requestAnimationFrame(() => {
  plots.system.fit();
  plots.operators.fitWidth();
  document.documentElement.dataset.ready = "true";
  performance.mark("ready");
});
globalThis.chiplanReport = {plots, data: DATA, draw: theme, pick, search, choose};
