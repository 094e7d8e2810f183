// The page: it asks who looks, follows the events, and shows the part that the address names.

import { StartsPage, UsersPage } from "./administration.js";
import { make, setText } from "./dom.js";
import { EndpointPage, EndpointsPage } from "./endpoints.js";
import { FailuresPage } from "./failures.js";
import { duration, moment } from "./format.js";
import * as plots from "./plots.js";
import { follow } from "./stream.js";

const element = (id) => document.getElementById(id);
const known = { state: null, failures: [], series: null };
let page = null;
let online = false;

const PAGES = { "#/": EndpointsPage, "#/users": UsersPage, "#/starts": StartsPage, "#/failures": FailuresPage };

function open() {
  const address = location.hash || "#/";
  const id = address.match(/^#\/endpoint\/([0-9a-f-]+)$/)?.[1];
  page = id ? new EndpointPage(id) : new (PAGES[address] ?? EndpointsPage)();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === address) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  element("main").replaceChildren(page.element);
  document.title = `Twinlock: ${page.title}`;
  show();
}

function show(news) {
  if (known.state) page.show({ ...known, news });
}

function received(name, data) {
  known[name] = data;
  if (name === "failures") setText(element("failure-count"), data.length ? `(${data.length})` : "");
  if (name === "state") showHead();
  show(name);
}

function connected(is) {
  online = is;
  showConnection();
}

function showHead() {
  const { broker } = known.state;
  setText(element("name"), broker.name ? `Twinlock: ${broker.name}` : "Twinlock");
  const version = broker.version ? `broker ${broker.version}, ` : "";
  const up = broker.started ? `${version}up ${duration(Date.now() / 1000 - broker.started)}` : "";
  setText(element("foot"), [broker.endpoint && `manager endpoint ${broker.endpoint}`, up].filter(Boolean).join("; "));
  showConnection();
}

function showConnection() {
  const broker = known.state?.broker;
  let text = "live";
  if (!online) text = "console away, trying again";
  else if (broker?.trouble) text = `broker away${broker.taken ? ` since ${moment(broker.taken)}` : ""}: ${broker.trouble}`;
  setText(element("connection"), text);
  element("connection").classList.toggle("away", text !== "live");
}

// "/" begins to type a filter, and Escape leaves and clears it.
function pressed(event) {
  const words = document.querySelector("input.words");
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !typing && words) {
    event.preventDefault();
    words.focus();
  } else if (event.key === "Escape" && typing) {
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    event.target.blur();
  }
}

async function begin() {
  // The address names the page, so this link can't be followed as others are.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    element("main").focus();
  });
  const answer = await fetch("api/viewer");
  if (!answer.ok) {
    setText(element("connection"), "not admitted");
    element("connection").classList.add("away");
    element("main").replaceChildren(make("p", { class: "notice", role: "alert" }, await answer.text()));
    return;
  }
  const viewer = await answer.json();
  setText(element("viewer"), viewer.user + (viewer.administrator ? " (administrator)" : ""));
  for (const link of document.querySelectorAll(".of-all")) link.hidden = !viewer.administrator;
  if (viewer.plots) await plots.load().catch(() => null);
  addEventListener("hashchange", () => {
    open();
    element("main").focus();
  });
  addEventListener("keydown", pressed);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.figures?.forEach((each) => each.redraw()));
  open();
  follow(["state", "failures", "series"], received, connected);
}

begin();
