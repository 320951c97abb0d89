"use strict";
// What a person has chosen stands behind the # of the address: a reload keeps it, and a copied address shows the same.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

const state = {
  chosen: new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""),
  get(name, otherwise) {
    return this.chosen.has(name) ? this.chosen.get(name) : otherwise;
  },
  set(name, value) {
    if (value === "" || value === false) this.chosen.delete(name);
    else this.chosen.set(name, value);
    history.replaceState(null, "", "#" + this.chosen);
  },
};

// An element with text; never markup: the texts are a model's.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Binds a control to the state, and calls `changed` whenever it is another.
function control(id, changed) {
  const input = byId(id);
  const property = input.type === "checkbox" ? "checked" : "value";
  const kept = state.get(id);
  if (kept !== undefined) input[property] = property === "checked" ? kept === "true" : kept;
  if (input.tagName === "SELECT" && input.selectedIndex < 0) input.selectedIndex = 0;
  const heard = () => {
    state.set(id, input[property]);
    changed();
  };
  input.addEventListener("input", heard);
  if (input.tagName === "SELECT") input.addEventListener("change", heard); // all that a browser sends for some ways to choose
  return () => input[property];
}

function options(id, pairs) {
  byId(id).replaceChildren(...pairs.map(([value, text]) => Object.assign(element("option", "", text), { value })));
}

for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.querySelector(link.getAttribute("href")).scrollIntoView({ behavior: "smooth" });
  });
}

if (document.body.dataset.reload) {
  setInterval(() => byId("live").checked && location.reload(), 1000 * Number(document.body.dataset.reload));
}
