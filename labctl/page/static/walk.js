/* global labctlWay */
// Walk: one packet is sent, and its way is played over the drawing, hop by hop.
import { element, words } from "./parts.js";
import { seconds } from "./progress.js";

const SVG = "http://www.w3.org/2000/svg";
const PLAY_MS = 1600; // a hop while it plays
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

export function openWalk(send) {
  const picture = document.getElementById("picture");
  const list = (id) => element("datalist", { id });
  const sources = list("walk-sources");
  const targets = list("walk-targets");
  const field = (name) => element("input", { name, required: true, autocomplete: "off", spellcheck: false, maxLength: 200 });
  const source = field("from");
  source.setAttribute("list", "walk-sources");
  const target = field("to");
  target.setAttribute("list", "walk-targets");
  const protocol = element("select", {}, ...["ping", "tcp", "udp"].map((name) => element("option", {}, name)));
  const port = element("input", { type: "number", min: 1, max: 65535, value: 80 });
  const portLabel = element("label", { hidden: true }, `${words.port_number} `, port);
  const go = element("button", { className: "first", type: "submit" }, words.send);
  const form = element("form", {},
    element("label", {}, `${words.protocol} `, protocol), element("label", {}, `${words.from} `, source),
    element("label", {}, `${words.to} `, target), portLabel, go, sources, targets);
  const status = element("p", { className: "status", role: "status" });
  const result = element("div", { className: "walked" });
  const content = element("div", { className: "walk" }, form, status, result);
  let hops = [];
  let at = -1;
  let timer = 0;
  let parts = {};
  let doing = element("ol"); // what the walk does, while it does it
  let began = 0;

  protocol.onchange = () => { portLabel.hidden = protocol.value === "ping"; };

  form.onsubmit = async (event) => {
    event.preventDefault();
    stop();
    go.disabled = true;
    status.className = "status";
    status.textContent = words.sending;
    doing = element("ol", { className: "doing" });
    result.replaceChildren(doing);
    began = performance.now();
    const number = protocol.value === "ping" ? null : Number(port.value);
    try {
      show(await send("POST", "/walks", { protocol: protocol.value, source: source.value, target: target.value, port: number }));
    } catch (error) {
      status.classList.add("bad");
      status.textContent = error.message;
      result.replaceChildren();
    }
    go.disabled = false;
  };

  function show(walked) {
    status.textContent = walked.verdict;
    status.className = `status ${walked.ok ? "good" : "bad"}`;
    hops = walked.paths.flatMap((path) => path.hops.map((hop, index) => ({ ...hop, path, first: index === 0 })));
    const play = element("button", { type: "button", className: "first" }, words.play);
    const before = element("button", { type: "button" }, `◂ ${words.hop_before}`);
    const next = element("button", { type: "button" }, `${words.hop_next} ▸`);
    const where = element("span", { className: "where", "aria-live": "polite" });
    play.onclick = () => (timer ? stop() : start());
    before.onclick = () => { stop(); goTo(at - 1); };
    next.onclick = () => { stop(); goTo(at + 1); };
    const steps = element("ol", { className: "hops", role: "listbox", tabIndex: 0, "aria-label": words.walk },
      ...hops.map((hop, index) => step(hop, index)));
    steps.onkeydown = (event) => {
      const move = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (event.key === " ") play.click();
      else if (event.key === "Home") goTo(0);
      else if (event.key === "End") goTo(hops.length - 1);
      else if (move) { stop(); goTo(at + move); } else return;
      event.preventDefault();
    };
    const hop = element("div", { className: "hop" });
    const trace = element("div", { className: "trace" });
    const reasons = walked.reasons.map(({ text, fix }) => element("p", { className: "bad" }, text, ...(fix ? [" ", element("code", {}, fix)] : [])));
    const notes = walked.notes.map((note) => element("p", { className: "dim" }, note));
    result.replaceChildren(element("h3", {}, walked.title), ...reasons,
      element("div", { className: "actions" }, before, play, next, where), hop, steps, trace, ...notes);
    parts = { play, before, next, where, hop, trace, steps };
    at = -1;
    if (hops.length) {
      goTo(0);
      start();
    } else explain(walked.paths[0]);
  }

  function step(hop, index) {
    const item = element("li", { role: "option", id: `hop-${index}`, "aria-selected": "false" });
    if (hop.first) item.append(element("strong", {}, hop.path.title), element("br"));
    item.append(element("span", { className: "time" }, `${hop.ms.toFixed(3)} ms`), ` ${hop.node} ${hop.interface} `,
      element("span", { className: "dim" }, hop.where));
    if (hop.changes.length) item.append(element("div", { className: "changed" }, hop.changes.map(({ text }) => text).join(" · ")));
    item.onclick = () => { stop(); goTo(index); };
    return item;
  }

  function start() {
    if (at >= hops.length - 1) goTo(0);
    parts.play.textContent = words.pause;
    timer = setInterval(() => {
      if (at >= hops.length - 1) stop();
      else goTo(at + 1);
    }, PLAY_MS);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    if (parts.play) parts.play.textContent = words.play;
  }

  function goTo(number) {
    if (number < 0 || number >= hops.length) return;
    const from = number === at + 1 ? at : -1;
    at = number;
    [...parts.steps.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
    const item = parts.steps.children[at];
    parts.steps.setAttribute("aria-activedescendant", item.id);
    parts.steps.scrollTop = Math.max(0, item.offsetTop - parts.steps.offsetTop - parts.steps.clientHeight / 3);
    parts.where.textContent = words.hop_of.replace("{n}", at + 1).replace("{of}", hops.length);
    parts.before.disabled = at === 0;
    parts.next.disabled = at === hops.length - 1;
    parts.hop.replaceChildren(...headers(hops[at], hops[at].first ? null : hops[at - 1]));
    explain(hops[at].path);
    draw(from >= 0 && !STILL.matches);
  }

  // The headers now, and before this hop where they differ.
  function headers(hop, last) {
    const rows = hop.headers.map(({ name, value, changed }) => {
      const old = last?.headers.find((header) => header.name === name)?.value ?? "";
      return element("tr", { className: changed ? "changed" : "" }, element("th", { scope: "row" }, name),
        element("td", {}, last ? old : ""), element("td", {}, value));
    });
    if (hop.tunnel.length || last?.tunnel.length) {
      const lines = (texts) => element("td", {}, ...(texts || []).flatMap((text) => [text, element("br")]));
      rows.push(element("tr", { className: Boolean(hop.tunnel.length) === Boolean(last?.tunnel.length) ? "" : "changed" },
        element("th", { scope: "row" }, "Geneve"), lines(last?.tunnel), lines(hop.tunnel)));
    }
    const why = hop.changes.filter((change) => change.why).map(({ text, why: reason }) => element("li", {}, `${text} — `, element("code", {}, reason)));
    return [
      element("h3", {}, `${hop.node} ${hop.interface} ${hop.way === "out" ? "→" : "←"} ${hop.where}`),
      element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, words.field),
        element("th", { scope: "col" }, words.before), element("th", { scope: "col" }, words.after))), element("tbody", {}, ...rows)),
      ...(why.length ? [element("ul", {}, ...why)] : []),
    ];
  }

  function explain(path) {
    if (!path) return;
    const parts_ = path.trace.map(({ name, lines }) => element("li", {}, element("strong", {}, name),
      element("ul", {}, ...lines.map(({ text, bad }) => element("li", { className: bad ? "bad" : "" }, text)))));
    parts.trace.replaceChildren(element("h3", {}, "ovn-trace"), ...(path.error ? [element("p", {}, path.error)] : []), element("ul", {}, ...parts_));
  }

  // -- over the drawing --------------------------------------------------------------------------
  const find = (svg, name) => svg.querySelector(`[data-place="${CSS.escape(name)}"]`);

  function centre(svg, group) {
    const box = (group.querySelector(":scope > .b") || group).getBBox();
    return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  }

  function draw(animate) {
    const svg = picture.querySelector("svg");
    svg?.querySelector(":scope > .walked")?.remove();
    for (const group of svg?.querySelectorAll(".on-way") || []) group.classList.remove("on-way");
    if (!svg || at < 0) return;
    const layer = document.createElementNS(SVG, "g");
    layer.setAttribute("class", "walked");
    layer.setAttribute("aria-hidden", "true");
    svg.append(layer);
    let last = null;
    for (const [index, hop] of hops.slice(0, at + 1).entries()) {
      const group = find(svg, hop.place);
      if (!group) continue;
      const point = centre(svg, group);
      if (last && last.group !== group && !hop.first) {
        const corners = labctlWay.between(svg, last.group, group, last.point, point);
        const line = document.createElementNS(SVG, "polyline");
        line.setAttribute("points", corners.map(({ x, y }) => `${x},${y}`).join(" "));
        line.setAttribute("class", `way${hop.path.reply ? " reply" : ""}`);
        layer.append(line);
        if (index === at && animate) {
          const length = line.getTotalLength();
          line.animate([{ strokeDasharray: `${length} ${length}`, strokeDashoffset: length }, { strokeDasharray: `${length} ${length}`, strokeDashoffset: 0 }], { duration: PLAY_MS / 2 });
        }
      }
      last = { group, point };
      if (index === at) {
        group.classList.add("on-way");
        const dot = document.createElementNS(SVG, "circle");
        for (const [name, value] of [["cx", point.x], ["cy", point.y], ["r", 7]]) dot.setAttribute(name, value);
        dot.setAttribute("class", `dot${hop.path.reply ? " reply" : ""}`);
        layer.append(dot);
        group.scrollIntoView({ block: "nearest", inline: "nearest" });
      }
    }
  }

  // The drawing is replaced when the network changes.
  new MutationObserver(() => { if (content.isConnected) draw(false); }).observe(picture, { childList: true });

  return {
    content,
    // What the walk does now, as the console shows it; another window's is not shown.
    progress(text) {
      if (!go.disabled) return;
      doing.append(element("li", {}, element("span", { className: "time" }, seconds((performance.now() - began) / 1000)), ` ${text}`));
      status.textContent = text;
    },
    async open() {
      draw(false);
      const ends = await send("GET", "/ends").catch((error) => { status.textContent = error.message; return null; });
      if (!ends) return;
      const options = (names) => [...new Set(names)].map((value) => element("option", { value }));
      sources.replaceChildren(...options(ends.sources));
      targets.replaceChildren(...options(ends.targets));
      source.value ||= ends.sources[0] || "";
      target.value ||= ends.targets[0] || "";
    },
    close() {
      stop();
      picture.querySelector("svg > .walked")?.remove();
      for (const group of picture.querySelectorAll(".on-way")) group.classList.remove("on-way");
    },
  };
}
