// Elements. Texts come from endpoints and users, so they are only ever text: nothing here takes HTML.

export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// Sets a text only if it is another one: what a person has selected stays selected, and nothing is drawn anew.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A list of names with their texts; those without a text are left out.
export function facts(pairs) {
  const list = make("dl", { class: "facts" });
  for (const [name, text] of pairs) {
    if (text !== "" && text != null) list.append(make("dt", {}, name), make("dd", {}, String(text)));
  }
  return list;
}
