"use strict";
/* The report's own script: fills the plots with the plan's columns, and lets hands and keys reach them.
   Names come from models: they are shown through textContent and plot columns, never parsed as HTML. */
(async () => {
const DATA = JSON.parse(document.getElementById("data").textContent);
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const STAGE_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8d6e97"];
const LETTERS = {matrix: "M", vector: "V", switch: "S", memory: "Y"};
const MOST_HITS = 60;
const MOST_WIRES_IN_VIEW = 5000;
const plots = {};
const dark = matchMedia("(prefers-color-scheme: dark)");
let printing = false;

/* Words and colours. */

const grouped = (value) => Math.round(value).toLocaleString("en-US");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const micros = (cycles) => `${(1e6 * cycles / DATA.clock).toLocaleString("en-US", {maximumFractionDigits: 1})} us`;
function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (value >= 1024 && power < units.length - 1) { value /= 1024; power += 1; }
  return `${power ? value.toFixed(1) : value} ${units[power]}`;
}
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const stageColour = (stage) => (stage < 0 ? colour("track") : STAGE_COLOURS[stage % STAGE_COLOURS.length]);
function channels(hex) { return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)); }
function inkOn(hex) {
  const [r, g, b] = channels(hex).map((c) => (c / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#000000" : "#ffffff";
}
function mixed(from, to, share) {
  const [a, b] = [channels(from), channels(to)];
  return "#" + a.map((c, i) => Math.round(c + (b[i] - c) * share).toString(16).padStart(2, "0")).join("");
}
/* One scale for use: from nearly the page to blue to dark orange, monotonous in lightness on both pages. */
function heat(share) {
  const stops = dark.matches && !printing
    ? ["#1b222c", "#22506e", "#56b4e9", "#f0e442"] : ["#e4e8ed", "#8cc4e6", "#0072b2", "#5b1a00"];
  const at = Math.min(0.9999, Math.max(0, share)) * 3;
  return mixed(stops[Math.floor(at)], stops[Math.floor(at) + 1], at % 1);
}
const ramp = (count) => Array.from({length: count}, (_, i) => heat(0.06 + 0.94 * i / (count - 1)));

/* Plots. */

class Plot {
  constructor(name, model) {
    this.name = name;
    this.model = model;
    this.host = document.getElementById(`host-${name}`);
    this.bounds = [0, 1, 0, 1];
    this.keepsAspect = name === "system" || name === "operators";
    this.chosen = -1;
    this.steps = () => [];
  }
  renderer(name) { return this.model.renderers.find((renderer) => renderer.name === name); }
  fill(name, columns) { this.renderer(name).data_source.data = columns; }
  get size() { return [this.model.inner_width || 800, this.model.inner_height || 400]; }
  show(left, right, bottom, top) {
    if (this.keepsAspect) {
      const [width, height] = this.size;
      const scale = Math.max((right - left) / width, (top - bottom) / height);
      const [x, y] = [(left + right) / 2, (bottom + top) / 2];
      [left, right] = [x - scale * width / 2, x + scale * width / 2];
      [bottom, top] = [y - scale * height / 2, y + scale * height / 2];
    }
    this.model.x_range.setv({start: left, end: right});
    this.model.y_range.setv({start: bottom, end: top});
  }
  fit() { this.show(...this.bounds); }
  /* All of the width, and as much of the height as there is room for, from the top. */
  fitWidth() {
    const [left, right, bottom, top] = this.bounds;
    const [width, height] = this.size;
    const high = (right - left) * height / width;
    if (high >= top - bottom) this.fit(); else this.show(left, right, top - high, top);
  }
  zoom(factor) {
    for (const range of this.keepsAspect ? [this.model.x_range, this.model.y_range] : [this.model.x_range]) {
      const [middle, half] = [(range.start + range.end) / 2, (range.end - range.start) / 2 * factor];
      range.setv({start: middle - half, end: middle + half});
    }
  }
  move(right, up) {
    const {x_range: x, y_range: y} = this.model;
    const [dx, dy] = [(x.end - x.start) * right, (y.end - y.start) * up];
    x.setv({start: x.start + dx, end: x.end + dx});
    y.setv({start: y.start + dy, end: y.end + dy});
  }
  centre(x, y, width) {
    const [across, down] = this.size;
    this.show(x - width / 2, x + width / 2, y - width * down / across / 2, y + width * down / across / 2);
  }
  get pixelsPerUnit() { return this.size[0] / (this.model.x_range.end - this.model.x_range.start); }
  onMove(act) {
    let asked = false;
    const later = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => { asked = false; act(); });
    };
    this.model.x_range.change.connect(later);
    this.model.y_range.change.connect(later);
  }
  onTap(name, act) {
    const selected = this.renderer(name).data_source.selected;
    selected.properties.indices.change.connect(() => { if (selected.indices.length) act(selected.indices[0]); });
  }
  theme() {
    for (const axis of [...this.model.below, ...this.model.left]) {
      axis.setv({major_label_text_color: colour("text"), axis_label_text_color: colour("faint"),
                 major_tick_line_color: colour("line"), axis_label_text_font_style: "normal"});
    }
    for (const grid of this.model.center) {
      if ("grid_line_color" in grid) grid.setv({grid_line_color: colour("line")});
    }
  }
  key(event) {
    const moves = {ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15]};
    if (event.target !== this.host) return;
    if (event.key in moves) this.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(0.7);
    else if (event.key === "-") this.zoom(1.4);
    else if (event.key === "0") this.fit();
    else if (event.key === "Escape") { clearDetail(); this.host.blur(); }
    else if (event.key === "Enter") {
      const steps = this.steps();
      if (!steps.length) return;
      this.chosen = (this.chosen + (event.shiftKey ? steps.length - 1 : 1)) % steps.length;
      steps[this.chosen]();
    } else return;
    event.preventDefault();
  }
}

