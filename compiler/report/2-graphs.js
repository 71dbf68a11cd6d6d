/* The system and the operators. One of the parts of the report's script, which are joined in order into one async function.
   Names come from models: they are shown through textContent and plot columns, never parsed as HTML. */

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
    x1: shown.map((i) => on(i, "x", 0.86)), y1: shown.map((i) => on(i, "y", 0.86)),
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
  const plot = plots.operators, frames = DATA.frames;
  plot.fill("frames-boxes", {
    left: frames.map((f) => f.left), right: frames.map((f) => f.right), bottom: frames.map((f) => f.bottom), top: frames.map((f) => f.top),
    line: frames.map((f) => (f.segment < 0 ? stageColour(DATA.runs[f.run][0]) : colour("line"))),
  });
  plot.renderer("frames-boxes").glyph.setv({fill_color: colour("faint")});
  plot.fill("titles-labels", {
    x: frames.map((f) => f.left + 0.5), y: frames.map((f) => f.top - 0.4), label: frames.map((f) => f.title),
  });
  plot.renderer("titles-labels").glyph.setv({text_color: colour("text"), text_font_style: "bold"});
  const side = 1;
  plot.bounds = [Math.min(...frames.map((f) => f.left)) - side, Math.max(...frames.map((f) => f.right)) + side,
                 Math.min(...frames.map((f) => f.bottom)) - side, Math.max(...frames.map((f) => f.top)) + side];
  plot.steps = () => DATA.operators.map((_, i) => () => pick(i, true));
  plot.seen = null;
  viewOperators();
}

/* The plot has what is in view and half a screen around it: boxes, or, of very many, the lines that they stand in.
   So a graph of any size moves alike. */
function viewOperators() {
  const plot = plots.operators, {x_range: x, y_range: y} = plot.model, seen = plot.seen;
  const [width, height] = [x.end - x.start, y.end - y.start];
  if (seen && x.start >= seen.left && x.end <= seen.right && y.start >= seen.bottom && y.end <= seen.top
      && (seen.whole || width > seen.width / 2)) return;
  const around = {left: x.start - width / 2, right: x.end + width / 2, bottom: y.start - height / 2, top: y.end + height / 2, width};
  const inside = (o) => o.x > around.left - 2 && o.x < around.right + 2 && o.y > around.bottom - 1 && o.y < around.top + 1;
  const numbers = DATA.operators.flatMap((o, i) => (inside(o) ? [i] : []));
  plot.seen = {...around, whole: numbers.length <= MOST_BOXES};
  plot.shown = numbers.length <= MOST_BOXES ? numbers : [];
  if (plot.seen.whole) drawBoxes(plot, numbers); else drawRows(plot, numbers);
  drawWires(plot, new Set(plot.shown));
}

function drawBoxes(plot, numbers) {
  const all = numbers.map((i) => DATA.operators[i]);
  const most = DATA.operators.reduce((largest, o) => Math.max(largest, o.cycles), 1);
  const unit = Object.fromEntries(Object.keys(LETTERS).map((name) => [name, colour(name)]));
  const [page, text, path] = ["page", "text", "path"].map(colour);
  const pale = Object.fromEntries(Object.keys(unit).map((name) => [name, mixed(page, unit[name], 0.22)]));
  plot.fill("operators-boxes", {
    x: all.map((o) => o.x), y: all.map((o) => o.y), width: all.map(() => 3.3),
    fill: all.map((o) => pale[o.unit]), text: all.map(() => text),
    line: all.map((o, at) => (numbers[at] === picked ? text : o.path > 0 ? path : unit[o.unit])),
    label: all.map(words), name: all.map((o) => o.name), unit: all.map((o) => o.unit),
    times: numbers.map((i) => `${timesOf[i] ?? 1}×`), cycles: all.map((o) => `${grouped(o.cycles)} on the busiest instance`),
    path: all.map((o) => (o.path ? `${grouped(o.path)} cycles of all` : "not on it")),
  });
  plot.fill("cycles-bars", {
    x: all.map((o) => o.x - 1.55 + 1.55 * o.cycles / most), y: all.map((o) => o.y - 0.38),
    width: all.map((o) => 3.1 * o.cycles / most), height: all.map(() => 0.2), fill: all.map((o) => unit[o.unit]),
  });
}

/* From afar: one box for all operators that stand beside each other. */
function drawRows(plot, numbers) {
  const rows = new Map();
  for (const i of numbers) {
    const o = DATA.operators[i], key = `${o.run} ${o.segment} ${o.y}`, row = rows.get(key);
    if (!row) rows.set(key, {y: o.y, left: o.x, right: o.x, count: 1, cycles: o.cycles, path: o.path});
    else {
      Object.assign(row, {left: Math.min(row.left, o.x), right: Math.max(row.right, o.x), count: row.count + 1});
      row.cycles += o.cycles;
      row.path += o.path;
    }
  }
  const all = [...rows.values()], [track, faint, path] = ["track", "faint", "path"].map(colour);
  plot.fill("operators-boxes", {
    x: all.map((r) => (r.left + r.right) / 2), y: all.map((r) => r.y), width: all.map((r) => r.right - r.left + 3.3),
    fill: all.map(() => track), text: all.map(() => track), line: all.map((r) => (r.path ? path : faint)),
    label: all.map(() => ""), name: all.map((r) => `${grouped(r.count)} operators; zoom in to see each`), unit: all.map(() => ""),
    times: all.map(() => ""), cycles: all.map((r) => `${grouped(r.cycles)} together`), path: all.map((r) => `${grouped(r.path)} cycles`),
  });
  plot.fill("cycles-bars", {x: [], y: [], width: [], height: [], fill: []});
}

function drawWires(plot, shown) {
  const wires = DATA.links.filter(([a, b]) => shown.has(a) || shown.has(b)), all = DATA.operators;
  const [line, link, faint] = ["line", "link", "faint"].map(colour);
  plot.fill("wires-lines", {
    x0: wires.map(([a]) => all[a].x + 1.65), y0: wires.map(([a]) => all[a].y),
    x1: wires.map(([, b]) => all[b].x - 1.65), y1: wires.map(([, b]) => all[b].y),
    dash: wires.map(([,,, sent]) => (sent ? "dashed" : "solid")),
    /* What goes back to another line, or to another box, is there but faint. */
    color: wires.map(([a, b,, sent]) => (all[a].segment !== all[b].segment || all[b].x < all[a].x ? line : sent ? link : faint)),
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
  viewOperators();
  plot.renderer("cycles-bars").visible = size >= 2;
}
