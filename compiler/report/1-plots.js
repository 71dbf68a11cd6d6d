/* Words, colours and plots: what the other parts stand on. One of the parts of the report's script, which are joined in order into one async function.
   Names come from models: they are shown through textContent and plot columns, never parsed as HTML. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const STAGE_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8d6e97"];
const LETTERS = {matrix: "M", vector: "V", switch: "S", memory: "Y"};
const MOST_HITS = 60;
const MOST_BOXES = 1200;
const plots = {};
const dark = matchMedia("(prefers-color-scheme: dark)");

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
  const stops = dark.matches
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
    for (const range of this.name !== "timeline" ? [this.model.x_range, this.model.y_range] : [this.model.x_range]) {
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
    const {model} = (views.roots ?? [...views])[0];
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