async function embed() {
  for (const [name, item] of Object.entries(FIGURES)) {
    const views = await Bokeh.embed.embed_item({...item, target_id: `plot-${name}`});
    const model = (views.roots ?? [...views])[0].model;
    plots[name] = new Plot(name, model);
    const {host} = plots[name];
    host.addEventListener("keydown", (event) => plots[name].key(event));
    /* The wheel scrolls the page until the plot is in use; then it zooms. */
    const wheel = model.toolbar.tools.find((tool) => tool.type === "WheelZoomTool");
    const use = (on) => { model.toolbar.active_scroll = on ? wheel : null; wheel.active = on; };
    host.addEventListener("pointerdown", () => use(true));
    host.addEventListener("focusin", () => use(true));
    host.addEventListener("focusout", () => use(false));
    host.addEventListener("pointerleave", () => { if (!host.contains(document.activeElement)) use(false); });
    for (const button of host.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        const way = button.dataset.zoom;
        if (way === "fit") plots[name].fit(); else plots[name].zoom(way === "in" ? 0.6 : 1 / 0.6);
      });
    }
  }
}

/* The system. */

let heatOf = "stage";
const busiestUse = (chips, i) => Math.max(chips.matrix[i], chips.vector[i], chips.switch[i], chips.memory[i]);

