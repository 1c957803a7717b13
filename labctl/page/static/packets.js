// Listen: packets as they pass the chosen interfaces; all of it is put in as text.
import { element, words } from "./parts.js";

const MOST_ROWS = 2000; // lines on the page; the server keeps more
const TONES = 8;

export function openPackets(send) {
  const choices = element("div", { className: "choices" });
  const filter = element("input", { type: "text", maxLength: 300, spellcheck: false, autocomplete: "off", placeholder: "icmp or udp port 6081" });
  const start = element("button", { className: "first", type: "submit" }, words.listen_start);
  const stop = element("button", { type: "button", disabled: true }, words.listen_stop);
  const form = element("form", {},
    element("div", { className: "choices-box", role: "group", "aria-label": words.interfaces }, choices),
    element("label", {}, `${words.pcap_filter} `, filter), start);
  const status = element("p", { className: "status", role: "status" });
  const problem = element("p", { className: "bad", role: "alert" });
  const file = element("a", { href: "/captures/file", download: "", hidden: true }, words.download);
  const pipe = element("code", {});
  const copy = element("button", { type: "button" }, words.copy);
  const wireshark = element("div", { className: "wireshark", hidden: true }, element("p", {}, words.wireshark), pipe, copy);
  const rows = element("div", { className: "packets", role: "listbox", tabIndex: 0, "aria-label": words.packets });
  const detail = element("div", { className: "detail", hidden: true, tabIndex: 0, role: "region", "aria-label": words.layers });
  const settings = element("details", { open: true }, element("summary", {}, words.interfaces), form);
  const content = element("div", { className: "listen" }, settings, problem, status,
    element("div", { className: "links" }, stop, file, wireshark), element("div", { className: "both" }, rows, detail));
  let socket = null;
  let wanted = false;
  let run = "";
  let left = 0;
  let chosen = null;
  let places = [];

  const fail = (error) => { problem.textContent = error.message; };

  async function fill() {
    const nodes = await send("GET", "/interfaces");
    const before = new Set([...choices.querySelectorAll("input:checked")].map((box) => box.value));
    const pick = before.size ? before : new Set(places);
    choices.replaceChildren(...Object.entries(nodes).map(([node, names]) => element("div", {},
      element("strong", {}, node), ...names.map((name) => {
        const value = `${node}:${name}`;
        return element("label", {}, element("input", { type: "checkbox", value, checked: pick.has(value) }), name);
      }))));
  }

  form.onsubmit = async (event) => {
    event.preventDefault();
    problem.textContent = "";
    const picked = [...choices.querySelectorAll("input:checked")].map((box) => box.value);
    start.disabled = true;
    await send("POST", "/captures", { places: picked, filter: filter.value.trim() })
      .then(() => { settings.open = false; rows.focus(); }, fail);
    start.disabled = false;
  };
  stop.onclick = () => send("DELETE", "/captures").catch(fail);
  copy.onclick = async () => {
    await navigator.clipboard.writeText(pipe.textContent);
    copy.textContent = words.copied;
    setTimeout(() => { copy.textContent = words.copy; }, 1500);
  };

  function row({ number, time, place, text, flow }) {
    const item = element("div", { className: "packet", role: "option", "aria-selected": "false", id: `packet-${number}` },
      element("span", { className: "time" }, time), " ");
    if (flow >= 0) {
      item.classList.add(`f${flow % TONES}`);
      item.title = words.flow.replace("{n}", flow);
      item.append(element("span", { className: "flow" }, String(flow)), " ");
    }
    item.append(element("span", { className: "place" }, place), ` ${text}`);
    item.dataset.number = number;
    return item;
  }

  async function choose(item) {
    if (!item) return;
    chosen?.setAttribute("aria-selected", "false");
    chosen = item;
    item.setAttribute("aria-selected", "true");
    rows.setAttribute("aria-activedescendant", item.id);
    item.scrollIntoView({ block: "nearest" });
    const packet = await send("GET", `/captures/packets/${item.dataset.number}`).catch((error) => ({ problem: error.message }));
    if (chosen !== item) return;
    detail.hidden = false;
    detail.replaceChildren(...(packet.problem ? [element("p", { className: "bad" }, packet.problem)] : shown(packet)));
  }

  function shown(packet) {
    const dump = bytesOf(packet.bytes);
    const title = words.packet_of.replace("{length}", packet.length).replace("{place}", packet.place).replace("{time}", packet.time);
    const layers = packet.layers.map((layer, index) => {
      const box = element("details", { className: "layer", open: index > packet.layers.length - 4 },
        element("summary", {}, layer.name),
        element("dl", {}, ...layer.fields.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
      const mark = () => dump.mark(layer.start, layer.length);
      box.onmouseenter = mark;
      box.onfocusin = mark;
      return box;
    });
    return [element("h3", {}, title), element("div", { className: "two" }, element("div", {}, ...layers), dump.node)];
  }

  // Sixteen bytes a line: offset, hexadecimal digits, and the letters among them.
  function bytesOf(hex) {
    const bytes = hex.match(/../g) || [];
    const pre = element("pre", { className: "bytes", "aria-label": words.bytes, tabIndex: 0 });
    const cells = bytes.map((byte) => element("span", {}, byte));
    for (let at = 0; at < bytes.length; at += 16) {
      const letters = bytes.slice(at, at + 16).map((byte) => {
        const code = parseInt(byte, 16);
        return code > 31 && code < 127 ? String.fromCharCode(code) : ".";
      }).join("");
      pre.append(`${at.toString(16).padStart(4, "0")}  `);
      cells.slice(at, at + 16).forEach((cell) => pre.append(cell, " "));
      pre.append(`${"   ".repeat(16 - letters.length)} ${letters}\n`);
    }
    return {
      node: pre,
      mark: (start, length) => cells.forEach((cell, at) => cell.classList.toggle("marked", at >= start && at < start + length)),
    };
  }

  rows.onclick = (event) => choose(event.target.closest(".packet"));
  rows.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !rows.children.length) return;
    event.preventDefault();
    const at = chosen?.isConnected ? [...rows.children].indexOf(chosen) + step : step < 0 ? 0 : rows.children.length - 1;
    choose(rows.children[Math.min(Math.max(at, 0), rows.children.length - 1)]);
  };

  function take({ state, rows: fresh, left_out }) {
    if (state.run !== run) {
      run = state.run;
      left = 0;
      chosen = null;
      rows.replaceChildren();
      detail.hidden = true;
      if (state.places.length) settings.open = false;
      if (!choices.querySelector("input:checked")) {
        places = state.places;
        for (const box of choices.querySelectorAll("input")) box.checked = places.includes(box.value);
        filter.value ||= state.filter;
      }
    }
    left += left_out;
    const atEnd = rows.scrollHeight - rows.scrollTop - rows.clientHeight < 40;
    rows.append(...fresh.map(row));
    while (rows.childElementCount > MOST_ROWS) rows.firstElementChild.remove();
    if (atEnd && fresh.length) rows.scrollTop = rows.scrollHeight;
    stop.disabled = !state.running;
    file.hidden = !state.places.length;
    wireshark.hidden = !state.wireshark;
    pipe.textContent = state.wireshark;
    const parts = state.places.length
      ? [words.packets_seen.replace("{n}", state.packets).replace("{kept}", state.kept)]
      : [words.choose_interfaces];
    if (left) parts.push(words.packets_left_out.replace("{n}", left));
    if (state.dropped) parts.push(words.packets_dropped.replace("{n}", state.dropped));
    status.textContent = parts.join(" · ");
    if (state.failure) problem.textContent = state.failure;
  }

  function follow() {
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/captures/packets`);
    run = "";
    socket.onmessage = ({ data }) => take(JSON.parse(data));
    socket.onclose = () => { if (wanted) setTimeout(() => wanted && follow(), 1500); };
  }

  return {
    content,
    wide: true,
    open() {
      problem.textContent = "";
      wanted = true;
      fill().catch(fail);
      follow();
    },
    close() {
      wanted = false;
      socket?.close();
    },
  };
}
