// Small parts that all of the page uses.
export const words = JSON.parse(document.body.dataset.words);

export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on") || name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A lesson's text: paragraphs with `code`, **bold** and "- " items.
export function prose(text) {
  const blocks = [];
  for (const block of text.split(/\n\s*\n/)) {
    const items = [];
    let plain = "";
    for (const line of block.split("\n")) {
      if (/^\s*- /.test(line)) items.push(line.replace(/^\s*- /, ""));
      else if (items.length) items[items.length - 1] += ` ${line.trim()}`;
      else plain += (plain ? " " : "") + line.trim();
    }
    if (plain) blocks.push(element("p", {}, ...inline(plain)));
    if (items.length) blocks.push(element("ul", {}, ...items.map((item) => element("li", {}, ...inline(item)))));
  }
  return blocks;
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).filter(Boolean).map((part) => {
    if (part.length > 2 && part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    if (part.length > 4 && part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
    return part;
  });
}

// What the focus is on, by what it does: the same before and after it is drawn anew.
function keyOf(node) {
  const owner = node.closest("[data-checkpoint], li, .choice");
  return [node.tagName, owner?.dataset.checkpoint || owner?.querySelector("strong")?.textContent || "", node.dataset.do || node.textContent].join("|");
}

// Takes the focus back to what it is on now, should that be drawn anew meanwhile.
export function rememberFocus(place) {
  const before = document.activeElement;
  if (!before || before === place || !place.contains(before)) return () => {};
  const key = keyOf(before);
  return () => {
    if (document.activeElement !== document.body) return;
    [...place.querySelectorAll(before.tagName)].find((node) => keyOf(node) === key)?.focus({ preventScroll: true });
  };
}

// Draw a part of the page anew; whoever works by keyboard stays where they are.
export function keepFocus(place, draw) {
  const restore = rememberFocus(place);
  draw();
  restore();
}