function drawSystem() {
  const plot = plots.system, {chips, racks, nodes, links, flows, radius} = DATA.system;
  const place = new Map(chips.chip.map((chip, i) => [chip, i]));
  const share = (i) => (heatOf === "sram" ? chips.sram[i] : busiestUse(chips, i));
  const strongest = Math.max(1e-9, ...chips.chip.map((_, i) => share(i)));
  const byStage = heatOf === "stage" || heatOf === "links";
  const fill = chips.chip.map((_, i) => {
    if (byStage || chips.stage[i] < 0) return stageColour(chips.stage[i]);
    return heat(share(i) / strongest);
  });
  const boxes = (of, word) => ({
    x: of.x.map((x, i) => x + of.width[i] / 2), y: of.y.map((y, i) => y + of.height[i] / 2),
    width: of.width, height: of.height, label: of.number.map((n) => `${word} ${n}`),
  });
  plot.fill("racks-boxes", boxes(racks, "rack"));
  plot.fill("nodes-boxes", boxes(nodes, "node"));
  plot.renderer("racks-boxes").glyph.setv({line_color: colour("line")});
  plot.renderer("nodes-boxes").glyph.setv({line_color: colour("faint"), fill_color: colour("faint")});
  plot.fill("chips-circles", {
    x: chips.x, y: chips.y, chip: chips.chip, fill, text: fill.map(inkOn),
    line: chips.chip.map((_, i) => (chips.stage[i] < 0 ? colour("line") : mixed(fill[i], colour("text"), 0.35))),
    stage: chips.stage.map((s) => (s < 0 ? "idle" : s)),
    label: chips.stage.map((s, i) => (s < 0 ? "" : byStage ? `${s}` : `${(100 * share(i)).toFixed(share(i) < 0.0995 ? 1 : 0)}`)),
    place: chips.chip.map((_, i) => `node ${chips.node[i]}, rack ${chips.rack[i]}`),
    matrix: chips.matrix.map(percent), vector: chips.vector.map(percent), sram: chips.sram.map(percent),
    links: linkUse(place).map(percent),
  });
  plot.renderer("chips-circles").glyph.radius = {value: radius};
  drawLinks(plot, place, chips, links);
  drawFlows(plot, flows);
  if (nodes.x.length === 1) plot.model.height = 340;
  const outer = racks.x.length ? racks : nodes;
  const widest = [...outer.x.keys()].map((i) => [outer.x[i], outer.x[i] + outer.width[i], outer.y[i], outer.y[i] + outer.height[i]]);
  const side = 0.8;
  plot.bounds = [Math.min(...widest.map((b) => b[0])) - side, Math.max(...widest.map((b) => b[1])) + side,
                 Math.min(...widest.map((b) => b[2])) - side, Math.max(...widest.map((b) => b[3])) + side];
}

function linkUse(place) {
  const most = new Array(DATA.system.chips.chip.length).fill(0);
  const {source, destination, use} = DATA.system.links;
  use.forEach((share, i) => {
    for (const chip of [source[i], destination[i]]) most[place.get(chip)] = Math.max(most[place.get(chip)], share);
  });
  return most;
}

function drawLinks(plot, place, chips, links) {
  const strong = heatOf === "links", calm = links.use.length > 200 ? 0.2 : 0.4, end = (of, axis) => of.map((chip) => chips[axis][place.get(chip)]);
  const most = Math.max(1e-9, ...links.use);
  plot.fill("links-lines", {
    x0: end(links.source, "x"), y0: end(links.source, "y"), x1: end(links.destination, "x"), y1: end(links.destination, "y"),
    width: links.use.map((use) => (strong ? 1 + 5 * use / most : 1)),
    color: links.use.map((use) => (strong ? heat(0.15 + 0.85 * use / most) : colour("faint"))),
    alpha: links.use.map((use) => (strong ? 0.35 + 0.65 * use / most : calm)),
    ends: links.source.map((chip, i) => `link ${chip} → ${links.destination[i]}`),
    busy: links.busy.map((cycles) => `${grouped(cycles)} cycles`), use: links.use.map(percent), transfers: links.transfers.map(grouped),
  });
}

