// A table that is sorted by the buttons in its head. Rows keep their elements, and with them the focus, as they change.

import { make, setText } from "./dom.js";

let tables = 0;

// A column: {title, text(row), value(row) to sort by, kind ("number" or ""), css(row), link(row)}; all but the first two
// may be missing.
export class Table {
  constructor(columns, key, { caption, sort, empty, filtered = false }) {
    this.columns = columns;
    this.key = key;
    this.sort = sort ?? { column: columns[0], descending: false };
    this.rows = [];
    this.elements = new Map();
    this.words = "";
    this.body = make("tbody", { role: "rowgroup" });
    this.head = make("tr", { role: "row" });
    // On a phone CSS makes cards of the rows; the roles have them stay a table for those who don't see them.
    const head = make("thead", { role: "rowgroup" }, this.head);
    this.table = make("table", { class: "list", role: "table" }, make("caption", {}, caption), head, this.body);
    this.empty = make("p", { class: "empty", hidden: true }, empty);
    this.element = make("section", {}, filtered ? this.makeFilter() : null, this.table, this.empty);
    columns.forEach((column) => this.head.append(this.makeHeading(column)));
  }

  makeHeading(column) {
    const button = make("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      const again = this.sort.column === column;
      this.sort = { column, descending: again ? !this.sort.descending : column.kind === "number" };
      this.draw();
    });
    return make("th", { scope: "col", role: "columnheader", class: column.kind }, button);
  }

  makeFilter() {
    const name = `filter-${(tables += 1)}`;
    this.input = make("input", { id: name, type: "search", autocomplete: "off", "aria-keyshortcuts": "/" });
    this.input.classList.add("words");
    this.input.addEventListener("input", () => {
      this.words = this.input.value.toLowerCase();
      this.draw();
    });
    this.count = make("output", { for: name });
    return make("p", { class: "filter" }, make("label", { for: name }, "Filter (/)"), this.input, this.count);
  }

  show(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const shown = this.rows.filter((row) => this.matches(row)).sort((a, b) => this.compare(a, b));
    const keys = new Set(shown.map(this.key));
    for (const [key, element] of this.elements) {
      if (!keys.has(key)) {
        element.remove();
        this.elements.delete(key);
      }
    }
    shown.forEach((row, place) => this.drawRow(row, place));
    this.columns.forEach((column, place) => this.drawHeading(column, this.head.children[place]));
    this.table.hidden = shown.length === 0;
    this.empty.hidden = shown.length > 0;
    if (this.count) setText(this.count, `${shown.length} of ${this.rows.length}`);
  }

  drawHeading(column, heading) {
    if (this.sort.column === column) {
      heading.setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
    } else heading.removeAttribute("aria-sort");
  }

  drawRow(row, place) {
    const key = this.key(row);
    if (!this.elements.has(key)) this.elements.set(key, this.makeRow(row));
    const element = this.elements.get(key);
    // Moving an element that has the focus would take it away.
    if (this.body.children[place] !== element) this.moveRow(element, place);
    this.columns.forEach((column, index) => this.drawCell(column, row, element.children[index]));
  }

  moveRow(element, place) {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    this.body.insertBefore(element, this.body.children[place] ?? null);
    focused?.focus({ preventScroll: true });
  }

  makeRow(row) {
    const cells = this.columns.map((column) => {
      const inner = column.link ? make("a", { href: column.link(row) }) : make("span");
      return make("td", { role: "cell", "data-title": column.title }, inner);
    });
    return make("tr", { role: "row" }, ...cells);
  }

  drawCell(column, row, cell) {
    const text = column.text(row);
    setText(cell.firstChild, text);
    const css = [column.kind, column.css?.(row), text === "" ? "blank" : ""].filter(Boolean).join(" ");
    if (cell.className !== css) cell.className = css;
  }

  matches(row) {
    if (!this.words) return true;
    const text = this.columns.map((column) => column.text(row)).join(" ").toLowerCase();
    return this.words.split(/\s+/).every((word) => text.includes(word));
  }

  // What isn't known is last, in either direction; equal rows are in the order of their keys.
  compare(a, b) {
    const value = this.sort.column.value ?? this.sort.column.text;
    const [left, right] = [value(a), value(b)];
    const byKey = this.key(a) < this.key(b) ? -1 : 1;
    if (left == null || right == null) return (left == null) - (right == null) || byKey;
    if (left === right) return byKey;
    return (left < right ? -1 : 1) * (this.sort.descending ? -1 : 1);
  }
}
