/* The timeline, memory and the frontier. One of the parts of the report's script, which are joined in order into one async function.
   Names come from models: they are shown through textContent and plot columns, never parsed as HTML. */

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
    plot.fill("marks-labels", {x: [], y: [], label: [], text: []});
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
  const origin = [], numbers = [], path = {x0: [], y0: [], x1: [], y1: []};
  const push = (i, left, right, batch) => {
    const row = count - 1 - bars.row[i], operator = bars.operator[i];
    columns.left.push(left); columns.right.push(right); columns.bottom.push(row - 0.38); columns.top.push(row + 0.38);
    columns.fill.push(STAGE_COLOURS[(span === "once" ? Math.max(0, bars.repeat[i]) : batch) % STAGE_COLOURS.length]);
    columns.line.push("rgba(0,0,0,0)");
    if (bars.path[i] && span === "once") {
      path.x0.push(left); path.x1.push(right); path.y0.push(row - 0.44); path.y1.push(row - 0.44);
    }
    columns.name.push(operator < 0 ? "transfers" : DATA.operators[operator].name);
    columns.cycles.push(`${grouped(bars.start[i])} to ${grouped(bars.end[i])}`);
    columns.busy.push(`${grouped(bars.busy[i])} cycles`);
    columns.batch.push(span === "once" ? `repeat ${bars.repeat[i] + 1}` : `${batch} before the newest`);
    origin.push(operator);
    numbers.push(span === "steady" ? batch : operator < 0 ? "" : bars.repeat[i] + 1);
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
  plot.fill("path-lines", path);
  markBars(plot, columns, numbers);
  plot.origin = origin;
  rowsAxis(plot, new Map(bars.rows.map((name, at) => [count - 1 - at, name])), count);
  plot.bounds = [span === "once" ? firstWork(columns.left) : 0, span === "once" ? Math.max(...columns.right) : length, -0.7, count - 0.3];
  plot.steps = () => [...new Set(origin.filter((o) => o >= 0))].map((o) => () => pick(o, false));
  note("timeline-note", span === "once"
    ? `Stage ${bars.stage}, micro-batch 0. Colours and numbers: repeats of a layer. Underlined: on the critical path. Links: the busiest that it sends over.`
    : `Stage ${bars.stage} in steady state, folded onto one interval of ${grouped(length)} cycles. Colours and numbers: micro-batches in flight, by how many intervals before they began.`);
}

/* What the colours of bars mean, as numbers on those that have room. */
function markBars(plot, {left, right, bottom, top, fill}, numbers) {
  const room = 0.012 * (Math.max(...right) - Math.min(...left));
  const shown = [...left.keys()].filter((i) => numbers[i] !== "" && right[i] - left[i] > room);
  plot.fill("marks-labels", {
    x: shown.map((i) => (left[i] + right[i]) / 2), y: shown.map((i) => (bottom[i] + top[i]) / 2),
    label: shown.map((i) => `${numbers[i]}`), text: shown.map((i) => inkOn(fill[i])),
  });
}

/* Where the work of a stage begins: a few bars long before all others (masks, tables) are left to panning. */
function firstWork(lefts) {
  const sorted = [...lefts].sort((a, b) => a - b), whole = sorted.at(-1) - sorted[0];
  let from = 0;
  for (let i = 1; i < sorted.length / 10; i++) if (sorted[i] - sorted[i - 1] > whole / 5) from = i;
  return sorted[from];
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
  const step = 2 ** Math.floor(Math.log2(Math.max(1, ...of.top) / 4)), axis = plot.model.left[0];
  const ticks = Array.from({length: Math.floor(of.usable / step) + 1}, (_, i) => i * step);
  axis.ticker.ticks = ticks;
  axis.major_label_overrides = new Map(ticks.map((tick) => [tick, bytes(tick).replace(".0", "")]));
  plot.bounds = [0, Math.max(DATA.latency, ...of.death), 0, Math.min(of.usable, 1.05 * Math.max(1, ...of.top))];
  plot.fit();
  const out = of.left_out ? ` ${grouped(of.left_out)} smaller buffers are left out.` : "";
  note("memory-note", `Chip ${of.chip} of stage ${of.stage}; all chips of its group hold the same. Of ${bytes(of.usable)} usable, addresses up to ${bytes(Math.max(0, ...of.top))} are taken.${out}`);
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