/* From stage to next stage strong, what skips stages (masks, tables) faint. */
function drawFlows(plot, flows) {
  const shown = heatOf === "stage" ? flows.source.map((_, i) => i) : [];
  const most = Math.max(1, ...flows.nbytes), isNext = (i) => Math.abs(flows.destination[i] - flows.source[i]) === 1;
  const take = (column, word = (value) => value) => shown.map((i) => word(flows[column][i]));
  const on = (i, axis, share) => flows[`${axis}0`][i] + share * (flows[`${axis}1`][i] - flows[`${axis}0`][i]);
  plot.fill("flows-lines", {
    x0: shown.map((i) => on(i, "x", 0.06)), y0: shown.map((i) => on(i, "y", 0.06)),
    x1: shown.map((i) => on(i, "x", 0.9)), y1: shown.map((i) => on(i, "y", 0.9)),
    width: shown.map((i) => (isNext(i) ? 1.5 + 2 * flows.nbytes[i] / most : 1)), alpha: shown.map((i) => (isNext(i) ? 0.85 : 0.16)),
    ends: shown.map((i) => `stage ${flows.source[i]} → ${flows.destination[i]}`),
    bytes: take("nbytes", bytes), cycles: take("cycles", (c) => `${grouped(c)} on the busiest of its links`),
    when: shown.map((i) => `cycles ${grouped(flows.start[i])} to ${grouped(flows.end[i])}`),
  });
  const heads = shown.filter(isNext);
  plot.fill("arrows", {
    x: heads.map((i) => on(i, "x", 0.88)), y: heads.map((i) => on(i, "y", 0.88)),
    angle: heads.map((i) => Math.atan2(flows.y1[i] - flows.y0[i], flows.x1[i] - flows.x0[i]) - Math.PI / 2),
  });
  plot.renderer("flows-lines").glyph.setv({line_color: colour("text")});
  plot.renderer("arrows").glyph.setv({fill_color: colour("text"), line_color: colour("page")});
}

function labelChips() {
  const plot = plots.system, size = plot.pixelsPerUnit * DATA.system.radius * 1.05;
  const text = plot.renderer("chips-labels");
  text.visible = size >= 6.5;
  text.glyph.setv({text_font_size: `${Math.min(22, size).toFixed(1)}px`, text_font_style: "bold"});
}

function setHeat(which) {
  heatOf = which;
  for (const button of document.querySelectorAll("[data-heat]")) button.setAttribute("aria-pressed", button.dataset.heat === which);
  document.getElementById("system-note").textContent = {
    stage: "Numbers are stages; arrows are what stages send each other. Small chips without a number are idle.",
    busiest: "Numbers are per cent of the interval that the chip's busiest unit is held; the strongest colour is the largest.",
    links: "The wider and darker a link, the longer it carries flits in an interval.",
    sram: "Numbers are per cent of the usable SRAM that buffers cover; the strongest colour is the largest.",
  }[which];
  drawSystem();
}

/* The operators. */

const words = (operator) => {
  const {name, does} = operator;
  return `${LETTERS[operator.unit]} ${does && does.length <= 12 ? does : does.split(" ")[0] || name}`;
};
const timesOf = DATA.operators.map(() => 0);
DATA.instances.operator.forEach((number) => { timesOf[number] += 1; });
let picked = -1;

function drawOperators() {
  const plot = plots.operators, all = DATA.operators, onPath = all.map((o) => o.path > 0);
  const most = Math.max(1, ...all.map((o) => o.cycles));
  const unit = Object.fromEntries(Object.keys(LETTERS).map((name) => [name, colour(name)]));
  const fill = all.map((o) => mixed(colour("page"), unit[o.unit], 0.22));
  plot.fill("operators-boxes", {
    x: all.map((o) => o.x), y: all.map((o) => o.y), fill, text: all.map(() => colour("text")),
    line: all.map((o, i) => (i === picked ? colour("text") : onPath[i] ? colour("path") : unit[o.unit])),
    label: all.map(words), name: all.map((o) => o.name), unit: all.map((o) => o.unit),
    times: all.map((_, i) => `${timesOf[i] ?? 1}×`), cycles: all.map((o) => `${grouped(o.cycles)} on the busiest instance`),
    path: all.map((o) => (o.path ? `${grouped(o.path)} cycles of all` : "not on it")),
  });
  plot.fill("cycles-bars", {
    x: all.map((o) => o.x - 1.55 + 1.55 * o.cycles / most), y: all.map((o) => o.y - 0.38),
    width: all.map((o) => 3.1 * o.cycles / most), height: all.map(() => 0.2), fill: all.map((o) => unit[o.unit]),
  });
  const frames = DATA.frames;
  plot.fill("frames-boxes", {
    left: frames.map((f) => f.left), right: frames.map((f) => f.right), bottom: frames.map((f) => f.bottom), top: frames.map((f) => f.top),
    line: frames.map((f) => (f.segment < 0 ? stageColour(DATA.runs[f.run][0]) : colour("line"))),
  });
  plot.renderer("frames-boxes").glyph.setv({fill_color: colour("faint")});
  plot.fill("titles-labels", {
    x: frames.map((f) => f.left + 0.5), y: frames.map((f) => f.top - 0.4), label: frames.map((f) => f.title),
  });
  plot.renderer("titles-labels").glyph.setv({text_color: colour("text"), text_font_style: "bold"});
  drawWires(plot, all);
  const side = 1;
  plot.bounds = [Math.min(...frames.map((f) => f.left)) - side, Math.max(...frames.map((f) => f.right)) + side,
                 Math.min(...frames.map((f) => f.bottom)) - side, Math.max(...frames.map((f) => f.top)) + side];
  plot.steps = () => all.map((_, i) => () => pick(i, true));
}

