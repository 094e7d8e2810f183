// Plots, if the library was installed at build time; without it, the page has its tables.

import { make } from "./dom.js";
import { clocks, duration, number, size } from "./format.js";

const HEIGHT = 150;
const COLOURS = ["--plot-1", "--plot-2", "--good", "--bad", "--warn", "--quiet"];
const UNITS = { number: (value) => number(value, 2), bytes: size, seconds: duration };

let Plot = null;

export async function load() {
  document.head.append(make("link", { rel: "stylesheet", href: "uPlot.min.css" }));
  Plot = (await import("./uPlot.esm.js")).default;
}

export const available = () => Plot !== null;

// A figure with lines over time. `pick` returns from the series what is drawn: pairs of a name and numbers.
export class Figure {
  constructor(title, unit, pick) {
    this.title = title;
    this.unit = UNITS[unit];
    this.pick = pick;
    this.area = make("div");
    this.element = make("figure", { class: "plot", "aria-label": title }, make("figcaption", {}, title), this.area);
    this.names = "";
    new ResizeObserver(() => this.resize()).observe(this.area);
  }

  show(series) {
    const lines = this.pick(series);
    const first = Math.min(...lines.map(([, values]) => values.findIndex((value) => value != null)).filter((at) => at >= 0));
    // What was before the console was started takes no room; two points are the least that has a width.
    const from = Math.min(first, series.time.length - 2);
    this.lines = lines.map(([name, values]) => [name, values.slice(from)]);
    this.time = series.time.slice(from);
    const names = this.lines.map(([name]) => name).join("\n");
    if (!this.plot || names !== this.names) this.redraw();
    else this.plot.setData(this.data());
    this.names = names;
  }

  data() {
    return [this.time, ...this.lines.map(([, values]) => values)];
  }

  redraw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.lines || !this.area.clientWidth) return;
    this.plot = new Plot(this.options(), this.data(), this.area);
  }

  resize() {
    if (!this.plot) this.redraw();
    else if (this.plot.width !== this.area.clientWidth) {
      this.plot.setSize({ width: this.area.clientWidth, height: HEIGHT });
    }
  }

  options() {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const series = this.lines.map(([name], place) => ({
      label: name,
      stroke: colour(COLOURS[place % COLOURS.length]),
      width: 1.5,
      value: (plot, value) => this.unit(value),
    }));
    const values = (plot, ticks) => ticks.map((tick) => this.unit(tick));
    const times = (plot, ticks, axis, room, step) => clocks(ticks, step);
    return {
      width: this.area.clientWidth,
      height: HEIGHT,
      cursor: { drag: { x: false } },
      scales: { y: { range: (plot, least, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [{ ...axis, size: 26, values: times }, { ...axis, size: 62, values }],
      series: [{ value: "{HH}:{mm}:{ss}" }, ...series],
      legend: { show: this.lines.length > 1 },
    };
  }
}

export const ofEndpoints = () => [
  new Figure("Tasks per second", "number", (series) => [["tasks/s", series.rate]]),
  new Figure("Tasks running and waiting", "number", (series) => [["running", series.running], ["waiting", series.queued]]),
  new Figure("Running endpoints", "number", (series) => [["endpoints", series.endpoints]]),
  new Figure("Memory", "bytes", (series) => [["memory", series.memory]]),
];

export const ofStarts = () => [
  new Figure("Starts by outcome", "number", (series) => Object.entries(series.outcomes)),
  new Figure("Time of starts", "seconds", (series) => [["median", series.median], ["95 %", series.p95]]),
];
