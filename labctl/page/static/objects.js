// Objects of the drawing: chosen by a click or by the keyboard, shown as four sources know them.
import { element, words } from "./parts.js";

const ADDRESS = /^\d+\.\d+\.\d+\.\d+$/; // alone in a network: a floating IP that belongs to no port
const NAT = /^(snat|dnat|dnat_and_snat) (\S+) ⇄ (\S+)$/;

export function openObjects(send, show) {
  const picture = document.getElementById("picture");
  const content = element("div", { className: "object" });
  let asked = 0;

  // What a group or text of the drawing is: {kind, name, router?}; null for what cannot be asked about.
  function meant(node) {
    if (node.localName === "text") {
      if (node === nameText(node.parentElement)) return meant(node.parentElement);
      const rule = NAT.exec(node.textContent);
      const router = node.parentElement.getAttribute("data-logical");
      if (router && ADDRESS.test(node.textContent)) return { kind: "floating", name: node.textContent };
      return rule && router ? { kind: "nat", name: rule.slice(1).join(" "), router } : null;
    }
    const place = node.getAttribute("data-place");
    if (place) return place.includes("/") ? { kind: "interface", name: place } : null;
    if (node.classList.contains("lport")) {
      const name = node.querySelector(":scope > title")?.textContent.split("\n")[0];
      return name ? { kind: "port", name } : null;
    }
    const logical = node.getAttribute("data-logical");
    return logical ? { kind: "logical", name: logical } : null;
  }

  // Buttons cannot hold buttons: of what holds other objects, the button is its name.
  function nameText(group) {
    return group.querySelector("[data-place], .lport, [data-logical]") ? group.querySelector(":scope > text") : null;
  }

  const candidates = "[data-place], .lport, [data-logical], [data-logical] > text, [data-place] > text";

  function prepare() {
    for (const node of picture.querySelectorAll(`svg :is(${candidates})`)) {
      const object = meant(node);
      if (!object) continue;
      node.classList.add("object-of");
      const name = node.localName === "text" ? null : nameText(node);
      if (name) continue; // a click anywhere in it counts as well
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      const label = object.kind === "nat" ? words.nat_rule.replace("{rule}", node.textContent) : nameOf(node, object);
      node.setAttribute("aria-label", label);
    }
    const svg = picture.querySelector("svg");
    // An image hides what is in it from screen readers; a group of buttons does not.
    svg?.setAttribute("role", "group");
  }

  // The texts as they stand there, for who says them to a computer, and the name in the databases.
  const nameOf = (node, object) => [(node.localName === "text" ? [node] : [...node.querySelectorAll(":scope > text")]).map((text) => text.textContent).join(" "), object.name].filter(Boolean).join(", ");

  async function ask(node, object) {
    const number = ++asked;
    content.replaceChildren(element("h3", {}, object.name), element("p", { role: "status" }, words.asking));
    show();
    mark(node);
    const query = new URLSearchParams(object);
    const answer = await send("GET", `/object?${query}`).catch((error) => ({ problem: error.message }));
    if (number !== asked) return;
    if (answer.problem) {
      content.replaceChildren(element("h3", {}, object.name), element("p", { className: "bad", role: "alert" }, answer.problem));
      return;
    }
    content.replaceChildren(element("h3", {}, answer.title), element("div", { className: "columns" }, ...answer.columns.map(column)));
  }

  function mark(node) {
    for (const marked of picture.querySelectorAll(".asked")) marked.classList.remove("asked");
    node?.classList.add("asked");
  }

  function column({ name, sections, note }) {
    return element("section", { "aria-label": name }, element("h4", {}, name), ...(note ? [element("p", { className: "dim" }, note)] : []), ...sections.map(section));
  }

  function section({ title, fields, lines }) {
    const inner = fields
      ? element("dl", {}, ...fields.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]))
      : element("pre", { tabIndex: 0 }, lines.join("\n"));
    return element("details", { open: true }, element("summary", {}, title), inner);
  }

  function activate(event) {
    for (let node = event.target; node && node !== picture; node = node.parentElement) {
      if (!node.classList?.contains("object-of")) continue;
      const object = meant(node);
      if (object) {
        event.preventDefault();
        ask(node, object);
        return;
      }
    }
  }

  picture.addEventListener("click", activate);
  picture.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && event.target.classList?.contains("object-of")) activate(event);
  });
  new MutationObserver(prepare).observe(picture, { childList: true });
  prepare();
  return { content, wide: true, close: () => mark(null) };
}
