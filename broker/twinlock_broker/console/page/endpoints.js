// The pages about endpoints: all of them, and one with what led to where it is.

import { facts, make, setText } from "./dom.js";
import { failureCard } from "./failures.js";
import { duration, moment, number, size } from "./format.js";
import { available, ofEndpoints } from "./plots.js";
import { Table } from "./table.js";

const short = (id) => id.slice(0, 8);
const ofNumber = (title, name, text = number) => ({
  title,
  kind: "number",
  text: (row) => text(row[name]),
  value: (row) => row[name],
});

const ENDPOINT = { title: "Endpoint", text: (row) => short(row.id), css: () => "uuid short", link: (row) => `#/endpoint/${row.id}` };
const USER = { title: "User", text: (row) => row.user, css: () => "short" };
const STATE = {
  title: "State",
  text: (row) => row.state + (row.restart_waits ? ", restart" : ""),
  css: (row) => `short state-${row.state}`,
};
const COLUMNS = [
  USER,
  ENDPOINT,
  STATE,
  ofNumber("Age", "age", duration),
  ofNumber("Running", "running"),
  ofNumber("Waiting", "queued"),
  ofNumber("Done", "done"),
  ofNumber("Tasks/s", "rate", (value) => number(value, 1)),
  ofNumber("Workers", "workers"),
  ofNumber("Memory", "memory", size),
  ofNumber("CPU %", "cpu"),
  { title: "Batch jobs", text: (row) => row.batch_jobs.join(" ") },
  { title: "Condition", text: (row) => row.condition },
  { title: "Options", text: (row) => row.options },
];
const ENDED = [USER, ENDPOINT, ofNumber("Ended", "at", moment), ofNumber("Done", "done")];

function tiles(names) {
  const values = new Map(names.map((name) => [name, make("dd")]));
  const parts = names.map((name) => make("div", {}, make("dt", {}, name), values.get(name)));
  return { element: make("dl", { class: "tiles" }, ...parts), show: (name, text) => setText(values.get(name), text) };
}

const sum = (rows, name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);

function plotsOrNote(figures) {
  if (figures.length) return make("div", { class: "plots" }, ...figures.map((figure) => figure.element));
  return make("p", { class: "empty" }, "Plots aren't installed here; see docs/console.md.");
}

export class EndpointsPage {
  title = "Endpoints";

  constructor() {
    this.tiles = tiles(["Endpoints", "Users", "Tasks running", "Tasks waiting", "Tasks/s", "Memory"]);
    this.figures = available() ? ofEndpoints() : [];
    this.table = new Table(COLUMNS, (row) => row.id, {
      caption: "User endpoints as of now",
      empty: "No user endpoints.",
      filtered: true,
    });
    this.ended = new Table(ENDED, (row) => `${row.id} ${row.at}`, {
      caption: "Since the console was started; the last ones only",
      empty: "None has ended since the console was started.",
      sort: { column: ENDED[2], descending: true },
    });
    this.orders = make("div");
    this.element = make(
      "div",
      {},
      this.orders,
      this.tiles.element,
      plotsOrNote(this.figures),
      make("h2", {}, "Endpoints"),
      this.table.element,
      make("h2", {}, "Ended endpoints"),
      this.ended.element,
    );
  }

  show({ state, series }) {
    const rows = state.endpoints;
    this.tiles.show("Endpoints", number(rows.length));
    this.tiles.show("Users", number(new Set(rows.map((row) => row.user)).size));
    this.tiles.show("Tasks running", number(sum(rows, "running")));
    this.tiles.show("Tasks waiting", number(sum(rows, "queued")));
    this.tiles.show("Tasks/s", number(sum(rows, "rate"), 1));
    this.tiles.show("Memory", size(sum(rows, "memory")));
    this.table.show(rows);
    this.ended.show(state.ended);
    this.showOrders(state.broker);
    if (series) this.figures.forEach((figure) => figure.show(series));
  }

  showOrders(broker) {
    const since = (order) => `since ${moment(order.since)} by ${order.by}: ${order.reason}`;
    const lines = broker.drain ? [`Draining, nothing is started: ${since(broker.drain)}`] : [];
    for (const [user, order] of Object.entries(broker.blocked ?? {})) lines.push(`${user} is blocked ${since(order)}`);
    for (const [link, up] of Object.entries(broker.amqp ?? {})) if (!up) lines.push(`The AMQP connection for ${link} is down`);
    if (broker.spawner_connected === false) lines.push("The spawner is not connected");
    if (lines.join("\n") === this.said) return;
    this.said = lines.join("\n");
    this.orders.replaceChildren(...lines.map((line) => make("p", { class: "notice" }, line)));
  }
}

export class EndpointPage {
  constructor(id) {
    this.id = id;
    this.title = `Endpoint ${short(id)}`;
    this.figures = available() ? ofEndpoints() : [];
    this.row = make("div");
    this.states = make("ol");
    this.failures = make("div");
    this.element = make(
      "div",
      {},
      make("h2", {}, `Endpoint ${id}`),
      this.row,
      plotsOrNote(this.figures),
      make("h2", {}, "States"),
      this.states,
      make("h2", {}, "Failures"),
      this.failures,
    );
    this.refresh();
  }

  // What is remembered comes on request: most endpoints are never looked at.
  async refresh() {
    const answer = await fetch(`api/endpoints/${encodeURIComponent(this.id)}`).catch(() => null);
    if (answer?.ok) this.showPast(await answer.json());
    else if (answer?.status === 404) this.states.replaceChildren(make("li", {}, "no such endpoint of yours is known"));
  }

  showPast({ series, states }) {
    this.figures.forEach((figure) => figure.show(series));
    this.states.replaceChildren(...states.map(([at, state]) => make("li", {}, `${moment(at)}  ${state || "known"}`)));
  }

  show({ state, failures, news }) {
    const row = state.endpoints.find((each) => each.id === this.id);
    this.showRow(row);
    if (news === "series") this.refresh();
    const own = failures.filter((failure) => failure.endpoint === this.id);
    if (this.shown === JSON.stringify(own)) return;
    this.shown = JSON.stringify(own);
    const none = make("p", { class: "empty" }, "Nothing has failed since the broker was started.");
    this.failures.replaceChildren(...(own.length ? own.map(failureCard) : [none]));
  }

  showRow(row) {
    if (!row) {
      this.row.replaceChildren(make("p", { class: "empty" }, "It isn't there now."));
      return;
    }
    const shown = COLUMNS.map((column) => [column.title, column === ENDPOINT ? row.id : column.text(row)]);
    const signed = row.signed ? `${row.signed.key}, delegation ${row.signed.delegation}` : "";
    const pairs = [...shown, ["Mode", row.mode], ["Signed by", signed], ["Process", row.pid], ["Blocks", row.blocks]];
    this.row.replaceChildren(facts([...pairs, ["Ends if idle in", row.idle_left == null ? "" : duration(row.idle_left)]]));
  }
}