function drawWires(plot, all) {
  const wires = DATA.links;
  plot.fill("wires-lines", {
    x0: wires.map(([a]) => all[a].x + 1.65), y0: wires.map(([a]) => all[a].y),
    x1: wires.map(([, b]) => all[b].x - 1.65), y1: wires.map(([, b]) => all[b].y),
    dash: wires.map(([,,, sent]) => (sent ? "dashed" : "solid")),
    /* What goes back to another line, or to another box, is there but faint. */
    color: wires.map(([a, b,, sent]) => (all[a].segment !== all[b].segment || all[b].x < all[a].x ? colour("line") : colour(sent ? "link" : "faint"))),
    ends: wires.map(([,, tensor, sent]) => (sent ? `${tensor}, sent between chips` : tensor)),
    bytes: wires.map(([,,, sent, nbytes]) => (sent ? `${bytes(nbytes)} in all` : "in place")),
    cycles: wires.map(([,,, sent,, cycles]) => (sent ? grouped(cycles) : "-")),
  });
}

function labelOperators() {
  const plot = plots.operators, size = plot.pixelsPerUnit;
  plot.renderer("operators-labels").visible = size >= 11;
  plot.renderer("operators-labels").glyph.setv({text_font_size: `${Math.min(15, size * 0.52).toFixed(1)}px`});
  plot.renderer("titles-labels").visible = size >= 4;
  plot.renderer("titles-labels").glyph.setv({text_font_size: `${Math.min(15, Math.max(9, size * 0.75)).toFixed(1)}px`});
  plot.renderer("wires-lines").visible = size >= 3 || DATA.links.length <= MOST_WIRES_IN_VIEW;
  plot.renderer("cycles-bars").visible = size >= 2;
}

/* The timeline. */

let span = "once";

function rowsAxis(plot, names, count) {
  const axis = plot.model.left[0];
  axis.ticker.ticks = [...names.keys()];
  axis.major_label_overrides = names;
  plot.model.height = Math.max(220, Math.min(620, 60 + 17 * count));
  axis.major_label_text_font_size = "11px";
}

function drawTimeline() {
  const select = document.getElementById("timeline-stage");
  const plot = plots.timeline, length = span === "once" ? DATA.latency : DATA.interval;
  const hidden = {left: [], right: [], bottom: [], top: [], fill: [], line: [], name: [], cycles: [], busy: [], batch: []};
  if (select.value === "all") {
    plot.fill("bars-boxes", hidden);
    drawUse(plot, length);
  } else {
    plot.fill("use-image", {image: [], x: [], y: [], dw: [], dh: []});
    drawBars(plot, DATA.bars[Number(select.value)], length);
  }
  const rows = plot.bounds[3] - plot.bounds[2];
  plot.renderer("path-lines").glyph.setv({line_color: colour("path"), line_width: Math.min(3, plot.model.height / rows / 4)});
  plot.fit();
}

