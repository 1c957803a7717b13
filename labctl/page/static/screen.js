// One terminal: xterm.js, and the WebSocket that carries it. The shell and its last output are kept by
// the server; after the connection broke, it sends only what this page has missed.
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

export const LINES_BACK = 10000;
const ACK_EVERY = 32768; // bytes drawn between two acknowledgements
const LARGEST_INPUT = 16384; // bytes of what is pasted that go in one message
const PROMPT_MS = 400; // from a shell's first output to its prompt
const RETRY_MS = 1000;
const PONG_MS = 4000; // a server that lives answers sooner, also when it is busy
const GONE = 4404; // the server's code: the shell has ended

// What a program asks of its terminal: where the cursor is, which terminal it is, its modes, versions
// and colours. Each answer is typed into the shell, so only one page may give it, and only once.
const QUESTIONS = [{ final: "n" }, { prefix: "?", final: "n" }, { final: "c" }, { prefix: ">", final: "c" },
  { prefix: "=", final: "c" }, { prefix: ">", final: "q" }, { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" }];
const MOST_EARLY = 1000; // keys
const COLOURS = [4, 10, 11, 12]; // OSC: "?" in place of a colour asks for it

export class Screen {
  // `keys` gets (event) for keys that are the page's and not the shell's; true: it has dealt with it.
  constructor(number, node, { keys }) {
    Object.assign(this, { number, node, socket: null, isOpen: false, isVisible: false, isClosed: false, leads: false });
    this.element = element("div", { className: "screen", hidden: true, id: `screen-${number}`, role: "tabpanel" });
    this.note = element("p", { hidden: true, role: "status" });
    this.element.append(this.note);
    this.terminal = new Terminal({
      scrollback: LINES_BACK,
      fontSize: 14,
      lineHeight: 1.2, // else some fonts' underscores are cut off
      screenReaderMode: false,
      linkHandler: { activate: () => {} }, // a guest may print links; none is followed
      allowProposedApi: false,
    });
    this.fitting = new FitAddon();
    this.terminal.loadAddon(this.fitting);
    this.seen = 0; // bytes that have come, counted from the shell's first one
    this.live = 0; // what comes before this byte was printed before: its questions are answered long ago
    this.isReplay = true;
    this.early = []; // keys that came before the first connection; null from then on
    const refuses = () => this.isReplay || !this.leads;
    for (const id of QUESTIONS) this.terminal.parser.registerCsiHandler(id, refuses);
    this.terminal.parser.registerDcsHandler({ intermediates: "$", final: "q" }, refuses);
    for (const id of COLOURS) this.terminal.parser.registerOscHandler(id, (text) => text.includes("?") && refuses());
    const encoder = new TextEncoder();
    this.terminal.onData((text) => this.#type(encoder.encode(text)));
    this.terminal.onBinary((text) => this.#type(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.terminal.attachCustomKeyEventHandler((event) => !(this.#key(event) || keys(event)));
    this.check = this.check.bind(this);
    for (const name of ["online", "focus"]) addEventListener(name, this.check);
    document.addEventListener("visibilitychange", this.check);
    this.#connect();
  }

  get isConnected() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  show(isVisible) {
    this.isVisible = isVisible;
    this.element.hidden = !isVisible;
    if (isVisible && !this.isOpen) {
      this.terminal.open(this.element);
      this.isOpen = true;
    }
    this.fit();
  }

  // Several pages share one size, the smallest of those in view: the server decides, and answers with it.
  fit() {
    const size = this.isVisible && !document.hidden ? this.fitting.proposeDimensions() : undefined;
    this.#tell({ size: size && Number.isFinite(size.cols) ? [size.cols, size.rows] : null });
  }

  dispose() {
    this.isClosed = true;
    for (const name of ["online", "focus"]) removeEventListener(name, this.check);
    document.removeEventListener("visibilitychange", this.check);
    this.socket.close();
    this.terminal.dispose();
    this.element.remove();
  }

  // After a laptop slept a connection may be dead, and no browser notices: ask the server.
  check() {
    if (this.isClosed) return;
    this.fit();
    if (document.hidden) return;
    if (!this.isConnected) {
      if (this.socket.readyState === WebSocket.CLOSED && !this.hasEnded) this.#connect();
      return;
    }
    if (this.waiting) return;
    const { socket } = this;
    this.#tell({ ping: true });
    this.waiting = setTimeout(() => {
      this.waiting = 0;
      if (this.socket === socket) this.#lost(socket);
    }, PONG_MS);
  }

  #tell(data) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(data));
  }

  #type(bytes) {
    if (this.early) { // a new terminal: its shell gets them once it is there
      if (this.early.length < MOST_EARLY) this.early.push(bytes);
      return;
    }
    for (let at = 0; at < bytes.length; at += LARGEST_INPUT) {
      if (this.isConnected) this.socket.send(bytes.subarray(at, at + LARGEST_INPUT));
    }
  }

  #connect() {
    clearTimeout(this.retry);
    const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/terminals/${this.number}?seen=${this.seen}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.leads = false;
    let drawn = 0;
    const write = (bytes, isReplay) => {
      this.terminal.write("", () => { this.isReplay = isReplay; });
      this.terminal.write(bytes, () => {
        drawn += bytes.length;
        if (drawn >= ACK_EVERY) {
          if (this.socket === socket) this.#tell({ ack: drawn });
          drawn = 0;
        }
      });
    };
    // Its shell reads what is typed: it has printed its prompt.
    this.ready = new Promise((resolve) => { this.isReady = () => setTimeout(resolve, PROMPT_MS); });
    socket.onopen = () => {
      this.note.hidden = true;
      this.fit();
      const early = this.early ?? [];
      this.early = null;
      for (const bytes of early) this.#type(bytes);
    };
    socket.onmessage = ({ data }) => {
      if (this.socket !== socket) return;
      if (typeof data === "string") {
        this.#told(JSON.parse(data));
        return;
      }
      this.isReady();
      const bytes = new Uint8Array(data);
      const old = Math.max(0, Math.min(this.live - this.seen, bytes.length));
      this.seen += bytes.length;
      if (old) write(bytes.subarray(0, old), true);
      if (old < bytes.length) write(bytes.subarray(old), false);
    };
    socket.onclose = ({ code }) => this.#lost(socket, code);
  }

  #told(message) {
    if ("from" in message) {
      if (message.from !== this.seen) this.terminal.reset(); // it has forgotten what was missed
      this.seen = message.from;
      this.live = message.live;
      this.hasEnded = false;
      if (message.live) this.isReady();
    }
    if (message.size) this.terminal.resize(...message.size);
    if ("leads" in message) this.leads = message.leads;
    if ("pong" in message) {
      clearTimeout(this.waiting);
      this.waiting = 0;
    }
  }

  #lost(socket, code = 0) {
    if (this.isClosed || this.socket !== socket) return;
    clearTimeout(this.waiting);
    this.waiting = 0;
    socket.onclose = null;
    socket.close();
    this.hasEnded = code === GONE;
    this.note.hidden = false;
    this.note.textContent = this.hasEnded ? words.ended : words.broken;
    if (!this.hasEnded) this.retry = setTimeout(() => this.isClosed || this.#connect(), RETRY_MS);
  }

  // Keys that are no program's: copying, pasting and selecting. True: dealt with here.
  #key(event) {
    if (event.type !== "keydown") return false;
    const isMac = /Mac/.test(navigator.platform);
    const isOurs = isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey && event.shiftKey;
    if (!isOurs || event.altKey) return false;
    const { terminal } = this;
    if (event.code === "KeyV") return true; // the browser pastes; xterm.js must not see the key
    if (event.code === "KeyC" && terminal.hasSelection()) navigator.clipboard.writeText(terminal.getSelection());
    else if (event.code === "KeyA") terminal.selectAll();
    else if (event.code === "ArrowUp" || event.code === "ArrowDown") this.#selectLines(event.code === "ArrowUp" ? -1 : 1);
    else if (event.code !== "KeyC" || isMac) return false;
    event.preventDefault(); // Ctrl+Shift+C is the browser's inspector
    return true;
  }

  // Whole lines, from the line above the cursor: one more, or one less.
  #selectLines(step) {
    const { terminal } = this;
    const { baseY, cursorY } = terminal.buffer.active;
    const last = baseY + cursorY;
    const range = terminal.getSelectionPosition();
    const isLines = range && range.start.x === 0 && range.end.y >= last - 1;
    const first = Math.max(0, isLines ? range.start.y + step : last - 1);
    const end = Math.max(0, last - 1);
    if (first > end) {
      terminal.clearSelection();
      return;
    }
    terminal.selectLines(first, end);
    if (first < terminal.buffer.active.viewportY) terminal.scrollToLine(first);
  }
}
