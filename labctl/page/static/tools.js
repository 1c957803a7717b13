// The tools beside the drawing: listen, walk, and what is known of an object. One is open at a time.
import { element, words } from "./parts.js";
import { openObjects } from "./objects.js";
import { openPackets } from "./packets.js";
import { openWalk } from "./walk.js";

export function openTools(send) {
  const section = document.getElementById("network");
  const place = element("div", { id: "tool", hidden: true, role: "region", tabIndex: -1 });
  section.append(place);
  const bar = element("span", { id: "tools", role: "group", "aria-label": words.tools });
  section.querySelector("h2").after(bar);
  const tools = new Map();
  let open = "";

  function show(name, { focus = false } = {}) {
    tools.get(open)?.close?.();
    open = name;
    sessionStorage.setItem("tool", name);
    for (const [key, tool] of tools) tool.button?.setAttribute("aria-pressed", String(key === name));
    place.hidden = !name;
    section.classList.toggle("with-tool", Boolean(name));
    section.classList.toggle("wide-tool", Boolean(tools.get(name)?.wide));
    if (!name) return;
    const tool = tools.get(name);
    place.setAttribute("aria-label", tool.label);
    const close = element("button", { className: "close", title: words.tool_close, "aria-label": words.tool_close }, "×");
    close.onclick = () => {
      show("");
      (tool.button || document.getElementById("picture")).focus();
    };
    place.replaceChildren(close, tool.content);
    tool.open?.();
    if (focus) place.focus();
  }

  for (const [name, make] of [["listen", openPackets], ["walk", openWalk]]) {
    const tool = make(send);
    const button = element("button", { "aria-pressed": "false" }, words[name]);
    button.onclick = () => show(open === name ? "" : name, { focus: open !== name });
    bar.append(button);
    tools.set(name, { ...tool, label: words[name], button });
  }
  tools.set("object", { ...openObjects(send, () => show("object", { focus: true })), label: words.tools });
  const last = sessionStorage.getItem("tool");
  if (last === "listen" || last === "walk") show(last);
  return { setWalkProgress: tools.get("walk").progress };
}