function drawUse(plot, length) {
  const {rows, bins} = DATA.overview, count = rows.length;
  const names = new Map();
  const few = count <= 36;
  const cells = new Uint8Array(count * bins);
  rows.forEach((row, at) => {
    cells.set(row[span], (count - 1 - at) * bins);
    const first = at === 0 || rows[at - 1].stage !== row.stage;
    if (few) names.set(count - 1 - at, `stage ${row.stage} ${row.resource}`);
    else if (first) names.set(count - 1 - at, `stage ${row.stage}`);
  });
  plot.fill("use-image", {image: [ndarray(cells, count, bins)], x: [0], y: [-0.5], dw: [length], dh: [count]});
  plot.renderer("use-image").glyph.color_mapper.palette = ramp(100);
  const lines = {x0: [], y0: [], x1: [], y1: []};
  if (span === "once") {
    rows.forEach((row, at) => {
      for (let i = 0; i < row.path.length; i += 2) {
        lines.x0.push(row.path[i] * length / bins); lines.x1.push(row.path[i + 1] * length / bins);
        lines.y0.push(count - 1.42 - at); lines.y1.push(count - 1.42 - at);
      }
    });
  }
  plot.fill("path-lines", lines);
  rowsAxis(plot, names, count);
  plot.bounds = [0, length, -0.8, count - 0.3];
  plot.steps = () => [];
  const colours = "The stronger the colour, the larger the part of a stage's units or links in use.";
  note("timeline-note", span === "once"
    ? `${colours} Orange lines: the critical path. Rows of a stage: ${[...new Set(rows.map((r) => r.resource))].join(", ")}.`
    : `${colours} All micro-batches in flight, folded onto one interval of ${grouped(length)} cycles.`);
}

/* Rows of numbers as the image plot wants them: typed, with a shape. */
function ndarray(cells, rows, columns) {
  return Object.assign(cells, {shape: [rows, columns], dtype: "uint8", dimension: 2});
}

function drawBars(plot, bars, length) {
  const count = bars.rows.length, columns = {left: [], right: [], bottom: [], top: [], fill: [], line: [], name: [], cycles: [], busy: [], batch: []};
  const origin = [];
  const push = (i, left, right, batch) => {
    const row = count - 1 - bars.row[i], operator = bars.operator[i];
    columns.left.push(left); columns.right.push(right); columns.bottom.push(row - 0.38); columns.top.push(row + 0.38);
    columns.fill.push(STAGE_COLOURS[(span === "once" ? Math.max(0, bars.repeat[i]) : batch) % STAGE_COLOURS.length]);
    columns.line.push(bars.path[i] && span === "once" ? colour("text") : "rgba(0,0,0,0)");
    columns.name.push(operator < 0 ? "transfers" : DATA.operators[operator].name);
    columns.cycles.push(`${grouped(bars.start[i])} to ${grouped(bars.end[i])}`);
    columns.busy.push(`${grouped(bars.busy[i])} cycles`);
    columns.batch.push(span === "once" ? `repeat ${bars.repeat[i] + 1}` : `${batch} before the newest`);
    origin.push(operator);
  };
  bars.row.forEach((_, i) => {
    if (span === "once") { push(i, bars.start[i], bars.end[i], 0); return; }
    for (let from = bars.start[i]; from < bars.end[i];) {
      const batch = Math.floor(from / length), until = Math.min(bars.end[i], (batch + 1) * length);
      push(i, from - batch * length, until - batch * length, batch);
      from = until;
    }
  });
  plot.fill("bars-boxes", columns);
  plot.fill("path-lines", {x0: [], y0: [], x1: [], y1: []});
  plot.origin = origin;
  rowsAxis(plot, new Map(bars.rows.map((name, at) => [count - 1 - at, name])), count);
  const low = Math.min(0, ...columns.left), first = span === "once" ? Math.min(...columns.left) : 0;
  plot.bounds = [Math.min(first, low === 0 ? first : low), span === "once" ? Math.max(...columns.right) : length, -0.7, count - 0.3];
  plot.steps = () => [...new Set(origin.filter((o) => o >= 0))].map((o) => () => pick(o, false));
  note("timeline-note", span === "once"
    ? `Stage ${bars.stage}, micro-batch 0. Colours: repeats of a layer. Outlined: on the critical path. Links: the busiest that it sends over.`
    : `Stage ${bars.stage} in steady state, folded onto one interval of ${grouped(length)} cycles. Colours: micro-batches in flight.`);
}

