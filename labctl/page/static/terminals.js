// Terminals: xterm.js over a WebSocket each. The shell and its last output are kept by the server.
import { element, words } from "./parts.js";
import { FitAddon } from "./xterm/addon-fit.mjs";
import { Terminal } from "./xterm/xterm.mjs";

// xterm.js makes style elements, and style attributes for colours that a program chose freely. The
// Content-Security-Policy wants to see the page's nonce on the former, and refuses the latter unless
// they are set by way of the style object.
const create = document.createElement.bind(document);
document.createElement = (tag, ...rest) => {
  const made = create(tag, ...rest);
  if (String(tag).toLowerCase() === "style") made.nonce = document.body.dataset.nonce;
  return made;
};

const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

const ACK_EVERY = 32768; // bytes drawn between two acknowledgements
const LARGEST_INPUT = 16384; // bytes of what is pasted that go in one message
const PROMPT_MS = 400; // from a shell's first output to its prompt
const GONE = 4404; // the server's code: the shell has ended

export function openTerminals(send) {
  const screens = document.getElementById("screens");
  const tabs = document.getElementById("tabs");
  const none = document.getElementById("none");
  const close = document.getElementById("close");
  const all = new Map();
  let shown = Number(sessionStorage.getItem("terminal")) || 0;
  const typing = new TextEncoder();

  function add(number, node) {
    const screen = element("div", { className: "screen", hidden: true, id: `screen-${number}`, role: "tabpanel" });
    const note = element("p", { hidden: true, role: "status" });
    screen.append(note);
    screens.append(screen);
    const terminal = new Terminal({
      scrollback: 10000,
      fontSize: 14,
      screenReaderMode: false,
      linkHandler: { activate: () => {} }, // a guest may print links; none is followed
      allowProposedApi: false,
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    const entry = { number, node, screen, note, terminal, fit, socket: null, isOpen: false, ready: null };
    entry.tab = element("button", { id: `tab-${number}`, role: "tab", "aria-controls": screen.id, onclick: () => show(number) }, `${node} ${number}`);
    screen.setAttribute("aria-labelledby", entry.tab.id);
    tabs.append(entry.tab);
    all.set(number, entry);
    const input = (bytes) => {
      for (let at = 0; at < bytes.length; at += LARGEST_INPUT) {
        if (entry.socket?.readyState === WebSocket.OPEN) entry.socket.send(bytes.subarray(at, at + LARGEST_INPUT));
      }
    };
    terminal.onData((text) => input(typing.encode(text)));
    terminal.onBinary((text) => input(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    terminal.onResize(({ cols, rows }) => tell(entry, { size: [cols, rows] }));
    connect(entry);
    return entry;
  }

  function tell(entry, data) {
    if (entry.socket?.readyState === WebSocket.OPEN) entry.socket.send(JSON.stringify(data));
  }

  function connect(entry) {
    let drawn = 0;
    const socket = new WebSocket(`ws://${location.host}/terminals/${entry.number}`);
    socket.binaryType = "arraybuffer";
    entry.socket = socket;
    // Its shell reads what is typed: it has printed its prompt.
    entry.ready = new Promise((resolve) => { socket.addEventListener("message", () => setTimeout(resolve, PROMPT_MS), { once: true }); });
    socket.onopen = () => {
      entry.note.hidden = true;
      entry.terminal.reset();
      tell(entry, { size: [entry.terminal.cols, entry.terminal.rows] });
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") return;
      const bytes = new Uint8Array(data);
      entry.terminal.write(bytes, () => {
        drawn += bytes.length;
        if (drawn >= ACK_EVERY) {
          if (entry.socket === socket) tell(entry, { ack: drawn });
          drawn = 0;
        }
      });
    };
    socket.onclose = ({ code }) => {
      if (!all.has(entry.number)) return;
      entry.note.hidden = false;
      entry.note.textContent = code === GONE ? words.ended : words.lost;
      if (code !== GONE) setTimeout(() => all.has(entry.number) && connect(entry), 1000);
    };
  }

  function remove(entry) {
    all.delete(entry.number);
    entry.socket.close();
    entry.terminal.dispose();
    entry.screen.remove();
    entry.tab.remove();
  }

  function show(number, { focus = true } = {}) {
    shown = number;
    sessionStorage.setItem("terminal", String(number));
    for (const entry of all.values()) {
      const isShown = entry.number === number;
      entry.screen.hidden = !isShown;
      entry.tab.setAttribute("aria-selected", String(isShown));
      entry.tab.tabIndex = isShown ? 0 : -1;
      if (!isShown) continue;
      if (!entry.isOpen) {
        entry.terminal.open(entry.screen);
        entry.isOpen = true;
      }
      entry.fit.fit();
      if (focus) entry.terminal.focus();
    }
  }

  close.onclick = () => send("DELETE", `/terminals/${shown}`);
  tabs.addEventListener("keydown", (event) => {
    const numbers = [...all.keys()];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !numbers.length) return;
    const next = numbers[(numbers.indexOf(shown) + step + numbers.length) % numbers.length];
    show(next, { focus: false });
    all.get(next).tab.focus();
  });
  new ResizeObserver(() => {
    const entry = all.get(shown);
    if (entry?.isOpen) entry.fit.fit();
  }).observe(screens);

  async function open(node) {
    const { number } = await send("POST", "/terminals", { node, columns: 80, rows: 24 });
    const entry = all.get(number) || add(number, node);
    none.hidden = true;
    close.hidden = false;
    show(number);
    return entry;
  }

  return {
    open,
    setNodes(nodes) {
      document.getElementById("nodes").replaceChildren(...nodes.map((node) => element("button", {
        title: words.new.replace("{node}", node),
        onclick: () => open(node).catch((error) => { none.hidden = false; none.textContent = error.message; }),
      }, `+ ${node}`)));
      this.nodes = nodes;
    },
    nodes: [],
    setOpen(list) {
      const numbers = new Set(list.map(({ number }) => number));
      for (const entry of [...all.values()]) if (!numbers.has(entry.number)) remove(entry);
      for (const { number, node } of list) if (!all.has(number)) add(number, node);
      none.hidden = all.size > 0;
      close.hidden = all.size === 0;
      if (!all.has(shown) && all.size) show([...all.keys()].at(-1), { focus: false });
      else if (all.has(shown)) show(shown, { focus: false });
    },
    // Type a command into the terminal of a node: the one that is shown, or else another, or a new one.
    async run(node, command) {
      const entry = all.get(shown)?.node === node && all.get(shown).socket.readyState === WebSocket.OPEN ? all.get(shown)
        : [...all.values()].find((other) => other.node === node && other.socket.readyState === WebSocket.OPEN) || await open(node);
      show(entry.number);
      await entry.ready;
      entry.terminal.paste(command); // several lines at once where the shell has bracketed paste
      entry.terminal.input("\r");
    },
  };
}
