// The parts of the page: which of them are shown, and F6 from one to the next.
import { get, put, whenChanged } from "./address.js";
import { tell } from "./dialog.js";
import { element, words } from "./parts.js";

const NAMES = ["lesson", "network", "terminals"];
const main = document.querySelector("main");
const section = (name) => document.getElementById(name);
const buttons = new Map();

function shown() {
  const wanted = (get("panels") || "").split(",").filter((name) => NAMES.includes(name));
  return wanted.length ? wanted : NAMES;
}

function show(names) {
  for (const name of NAMES) {
    section(name).hidden = !names.includes(name);
    buttons.get(name).setAttribute("aria-pressed", String(names.includes(name)));
  }
  main.dataset.panels = names.join(" ");
}

function toggle(name) {
  const now = shown();
  // The last one stays: an empty page would have nothing to say.
  const next = now.includes(name) ? now.filter((other) => other !== name) : NAMES.filter((n) => n === name || now.includes(n));
  if (!next.length) return;
  put({ panels: next.length === NAMES.length ? "" : next.join(",") });
  show(next);
}

function go(step) {
  const names = NAMES.filter((name) => !section(name).hidden);
  const at = names.findIndex((name) => section(name).contains(document.activeElement));
  const next = section(names[(at < 0 ? (step > 0 ? 0 : names.length - 1) : at + step + names.length) % names.length]);
  const input = next.querySelector(".screen:not([hidden]) .xterm-helper-textarea");
  (input || next).focus();
}

export function openPanels() {
  for (const name of NAMES) {
    buttons.set(name, element("button", { onclick: () => toggle(name) }, words[name]));
  }
  document.getElementById("panels").append(...buttons.values());
  show(shown());
  whenChanged(() => show(shown()));
  document.getElementById("keys").onclick = () => tell([words.key_next, words.key_previous, words.key_tabs]);
  // Before xterm.js gets it, which would type it into the shell.
  window.addEventListener("keydown", (event) => {
    if (event.key !== "F6" || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (!event.shiftKey && document.activeElement.closest(".xterm")) return;
    event.preventDefault();
    event.stopPropagation();
    go(event.shiftKey ? -1 : 1);
  }, { capture: true });
}