function setSpan(which) {
  span = which;
  for (const button of document.querySelectorAll("[data-time]")) button.setAttribute("aria-pressed", button.dataset.time === which);
  drawTimeline();
}

/* Memory. */

const HATCHES = {weight: " ", state: "right_diagonal_line", input: "cross", value: " "};

function drawMemory() {
  const plot = plots.memory, of = DATA.memory[Number(document.getElementById("memory-stage").value)];
  plot.fill("buffers-boxes", {
    left: of.birth, right: of.death.map((death, i) => Math.max(death, of.birth[i] + 1)), bottom: of.address, top: of.top,
    fill: of.role.map(colour), hatch: of.role.map((role) => HATCHES[role]), name: of.tensor, role: of.role.map((role, i) => `${role}, ${of.shape[i]}`),
    address: of.address.map((a, i) => `${grouped(a)} to ${grouped(of.top[i])}`), bytes: of.nbytes.map(bytes), copies: of.copies,
    alive: of.birth.map((birth, i) => (of.for_ever[i] ? "for ever" : `cycles ${grouped(birth)} to ${grouped(of.death[i])}`)),
  });
  plot.renderer("buffers-boxes").glyph.setv({line_color: colour("page"), hatch_color: colour("page")});
  const step = 2 ** Math.floor(Math.log2(of.usable / 4)), axis = plot.model.left[0];
  const ticks = Array.from({length: Math.floor(of.usable / step) + 1}, (_, i) => i * step);
  axis.ticker.ticks = ticks;
  axis.major_label_overrides = new Map(ticks.map((tick) => [tick, bytes(tick).replace(".0", "")]));
  plot.bounds = [0, Math.max(DATA.latency, ...of.death), 0, of.usable];
  plot.fit();
  const out = of.left_out ? ` ${grouped(of.left_out)} smaller buffers are left out.` : "";
  note("memory-note", `Chip ${of.chip} of stage ${of.stage}; all chips of its group hold the same. Height: ${bytes(of.usable)} usable.${out}`);
}

/* The frontier. */

function drawFrontier() {
  if (!plots.frontier) return;
  const points = DATA.frontier, plot = plots.frontier;
  plot.model.left[0].axis_label = "latency, us";
  plot.fill("points", {
    x: points.map((p) => p.chips), y: points.map((p) => p.latency_us),
    fill: points.map((p) => colour(p.chosen ? "path" : "accent")), marker: points.map((p) => (p.chosen ? "diamond" : p.nondominated ? "circle" : "x")),
    label: points.map((p) => p.label), chips: points.map((p) => grouped(p.chips)),
    latency: points.map((p) => `${p.latency_us.toFixed(1)} us`), interval: points.map((p) => `${grouped(p.interval_cycles)} cycles`),
  });
  plot.renderer("points").glyph.setv({line_color: colour("text")});
  const most = Math.max(...points.map((p) => p.chips)), high = Math.max(...points.map((p) => p.latency_us));
  plot.bounds = [0, most * 1.08, 0, high * 1.12];
  plot.fit();
  note("frontier-note", "Diamond: this plan. Circles: no other is as good in chips, latency and interval alike. Crosses: another is.");
}

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
  plots.operators.onTap("operators-boxes", (i) => pick(i, false));
  plots.timeline.onTap("bars-boxes", (i) => { const operator = plots.timeline.origin[i]; if (operator >= 0) pick(operator, true); });
  plots.system.onMove(labelChips);
  plots.operators.onMove(labelOperators);
  plots.system.steps = () => DATA.runs.flat().map((stage) => () => pickStage(stage));
  dark.addEventListener("change", theme);
  addEventListener("beforeprint", () => { printing = true; theme(); });
  addEventListener("afterprint", () => { printing = false; theme(); });
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
})();
