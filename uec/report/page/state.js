"use strict";
// The user's choices are stored after the # of the address: a reload keeps them, and a copied address shows the same.

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

// Makes an element with text, never with markup: the texts come from a model.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Binds a control to the state, and calls `changed` when its value changes.
function control(id, changed) {
  const input = byId(id);
  const property = input.type === "checkbox" ? "checked" : "value";
  const kept = state.get(id);
  if (kept !== undefined) input[property] = property === "checked" ? kept === "true" : kept;
  if (input.tagName === "SELECT" && input.selectedIndex < 0) input.selectedIndex = 0;
  const update = () => {
    state.set(id, input[property]);
    changed();
  };
  input.addEventListener("input", update);
  if (input.tagName === "SELECT") input.addEventListener("change", update); // in some cases, browsers send no other event
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
