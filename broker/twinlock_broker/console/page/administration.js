// The pages that only administrators have: people, and how starts went.

import { make } from "./dom.js";
import { duration, number, size } from "./format.js";
import { available, ofStarts } from "./plots.js";
import { Table } from "./table.js";

const ofNumber = (title, name, text = number) => ({
  title,
  kind: "number",
  text: (row) => text(row[name]),
  value: (row) => row[name],
});

const SUMMED = ["running", "queued", "done", "rate", "memory"];
const OF_USER = [
  { title: "User", text: (row) => row.user },
  ofNumber("Endpoints", "endpoints"),
  ofNumber("Running", "running"),
  ofNumber("Waiting", "queued"),
  ofNumber("Done", "done"),
  ofNumber("Tasks/s", "rate", (value) => number(value, 1)),
  ofNumber("Memory", "memory", size),
];
const OF_OUTCOME = [{ title: "Outcome", text: (row) => row.name }, ofNumber("Number", "count")];
const OF_STAGE = [
  { title: "Stage", text: (row) => row.stage },
  ofNumber("Number", "count"),
  ofNumber("Median", "median", duration),
  ofNumber("95 %", "p95", duration),
];

function byUser(rows) {
  const users = new Map();
  for (const row of rows) {
    const user = users.get(row.user) ?? { user: row.user, endpoints: 0 };
    user.endpoints += 1;
    for (const name of SUMMED) if (row[name] != null) user[name] = (user[name] ?? 0) + row[name];
    users.set(row.user, user);
  }
  return [...users.values()];
}

const counted = (counts) => Object.entries(counts).map(([name, count]) => ({ name, count }));

export class UsersPage {
  title = "Users";

  constructor() {
    const caption = "Accounts with user endpoints, and their sums";
    this.table = new Table(OF_USER, (row) => row.user, { caption, empty: "No user endpoints.", filtered: true });
    this.element = make("div", {}, make("h2", {}, "Users"), this.table.element);
  }

  show({ state }) {
    this.table.show(byUser(state.endpoints));
  }
}

export class StartsPage {
  title = "Starts";

  constructor() {
    const empty = "No starts since the broker was started.";
    this.figures = available() ? ofStarts() : [];
    this.commands = new Table(OF_OUTCOME, (row) => row.name, { caption: "Start commands by outcome", empty });
    this.outcomes = new Table(OF_OUTCOME, (row) => row.name, { caption: "Starts by outcome, or the stage that failed", empty });
    this.stages = new Table(OF_STAGE, (row) => row.stage, { caption: "Time of starts and their stages", empty });
    this.element = make(
      "div",
      {},
      make("h2", {}, "Starts since the broker was started"),
      make("div", { class: "plots" }, ...this.figures.map((figure) => figure.element)),
      this.outcomes.element,
      this.stages.element,
      this.commands.element,
    );
  }

  show({ state, series }) {
    if (state.starts) {
      this.outcomes.show(counted(state.starts.outcomes));
      this.commands.show(counted(state.starts.commands));
      this.stages.show(state.starts.stages);
    }
    if (series) this.figures.forEach((figure) => figure.show(series));
  }
}
