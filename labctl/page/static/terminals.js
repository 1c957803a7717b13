// The terminals: which there are, which one or two are shown, and which of the two is used.
import { element, words } from "./parts.js";
import { Screen } from "./screen.js";
import { openSplit } from "./split.js";

export function openTerminals(send) {
  const screens = document.getElementById("screens");
  const tabs = document.getElementById("tabs");
  const none = document.getElementById("none");
  const close = document.getElementById("close");
  const split = document.getElementById("split");
  const divider = document.getElementById("divider");
  const all = new Map();
  // Of this window alone, and kept when it is loaded again: the numbers that are shown, at most two;
  // which of them is used; where the divider is.
  const layout = { shown: [], active: 0, isSplit: false, ratio: 50, ...JSON.parse(sessionStorage.getItem("terminals") || "{}") };
  let nodes = [];
  let instances = [];

  const save = () => sessionStorage.setItem("terminals", JSON.stringify(layout));
  const used = () => all.get(layout.shown[layout.active]);
  const report = (error) => {
    none.hidden = false;
    none.textContent = error.message;
  };

  function add({ number, node, console }) {
    const screen = new Screen(number, node, { keys });
    screens.append(screen.element);
    screen.tab = element("button", { id: `tab-${number}`, role: "tab", "aria-controls": screen.element.id, onclick: () => show(number) }, `${node} ${number}`);
    screen.tab.title = console ? words.console : words.keys;
    screen.element.setAttribute("aria-labelledby", screen.tab.id);
    screen.element.addEventListener("focusin", () => use(number));
    tabs.append(screen.tab);
    all.set(number, screen);
    return screen;
  }

  // Keys in a terminal that change between terminals. True: dealt with here.
  function keys(event) {
    if (event.type !== "keydown" || event.altKey || event.metaKey) return false;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.ctrlKey && event.shiftKey) show(neighbour(step));
    else return false;
    event.preventDefault();
    return true;
  }

  function neighbour(step) {
    const numbers = layout.isSplit ? layout.shown : [...all.keys()];
    return numbers[(numbers.indexOf(layout.shown[layout.active]) + step + numbers.length) % numbers.length];
  }

  function use(number) {
    const at = layout.shown.indexOf(number);
    if (at < 0 || at === layout.active) return;
    layout.active = at;
    render();
  }

  // Show a terminal: where it is already, or in the place of the one that is used.
  function show(number, { focus = true } = {}) {
    const at = layout.shown.indexOf(number);
    if (at >= 0) layout.active = at;
    else if (layout.isSplit && layout.shown.length < 2) layout.active = layout.shown.push(number) - 1;
    else layout.shown[layout.active] = number;
    render();
    if (focus) all.get(number)?.terminal.focus();
  }

  // Only what there is can be shown; a place that became empty gets another one.
  function repair() {
    const before = layout.shown[layout.active];
    layout.shown = layout.shown.filter((number) => all.has(number));
    const others = [...all.keys()].filter((number) => !layout.shown.includes(number));
    const places = layout.isSplit ? 2 : 1;
    if (layout.shown.length > places) layout.shown = [before];
    while (layout.shown.length < places && others.length) layout.shown.push(others.pop());
    if (all.size < 2) layout.isSplit = false;
    layout.active = Math.max(0, layout.shown.indexOf(before));
  }

  function render() {
    save();
    const isSplit = layout.isSplit && layout.shown.length === 2;
    divider.hidden = !isSplit;
    split.setAttribute("aria-pressed", String(isSplit));
    tabs.setAttribute("aria-multiselectable", String(isSplit));
    none.hidden = all.size > 0;
    close.hidden = split.hidden = all.size === 0;
    for (const screen of all.values()) {
      const at = layout.shown.indexOf(screen.number);
      screen.element.classList.toggle("first", isSplit && at === 0);
      screen.element.classList.toggle("second", isSplit && at === 1);
      screen.element.classList.toggle("active", isSplit && at === layout.active);
      screen.tab.setAttribute("aria-selected", String(at >= 0));
      screen.tab.tabIndex = at === layout.active ? 0 : -1;
      screen.show(at >= 0);
    }
  }

  const fit = () => layout.shown.forEach((number) => all.get(number)?.fit());

  close.onclick = () => send("DELETE", `/terminals/${layout.shown[layout.active]}`).catch(report);
  split.onclick = async () => {
    if (layout.isSplit) {
      layout.isSplit = false;
      layout.shown = [layout.shown[layout.active]];
      layout.active = 0;
      render();
      return;
    }
    layout.isSplit = true;
    if (all.size > 1) {
      repair();
      render();
      return;
    }
    try {
      await open(used().node); // a second one, for the tcpdump beside the ping
    } catch (error) {
      layout.isSplit = false;
      report(error);
    }
  };
  tabs.addEventListener("keydown", (event) => {
    const numbers = [...all.keys()];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !numbers.length) return;
    const at = numbers.findIndex((number) => all.get(number).tab === document.activeElement);
    const next = numbers[(at + step + numbers.length) % numbers.length];
    show(next, { focus: false });
    all.get(next).tab.focus();
  });
  new ResizeObserver(fit).observe(screens);
  openSplit(screens, divider, {
    ratio: layout.ratio,
    onchange(ratio, isDone) {
      layout.ratio = ratio;
      fit();
      if (isDone) save();
    },
  });

  async function open(node) {
    const { number } = await send("POST", "/terminals", { node, columns: 80, rows: 24 });
    const screen = all.get(number) || add({ number, node });
    show(number);
    return screen;
  }

  function renderButtons() {
    const button = (name, title) => element("button", { title, onclick: () => open(name).catch(report) }, `+ ${name}`);
    if (!nodes.length) return; // they come first, also when the drawing told its instances before
    document.getElementById("nodes").replaceChildren(
      ...nodes.map((node) => button(node, words.new.replace("{node}", node))),
      ...instances.map((name) => button(name, words.new_instance.replace("{instance}", name))));
  }

  const api = {
    open,
    nodes: [],
    setNodes(names) {
      nodes = names;
      api.nodes = [...nodes, ...instances];
      renderButtons();
    },
    setInstances(names) {
      instances = names;
      api.nodes = [...nodes, ...instances];
      renderButtons();
    },
    setOpen(list) {
      const numbers = new Set(list.map(({ number }) => number));
      for (const screen of [...all.values()]) {
        if (numbers.has(screen.number)) continue;
        all.delete(screen.number);
        screen.tab.remove();
        screen.dispose();
      }
      for (const one of list) {
        if (all.has(one.number)) all.get(one.number).tab.title = one.console ? words.console : words.keys;
        else add(one);
      }
      repair();
      render();
    },
    // Type a command into the terminal of a node: the one that is used, or else another, or a new one.
    async run(node, command) {
      const fits = (screen) => screen?.node === node && screen.isConnected;
      const shown = layout.shown.map((number) => all.get(number));
      const screen = [used(), ...shown, ...all.values()].find(fits) || await open(node);
      show(screen.number);
      await screen.ready;
      screen.terminal.paste(command); // several lines at once where the shell has bracketed paste
      screen.terminal.input("\r");
    },
  };
  return api;
}
