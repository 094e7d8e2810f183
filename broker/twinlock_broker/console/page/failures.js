// Failures, each with all that led to it.

import { facts, make } from "./dom.js";
import { moment } from "./format.js";

export function failureCard(failure) {
  const identity = [failure.identity, failure.mapped].filter(Boolean).join(" mapped as ");
  const came = failure.commanded == null ? "" : `, came at ${moment(failure.commanded)}`;
  const printed = failure.reason.includes(failure.printed) ? "" : failure.printed;
  return make(
    "article",
    { class: "failure" },
    make("h3", {}, `${moment(failure.at)}: failed at ${failure.stage}`),
    facts([
      ["Endpoint", failure.endpoint],
      ["Error id", failure.command + came],
      ["Identity", identity],
      ["Account", failure.user],
      ["Options", failure.options],
      ["Reason", failure.reason],
      ["Detail", failure.detail],
      ["Printed", printed],
    ]),
  );
}

export class FailuresPage {
  title = "Failures";

  constructor() {
    this.element = make("div");
  }

  show({ failures }) {
    if (this.shown === failures) return;
    this.shown = failures;
    const none = make("p", { class: "empty" }, "Nothing has failed since the broker was started.");
    this.element.replaceChildren(make("h2", {}, "Failures"), ...(failures.length ? failures.map(failureCard) : [none]));
  }
}
